package kubelet_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podVolumes: volumes that the kubelet makes, mounts and links.
func podVolumes(n *node) {
	n.write("shared/sub/file", "from the node\n")
	n.manifest("volumes", `
	securityContext: {fsGroup: 1234}
	volumes:
	- {name: empty, emptyDir: {}}
	- {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
	- {name: host, hostPath: {path: DIR/shared}}
	- {name: about, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
	containers:
`+script("main", "sleep 10000", "volumeMounts:", "- {name: empty, mountPath: /empty}", "- {name: memory, mountPath: /memory}", "- {name: host, mountPath: /host}",
		"- {name: host, mountPath: /sub, subPath: sub}", "- {name: host, mountPath: /file, subPath: sub/file, readOnly: true}", "- {name: about, mountPath: /about}")+
		script("other", "sleep 10000", "volumeMounts: [{name: empty, mountPath: /empty}, {name: host, mountPath: /host, readOnly: true}]"))
	n.ready("volumes")
	n.sh("volumes", "main", "echo hello >/empty/file; echo hello >/host/new")
	n.want("a volume that is shared", n.sh("volumes", "other", "cat /empty/file"), "hello\n")
	n.want("a file on the node", n.readFile("shared/new"), "hello\n")
	n.want("group of a volume", n.sh("volumes", "main", "stat -c %g /empty; id -G | tr ' ' '\\n' | grep 1234"), "1234\n1234\n")
	n.want("a memory volume", n.sh("volumes", "main", "grep ' /memory ' /proc/mounts | cut -d' ' -f3; df -k /memory | tail -1 | tr -s ' ' | cut -d' ' -f2; cat /file; ls /sub"), "tmpfs\n1024\nfrom the node\nfile\n")
	n.want("about the pod", n.sh("volumes", "main", "cat /about/labels"), `app="volumes"`)
	for container, command := range map[string]string{"main": "echo x >/file", "other": "echo x >/host/no"} {
		if out, err := n.exec("volumes", container, "", "sh", "-c", command); err != nil || out.exitCode() == 0 || !strings.Contains(out.stderr, "Read-only") {
			n.Errorf("%s: %+v, %v", command, out, err)
		}
	}
	n.remove("volumes")
	eventually(n.T, func() string {
		for _, line := range append(n.left(), n.leftMounts()...) {
			if strings.Contains(line, "empty-dir/memory") || strings.Contains(line, "volumes-node") || strings.Contains(line, "volume-subpaths") {
				return line
			}
		}
		return ""
	})
	n.want("a file of the node afterwards", n.readFile("shared/sub/file"), "from the node\n")
}

// podImageVolume: the content of an image as a volume.
func podImageVolume(n *node) {
	n.manifest("image-volume", `
	volumes: [{name: v, image: {reference: IMAGE}}]
	containers:
`+script("main", "ls -l /v/bin/sh >/dev/null && echo there; touch /v/new || echo read-only; sleep 10000", "volumeMounts: [{name: v, mountPath: /v}]"))
	n.ready("image-volume")
	eventually(n.T, func() string {
		got := n.logs("image-volume", "main", "")
		return unless(strings.HasPrefix(got, "there\n") && strings.HasSuffix(got, "read-only\n"), got)
	})
}

// group reads a file of a container's control group, in the hierarchy of a controller.
func (n *node) group(controller, id, file string) string {
	n.Helper()
	_, id, _ = strings.Cut(id, "://")
	root := filepath.Join("/sys/fs/cgroup", controller, n.parent, "kubepods")
	var found string
	for _, pattern := range []string{"pod*", "*/pod*"} {
		paths, _ := filepath.Glob(filepath.Join(root, pattern, "*"+id+"*", file)) // the pattern is ours
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if err != nil {
				n.Fatal(err)
			}
			found = strings.TrimSpace(string(b))
		}
	}
	if found == "" {
		n.Errorf("container %s has no %s below %s", id, file, root)
	}
	return found
}

// podLimits: what the manifest says is what the kernel has, in the pod's group.
func podLimits(n *node) {
	n.manifest("limits", `
	containers:
`+script("main", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes; sleep 10000", "resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 250m, memory: 64Mi}}")+
		script("free", "sleep 10000"))
	id := n.ready("limits").container("main").ContainerID
	n.want("memory", n.group("memory", id, "memory.limit_in_bytes"), "67108864")
	n.want("quota", n.group("cpu", id, "cpu.cfs_quota_us"), "25000")
	n.want("shares", n.group("cpu", id, "cpu.shares"), "102")
	n.want("memory as the container sees it", n.logs("limits", "main", ""), "67108864\n")
	n.want("OOM score of what has no request", n.sh("limits", "free", "cat /proc/1/oom_score_adj"), "999\n")
	r, err := n.cri.ContainerStatus(n.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: strings.TrimPrefix(id, "berth://")})
	if l := r.GetStatus().GetResources().GetLinux(); err != nil || l.GetMemoryLimitInBytes() != 64<<20 || l.GetCpuQuota() != 25000 {
		n.Errorf("the status has %v, %v", l, err)
	}
}

// podOOM: who takes too much is killed, and the reason says so.
func podOOM(n *node) {
	n.manifest("oom", `
	restartPolicy: Never
	containers:
`+script("main", "exec tail /dev/zero", "resources: {limits: {memory: 32Mi}}")+script("child", "tail /dev/zero; echo it ended; exit 9", "resources: {limits: {memory: 32Mi}}"))
	p := n.await("oom", func(p *pod) string { return unless(p.Status.Phase == "Failed", "it has not ended") })
	if got := p.container("main").State.String(); !strings.HasPrefix(got, "terminated: 137 OOMKilled: ") || !strings.Contains(got, "the limit is 33554432 bytes") {
		n.Errorf("how it ended: %s", got)
	}
	// Version 1 of control groups kills the process only, and the container ends by itself.
	if t := p.container("child").State.Terminated; t == nil || t.ExitCode != 9 && t.Reason != "OOMKilled" {
		n.Errorf("the container whose child was killed is %s", p.container("child").State)
	}
}

// podHost: a pod in the node's namespaces.
func podHost(n *node) {
	n.manifest("host", `
	hostNetwork: true
	hostPID: true
	containers:
`+script("main", "ip -o address show dev node | grep -o 192.0.2.1/24; ls /proc/self/ns >/dev/null; cat /proc/`cat /dir/pid`/comm; sleep 10000", "volumeMounts: [{name: dir, mountPath: /dir}]")+`
	volumes: [{name: dir, hostPath: {path: DIR/host}}]
`)
	n.write("host/pid", fmt.Sprint(n.berthd.cmd.Process.Pid))
	n.ready("host")
	eventually(n.T, func() string {
		got := n.logs("host", "main", "")
		return unless(got == nodeAddress+"/24\nberthd\n", fmt.Sprintf("its log is %q", got))
	})
}

// page fetches a page over HTTP.
func page(ctx context.Context, url string) string {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err.Error()
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}).Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// podPort: a port of the pod on the node.
func podPort(n *node) {
	n.manifest("port", `
	containers:
`+script("main", "mkdir /tmp/www; echo hello >/tmp/www/page; exec httpd -f -p 8080 -h /tmp/www", "ports: [{containerPort: 8080, hostPort: 18080}]"))
	p := n.ready("port")
	for _, host := range []string{p.Status.PodIP + ":8080", nodeAddress + ":18080", "127.0.0.1:18080"} {
		eventually(n.T, func() string {
			got := page(n.Context(), "http://"+host+"/page")
			return unless(got == "hello\n", host+" answers "+got)
		})
	}
}

// podProcesses: containers that share a pid namespace see each other, and their init.
func podProcesses(n *node) {
	n.manifest("processes", `
	shareProcessNamespace: true
	containers:
`+script("main", "exec sleep 10001")+script("other", "exec sleep 10002"))
	n.ready("processes")
	got := n.sh("processes", "other", "ps -o args | grep '^sleep 1000[12]' | sort; tr '\\0' ' ' </proc/1/cmdline")
	n.want("processes", got, "sleep 10001\nsleep 10002\nberth-init ")
}

// podSecurity: the security context, as a container finds it.
func podSecurity(n *node) {
	n.manifest("security", `
	securityContext: {runAsUser: 1000, runAsGroup: 3000, supplementalGroups: [4000], seccompProfile: {type: RuntimeDefault}}
	containers:
`+script("main", "id -u; id -g; id -G; grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/self/status | tr '\\t' ' '; touch /file 2>/dev/null || echo read-only; sleep 10000",
		"securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}")+
		script("privileged", "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | tr '\\t' ' '; mount -t tmpfs none /tmp && echo mounted; sleep 10000",
			"securityContext: {privileged: true, runAsUser: 0}"))
	n.ready("security")
	for container, want := range map[string]string{
		"main":       "1000\n3000\n3000 4000\nCapEff: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\nread-only\n",
		"privileged": "NoNewPrivs: 0\nSeccomp: 0\nmounted\n",
	} {
		eventually(n.T, func() string {
			got := n.logs("security", container, "")
			return unless(got == want, fmt.Sprintf("the log of %s is %q, want %q", container, got, want))
		})
	}
}
