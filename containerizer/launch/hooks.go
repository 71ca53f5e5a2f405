package launch

// Hooks in the launch information change the program at the two points at which
// it waits for them; who runs them is the launcher. Without hooks it is the same
// program as ever.

// hasCreateHooks is whether hooks run between the container's mounts and its root:
// the file tree of the host is still there, and that of the container is mounted on
// PivotDir. Isolators that need the barrier are waited for there, too.
func (k *compiler) hasCreateHooks() bool {
	h := k.c.Info.Hooks
	return h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 //nolint:staticcheck // deprecated, and in use
}

// hasStartHooks is whether hooks run inside the container before its process.
func (k *compiler) hasStartHooks() bool {
	h := k.c.Info.Hooks
	return h != nil && len(h.StartContainer) > 0
}
