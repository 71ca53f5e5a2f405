// Package containerizer is the vocabulary and the contracts of berth: what a
// container is, what can be asked of it, and what each part owes the others.
//
// One model serves every scheduler: a tree of containers. A root container is a
// pod sandbox, a Mesos executor or a `berth run`; a child is a container of a
// pod, a nested Mesos container or an exec session. Launch and destroy mean the
// same for all of them, and destroying a parent destroys its children first.
//
// The package holds no behaviour beyond validation and merging, and imports
// nothing of berth. Who implements what:
//
//   - [Engine]: containerizer/engine, in process (and later a gRPC client)
//   - [Launcher]: containerizer/launcher, native, over berth-monitor
//   - [Isolator]: isolators/*, one folder a family
//   - [Provisioner]: provisioner, image to root filesystem
//
// Main invariant: everything acquired for a container is in its [Ledger] before
// it is acquired, so that whoever starts next can release it.
package containerizer
