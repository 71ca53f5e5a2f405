package apparmor

// ProfileText is what the parser is given where there are no files to include.
func ProfileText(name, own string) string { return profileText(name, own, noFiles()) }
