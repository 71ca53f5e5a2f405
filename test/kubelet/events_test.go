package kubelet_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// probed is a pod that is looked at every second.
const probed = `livenessProbe: {exec: {command: [test, -e, /bin/sh]}, periodSeconds: 1, timeoutSeconds: 20, failureThreshold: 3}`

// same fails if the containers of a pod are others than they were.
func (n *node) same(name string, before *pod) {
	n.Helper()
	n.await(name, func(p *pod) string {
		if !p.ready() {
			return "it is not ready"
		}
		for _, was := range before.Status.ContainerStatuses {
			if is := p.container(was.Name); is.ContainerID != was.ContainerID || is.RestartCount != was.RestartCount {
				n.Fatalf("before:\n%s\n%s\nafter:\n%s\n%s", before, was.ContainerID, p, is.ContainerID)
			}
		}
		return ""
	})
}

// kubeletRestarts: pods do not notice, and what changed meanwhile is made good.
func kubeletRestarts(n *node) {
	n.manifest("stays", "\tcontainers:\n"+script("main", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done", probed)+script("other", "sleep 10000"))
	n.manifest("goes", "\tcontainers:\n"+script("main", "exec sleep 10000"))
	before := n.ready("stays")
	n.ready("goes")
	n.kubelet.end(syscall.SIGKILL)
	n.remove("goes")
	n.manifest("comes", "\tcontainers:\n"+script("main", "exec sleep 10000"))
	n.startKubelet()
	n.same("stays", before)
	n.ready("comes")
	eventually(n.T, func() string {
		left := strings.Join(n.left(), "\n")
		return unless(!strings.Contains(left, "pod sandbox goes-node"), left)
	})
	lines := strings.Split(strings.TrimSpace(n.logs("stays", "main", "")), "\n")
	for i, line := range lines[1:] {
		var a, b int
		if _, err := fmt.Sscan(lines[i]+" "+line, &a, &b); err != nil || b != a+1 {
			n.Fatalf("the log goes on with %q after %q", line, lines[i])
		}
	}
}

// berthdDies: it is killed while pods are made, probed and removed.
func berthdDies(n *node) {
	before := map[string]*pod{}
	for i := range 3 {
		name := fmt.Sprintf("steady-%d", i)
		n.manifest(name, "\tcontainers:\n"+script("main", "exec sleep 10000", probed)+script("other", "exec sleep 10000", probed))
		before[name] = nil
	}
	for name := range before {
		before[name] = n.ready(name)
	}
	var wave []string
	for i := range 8 {
		wave = append(wave, fmt.Sprintf("wave-%d", i))
	}
	for round := range 2 {
		for _, name := range wave {
			n.manifest(name, "\tterminationGracePeriodSeconds: 1\n\tinitContainers:\n"+script("init", "true")+"\tcontainers:\n"+script("main", "exec sleep 10000", probed))
		}
		for _, enough := range []int{1, 3, 6} {
			n.some(wave, enough)
			n.killBerthd()
		}
		for _, name := range wave {
			n.ready(name)
		}
		for i, name := range wave {
			n.remove(name)
			if i%4 == 3 {
				n.killBerthd()
			}
		}
		eventually(n.T, func() string {
			left := strings.Join(n.left(), "\n")
			return unless(!strings.Contains(left, "wave-"), fmt.Sprintf("round %d: %s", round, left))
		})
	}
	for name, was := range before {
		n.same(name, was)
		eventually(n.T, func() string { // the last daemon may not serve yet
			out, err := n.exec(name, "main", "", "echo", "there")
			return unless(err == nil && out.stdout == "there\n", fmt.Sprintf("exec in %s: %+v, %v", name, out, err))
		})
	}
}

// some waits until as many of the pods run.
func (n *node) some(names []string, enough int) {
	n.Helper()
	eventually(n.T, func() string {
		pods, err := n.pods()
		if err != nil {
			return err.Error()
		}
		running := 0
		for _, name := range names {
			if p := pods[name]; p != nil && p.container("main").State.Running != nil {
				running++
			}
		}
		return unless(running >= enough, fmt.Sprintf("%d of %d pods run", running, len(names)))
	})
}

func (n *node) killBerthd() {
	n.Helper()
	n.berthd.end(syscall.SIGKILL)
	n.startBerthd()
}

// imageUnused leaves an image that nobody uses, and makes the next kubelet collect such
// ones, however young. It does when it starts, or, if it does not know the disk yet, five
// minutes later.
func imageUnused(n *node) {
	n.manifest("used", "\tvolumes: [{name: v, image: {reference: "+spare+"}}]\n\tcontainers:\n"+script("main", "cat /v/spare; exec sleep 10000", "volumeMounts: [{name: v, mountPath: /v}]"))
	n.ready("used")
	n.remove("used")
	eventually(n.T, func() string {
		left := strings.Join(n.left(), "\n")
		return unless(!strings.Contains(left, "used-node"), left)
	})
	if got := n.images(); !slices.Contains(got, spare) || !slices.Contains(got, image) {
		n.Fatalf("the images are %q", got)
	}
	maps.Copy(n.settings, map[string]any{"imageGCHighThresholdPercent": 1, "imageGCLowThresholdPercent": 0, "imageMinimumGCAge": "-1s"})
}

// imagesGo: the kubelet's garbage collection removes the image that nobody uses, and no
// other.
func imagesGo(n *node) {
	n.manifest("uses", "\tcontainers:\n"+script("main", "exec sleep 10000"))
	n.ready("uses")
	eventually(n.T, func() string {
		got := n.images()
		return unless(!slices.Contains(got, spare), fmt.Sprintf("the images are %q", got))
	})
	if got := n.images(); !slices.Contains(got, image) {
		n.Errorf("an image that is used was removed: %q", got)
	}
	n.ready("uses")
}

// images are the names of the images of the node.
func (n *node) images() []string {
	n.Helper()
	r, err := n.cri.ListImages(n.Context(), &runtimeapi.ListImagesRequest{})
	if err != nil {
		n.Fatal(err)
	}
	var names []string
	for _, i := range r.GetImages() {
		names = append(names, i.GetRepoTags()...)
	}
	return names
}
