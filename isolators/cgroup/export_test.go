package cgroup

// Forgetful is i with no room for open files.
func Forgetful(i *Isolator) *Isolator {
	f := &Isolator{node: i.node, parent: i.parent, owner: i.owner}
	f.statistics.most = -1
	return f
}
