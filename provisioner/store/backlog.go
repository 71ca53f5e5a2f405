package store

// Backlog counts the markers of what is pending, and what is in the trash.
func (s *Store) Backlog() (pending, trash int) {
	for folder, n := range map[string]*int{"pending": &pending, "trash": &trash} {
		names, err := s.names(folder)
		if err == nil { // what cannot be read is found by the next Sweep
			*n = len(names)
		}
	}
	return pending, trash
}
