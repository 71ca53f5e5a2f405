// Package cri serves the Kubernetes Container Runtime Interface, runtime.v1, over the
// contracts of containerizer: a pod sandbox is a root container, its containers are
// children. The adapter translates; it holds no lifecycle of its own.
//
// Ids. A pod sandbox's CRI id is its container id; a container's is the last element
// of its id. Both are 64 hexadecimal digits, and may be given by an unambiguous prefix.
//
// Records. There are none but the engine's. What a kubelet wants to see again, such as
// labels and metadata byte for byte, travels in Spec.Origin (see record), so a
// restarted daemon knows everything.
//
// Retries. RunPodSandbox and CreateContainer have a key: the pod's namespace, name, uid
// and attempt, or the pod sandbox and the container's name and attempt. A second call with the key
// joins the operation of the first one, however long ago that was; a name is never
// "reserved" without an operation or a container behind it.
//
// Reads come from the engine's snapshot and wait for nothing. The exceptions are
// documented at their methods.
//
// Sources: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto, v0.37.
//
// Main invariant: whatever a call acquires belongs to the engine, and goes with the
// container.
package cri
