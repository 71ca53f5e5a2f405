package kubelet_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// TestKubelet is the life of a node. What pods do comes first, many at once; then what
// happens to a node.
func TestKubelet(t *testing.T) {
	n := newNode(t)
	t.Run("pods", func(t *testing.T) {
		for name, test := range map[string]func(*node){
			"a pod runs": podRuns, "restart policies": podRestarts, "what cannot run": podCannotRun,
			"liveness": podLiveness, "readiness": podReadiness, "startup": podStartup,
			"init containers": podInit, "sidecars": podSidecars,
			"logs": podLogs, "log rotation": podLogRotation, "exec": podExec, "attach": podAttach, "port forwarding": podForward,
			"volumes": podVolumes, "image volume": podImageVolume, "limits": podLimits, "out of memory": podOOM,
			"graceful end": podEnds, "host network": podHost, "host port": podPort, "shared processes": podProcesses,
			"security": podSecurity, "figures": podFigures,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(n.in(t))
			})
		}
	})
	for _, event := range []struct {
		name string
		test func(*node)
	}{{"an image is not used any more", imageUnused}, {"the kubelet restarts", kubeletRestarts}, {"berthd is killed under load", berthdDies}, {"images are removed", imagesGo}} {
		t.Run(event.name, func(t *testing.T) { event.test(n.in(t)) })
	}
	t.Run("nothing is left", func(t *testing.T) {
		eventually(t, func() string { return strings.Join(n.in(t).left(), "\n") })
	})
}

// podRuns: the kubelet reports what is true, and the pod sees what the kubelet promises.
func podRuns(n *node) {
	n.manifest("runs", `
	containers:
`+script("main", "hostname; cat /etc/resolv.conf; echo $POD $GREETING; sleep 10000", `env: [{name: GREETING, value: hello}, {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]`))
	p := n.ready("runs")
	n.want("phase", p.Status.Phase, "Running")
	if net.ParseIP(p.Status.PodIP) == nil {
		n.Errorf("the pod's address is %q", p.Status.PodIP)
	}
	c := p.container("main")
	n.want("image", c.Image, image)
	if !strings.HasPrefix(c.ContainerID, "berth://") || !strings.Contains(c.ImageID, "sha256:") || c.RestartCount != 0 {
		n.Errorf("the container is %+v", c)
	}
	eventually(n.T, func() string {
		got := n.logs("runs", "main", "")
		return unless(got == "runs-node\nnameserver 192.0.2.53\nruns-node hello\n", fmt.Sprintf("the log is %q", got))
	})
	if hosts := n.sh("runs", "main", "cat /etc/hosts"); !strings.Contains(hosts, p.Status.PodIP+"\truns-node") {
		n.Errorf("/etc/hosts is %q", hosts)
	}
}

// podRestarts: who ends is started again, as the policy says.
func podRestarts(n *node) {
	n.manifest("always", `
	containers:
`+script("main", "echo again; exit 0"))
	n.manifest("on-failure", `
	restartPolicy: OnFailure
	volumes: [{name: v, emptyDir: {}}]
	containers:
`+script("main", "test -e /v/second && exit 0; touch /v/second; exit 3", "volumeMounts: [{name: v, mountPath: /v}]"))
	n.manifest("never", `
	restartPolicy: Never
	containers:
`+script("main", "echo sorry >/dev/termination-log; exit 7")+script("other", "true"))
	p := n.await("always", func(p *pod) string { return unless(p.container("main").RestartCount >= 2, "it is not restarted") })
	n.want("phase of what is always restarted", p.Status.Phase, "Running")
	p = n.await("on-failure", func(p *pod) string { return unless(p.Status.Phase == "Succeeded", "it has not succeeded") })
	if c := p.container("main"); c.RestartCount != 1 || c.State.String() != "terminated: 0 Completed: " {
		n.Errorf("what failed once is %s", p)
	}
	p = n.await("never", func(p *pod) string { return unless(p.Status.Phase == "Failed", "it has not failed") })
	n.want("what failed", p.container("main").State.String(), "terminated: 7 Error: sorry\n")
	n.want("what did not", p.container("other").State.String(), "terminated: 0 Completed: ")
}

// podCannotRun: the reasons are those that people look for.
func podCannotRun(n *node) {
	n.manifest("no-image", `
	containers: [{name: main, image: "`+upstream+`/berth/missing:1"}]
`)
	n.manifest("no-command", `
	restartPolicy: Never
	containers: [{name: main, image: IMAGE, command: [/nonexistent]}]
`)
	n.manifest("root", `
	securityContext: {runAsNonRoot: true}
	containers: [{name: main, image: IMAGE, command: [sleep, "1000"]}]
`)
	waits := func(name, reason, text string) {
		n.Helper()
		n.await(name, func(p *pod) string {
			w := p.container("main").State.Waiting
			return unless(w != nil && strings.Contains(w.Reason+" "+w.Message, reason) && strings.Contains(w.Message, text), "it does not wait for "+reason+" "+text)
		})
	}
	waits("no-image", "ErrImagePull", "/berth/missing:1")
	waits("root", "CreateContainerConfigError", "run as root")
	n.await("no-command", func(p *pod) string {
		t := p.container("main").State.Terminated
		return unless(t != nil && t.Reason == "StartError" && t.ExitCode == 128 && strings.Contains(t.Message, "/nonexistent"), "it has not ended by a StartError")
	})
}

// podInit: one after the other, before the containers; what fails is tried again.
func podInit(n *node) {
	n.manifest("init", `
	volumes: [{name: v, emptyDir: {}}]
	initContainers:
`+script("first", "echo first >>/v/order; test -e /v/tried && exit 0; touch /v/tried; exit 1", "volumeMounts: [{name: v, mountPath: /v}]")+
		script("second", "echo second >>/v/order", "volumeMounts: [{name: v, mountPath: /v}]")+`
	containers:
`+script("main", "cat /v/order; sleep 10000", "volumeMounts: [{name: v, mountPath: /v}]"))
	p := n.ready("init")
	n.want("order", n.logs("init", "main", ""), "first\nfirst\nsecond\n")
	n.want("the first", p.container("first").State.String(), "terminated: 0 Completed: ")
	if restarts := p.container("first").RestartCount; restarts != 1 {
		n.Errorf("the first init container was restarted %d times", restarts)
	}
}

// podSidecars: they start before the containers, are restarted, and end after them.
func podSidecars(n *node) {
	n.manifest("sidecar", `
	restartPolicy: Never
	terminationGracePeriodSeconds: 20
	volumes: [{name: v, hostPath: {path: DIR/sidecar, type: DirectoryOrCreate}}]
	initContainers:
`+script("side", "trap 'echo side ends >>/v/order; exit 0' TERM; echo side >>/v/order; touch /v/up; while :; do sleep 0.2; test -e /v/crash && rm /v/crash && exit 1; done",
		"restartPolicy: Always", "volumeMounts: [{name: v, mountPath: /v}]", `startupProbe: {exec: {command: [test, -e, /v/up]}, periodSeconds: 1}`)+`
	containers:
`+script("main", "test -e /v/up && echo main >>/v/order; while ! test -e /v/end; do sleep 0.2; done; echo main ends >>/v/order", "volumeMounts: [{name: v, mountPath: /v}]"))
	n.ready("sidecar")
	n.sh("sidecar", "main", "touch /v/crash")
	n.await("sidecar", func(p *pod) string {
		return unless(p.container("side").RestartCount == 1 && p.ready(), "the sidecar is not restarted")
	})
	n.sh("sidecar", "main", "touch /v/end")
	n.await("sidecar", func(p *pod) string { return unless(p.Status.Phase == "Succeeded", "it has not succeeded") })
	n.want("order", n.readFile("sidecar/order"), "side\nmain\nside\nmain ends\nside ends\n")
}

// podEnds: the hook first, then the signal; who does not heed it is killed.
func podEnds(n *node) {
	n.manifest("ends", `
	terminationGracePeriodSeconds: 30
	volumes: [{name: v, hostPath: {path: DIR/ends, type: DirectoryOrCreate}}]
	containers:
`+script("main", "trap 'echo term >>/v/order; exit 0' TERM; echo up >>/v/order; while :; do sleep 0.1; done", "volumeMounts: [{name: v, mountPath: /v}]",
		`lifecycle: {preStop: {exec: {command: [sh, -c, "sleep 1; echo hook >>/v/order"]}}, postStart: {exec: {command: [sh, -c, "while ! test -e /v/order; do sleep 0.1; done; echo started >>/v/order"]}}}`))
	n.manifest("stubborn", `
	terminationGracePeriodSeconds: 2
	volumes: [{name: v, hostPath: {path: DIR/stubborn, type: DirectoryOrCreate}}]
	containers:
`+script("main", "trap 'echo no >>/v/order' TERM; echo up >>/v/order; while :; do sleep 0.1; done", "volumeMounts: [{name: v, mountPath: /v}]"))
	n.ready("ends")
	n.ready("stubborn")
	n.remove("ends")
	n.remove("stubborn")
	eventually(n.T, func() string {
		left := strings.Join(n.left(), "\n")
		return unless(!strings.Contains(left, "pod sandbox ends-node") && !strings.Contains(left, "pod sandbox stubborn-node"), left)
	})
	n.want("order", n.readFile("ends/order"), "up\nstarted\nhook\nterm\n")
	n.want("order of the stubborn", n.readFile("stubborn/order"), "up\nno\n")
}
