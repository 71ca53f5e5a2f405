// Package cdi gives containers the devices that have names of the Container Device
// Interface: "vendor.com/class=name". What such a device is, a vendor says in a
// specification file on the node: device nodes, mounts, variables of the environment,
// hooks and groups.
//
// The isolator is called cdi. It changes the description before the others prepare
// (mounts, environment, hooks, device rules: checked and made as if a user had asked
// for them), and contributes what a description has no words for (device nodes with
// their numbers, ids of groups). Where it and the description name one path or one
// variable, the device has its way.
//
// Specification files are read anew for each container, by the ecosystem's library. A
// file that is damaged matters to those only who ask for a device that nobody else
// has. Intel RDT and network devices are refused.
//
// Settings: Spec.CDIDevices, Options.SpecDirs. Nothing is acquired.
package cdi
