package provisioner

// Tidy deletes what was given up, but no more than budget files and directories,
// so that it is quick. It tells what waits for a Sweep: images and layers that are
// not known to be on disk yet, and things given up that still take space.
func (p *Provisioner) Tidy(budget int) (pending, trash int) { return p.store.Tidy(budget) }
