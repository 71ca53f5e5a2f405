// Package nri lets plug-ins of the Node Resource Interface change containers and hear of
// them, as containerd and CRI-O do: existing plug-ins work unchanged. The protocol, the
// plug-ins' order by index, the merging of what several of them want, and the time-outs
// of registration and requests are those of github.com/containerd/nri.
//
// It is an isolator, because what plug-ins do is to isolate from outside: it changes the
// description before the others prepare (containerizer.Adjuster), and forbids starts
// (containerizer.Starter). All of what others have made stands when it is last in order,
// so that it can show a pod sandbox with its network. What it tells afterwards, it takes
// from the engine's events, which tell of what other processes do as well.
//
// A container that is nobody's child is shown as a pod of one, with the same id; the
// children of a pod sandbox as the containers of that pod.
//
// What a plug-in asks for and berth cannot do is an error that refuses the container:
// cgroup paths, network devices, resource classes, memory policies. See docs/nri.md.
//
// Only berthd links it. It keeps nothing on disk but a seccomp profile in the container's
// folder: plug-ins are synchronised anew with whatever runs whenever they connect.
package nri
