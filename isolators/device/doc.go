// Package device gives containers device nodes: the six that every container has,
// those that the description names, and all of the host for privileged ones.
//
// The isolator is called linux/devices, as in Mesos. It contributes the nodes and
// the rules; isolators/cgroup, which comes later in the order, enforces the rules.
//
// Settings: Spec.Devices, Spec.Security.Privileged. Spec.CDIDevices are the business of
// isolators/cdi, and refused without it. Nothing is acquired.
package device
