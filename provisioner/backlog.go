package provisioner

// Backlog counts what waits for a Sweep: images and layers that are not known to be
// on disk yet, and things given up that take space.
func (p *Provisioner) Backlog() (pending, trash int) { return p.store.Backlog() }
