package apparmor

// ProfileText is what the parser is given.
func ProfileText(name, own string, withFiles bool) string { return profileText(name, own, withFiles) }
