// Package kubelet runs a real kubelet on berthd, on its own with static pods, and looks
// at what pods see, at what the kubelet's API tells, and at what is left afterwards.
//
// `make test-kubelet` builds the kubelet, at the version that build/go.mod pins, and runs
// the tests. They are in a mount and a network namespace of their own: bridges, rules of
// the firewall and mounts go with them. The kubelet is in one more mount namespace, where
// the folders whose names are compiled into it are empty, and the settings of the kernel that it
// would change have the values already. What is left to be shared with the machine are
// control groups, below one of their own.
//
// Images come from a registry on loopback, as a mirror of the one that the pods name.
package kubelet
