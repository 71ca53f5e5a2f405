package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ociRuntime is an OCI runtime of this machine. crun before version 1.9 refuses nodes with
// controllers in both versions of control groups, and is not shown those of version 2.
func ociRuntime(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name) // as root's PATH may be a user's
		_, err = os.Stat(path)
	}
	need(t, err == nil, "%s is not installed: %v", name, err)
	if _, err := os.Stat("/sys/fs/cgroup/unified/cgroup.controllers"); name != "crun" || err != nil {
		return path
	}
	return script(t, fmt.Sprintf("exec unshare -m sh -c 'umount /sys/fs/cgroup/unified; exec %s \"$@\"' crun \"$@\"\n", path))
}

// script makes an executable file.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runtime")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// useRuntimes adds OCI runtimes to the configuration, by name and path.
func (n *node) useRuntimes(runtimes map[string]string) {
	n.t.Helper()
	f, err := os.OpenFile(n.configPath(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	for name, path := range runtimes {
		_, werr := fmt.Fprintf(f, "[runtimes.%s]\npath = %q\n", name, path)
		err = errors.Join(err, werr)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		// Runtimes make the parents of groups in hierarchies that berth has nothing in, too.
		for _, hierarchy := range []string{"systemd", "unified"} {
			for _, dir := range []string{n.parent + "/kubepods", n.parent} {
				_ = os.Remove(filepath.Join("/sys/fs/cgroup", hierarchy, dir)) // where there is one
			}
		}
	})
	n.restart()
}

// TestRuntimes: the life of a container that an OCI runtime makes.
func TestRuntimes(t *testing.T) {
	t.Parallel()
	for _, runtime := range []string{"crun", "runc"} {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			n.useRuntimes(map[string]string{runtime: ociRuntime(t, runtime)})
			by := func(flags ...string) []string { return append([]string{"--runtime", runtime}, flags...) }
			r := n.berth(n.run(by("--rm", "-u", "5:6", "-e", "A=b", "-m", "64m", "-v", "data:/data"), "sh", "-c", "id -u; echo $A; cat /proc/1/comm; ip -o addr | grep -c eth0; touch /x; exit 3")...)
			if r.code != 3 || !strings.HasPrefix(r.stdout, "5\nb\nsh\n") || strings.Contains(r.stdout, "\n0\n") || !strings.Contains(r.stderr, "/x: Permission denied") {
				t.Errorf("run: exit %d, %q, %q", r.code, r.stdout, r.stderr)
			}
			n.must("volume", "rm", "data")

			id := n.must(n.run(by("-d", "--name", "lives"), "sh", "-c", `trap "echo term; exit 5" TERM; echo up; while :; do sleep 0.1; done`)...)
			eventually(t, func() string { return unless(n.must("logs", id) == "up", "it has not begun") })
			if got := n.inspect(id, "{{.HostConfig.Runtime}}"); got != runtime {
				t.Errorf("inspect says that its runtime is %q", got)
			}
			r = n.with("typed\n", "exec", "-i", "-w", "/tmp", "lives", "sh", "-c", "cat; pwd; exit 4")
			if r.code != 4 || r.stdout != "typed\n/tmp\n" {
				t.Errorf("exec: exit %d, %q, %q", r.code, r.stdout, r.stderr)
			}
			for range 5 { // that ends before the runtime does
				n.must("exec", "lives", "true")
			}
			if r := n.berth("exec", "lives", "nowhere-to-be-found"); r.code != 127 {
				t.Errorf("exec of a command that is missing: exit %d, %s", r.code, r.stderr)
			}
			n.must("pause", "lives")
			n.must("unpause", "lives")
			n.must("stop", "-t", "20", "lives")
			if got := n.inspect(id, "{{.State.Status}} {{.State.ExitCode}}"); got != "exited 5" {
				t.Errorf("after stop it is %q", got)
			}
			if got := n.must("logs", id); got != "up\nterm" {
				t.Errorf("its log is %q", got)
			}
			n.must("start", "lives")
			n.must("kill", "lives")
			n.must("wait", "lives")
			n.must("rm", "lives")

			if r := n.berth(n.run(by("--rm"), "nowhere-to-be-found")...); r.code != 127 {
				t.Errorf("a command that is missing: exit %d, %s", r.code, r.stderr)
			}
			if r := n.berth(n.run(by("--rm", "--init"), "true")...); r.code != 125 || !strings.Contains(r.stderr, "mini-init") {
				t.Errorf("the mini-init: exit %d, %s", r.code, r.stderr)
			}
			if r := n.berth(n.run([]string{"--rm", "--runtime", "unknown"}, "true")...); r.code != 125 || !strings.Contains(r.stderr, "[runtimes.unknown]") {
				t.Errorf("an unknown runtime: exit %d, %s", r.code, r.stderr)
			}
			if got := n.must(n.run(by("--rm", "--dry-run"), "true")...); !strings.Contains(got, `"ociVersion"`) {
				t.Errorf("a dry run prints %q", got)
			}
		})
	}
}

// TestRuntimeTerminal: a terminal comes over the console socket.
func TestRuntimeTerminal(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.useRuntimes(map[string]string{"crun": ociRuntime(t, "crun")})
	controller, tty := terminal(t)
	defer controller.Close() //nolint:errcheck // of the test
	cmd := n.command(t.Context(), n.run([]string{"--rm", "-it", "--runtime", "crun"}, "sh", "-c", "tty; read line; echo got $line; exit 6")...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	seen := transcribe(controller)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen.await(t, "/dev/pts/0")
	if _, err := controller.WriteString("hello\r"); err != nil {
		t.Fatal(err)
	}
	seen.await(t, "got hello")
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 6 {
		t.Errorf("it ended with %v", err)
	}
}

// TestDaemonCRIHandlers: a pod of a RuntimeClass, with crun.
func TestDaemonCRIHandlers(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.useRuntimes(map[string]string{"crun": ociRuntime(t, "crun"), "runc": ociRuntime(t, "runc")})
	k := n.kubelet()
	r, err := k.Status(t.Context(), &runtimeapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	features := map[string]*runtimeapi.RuntimeHandlerFeatures{}
	for _, h := range r.GetRuntimeHandlers() {
		features[h.GetName()] = h.GetFeatures()
	}
	if len(features) != 4 || !features[""].GetUserNamespaces() || features["crun"] == nil || features["crun"].GetUserNamespaces() || !features["runc"].GetRecursiveReadOnlyMounts() {
		t.Errorf("handlers are %v", features)
	}
	if _, err := k.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: k.pod("unknown"), RuntimeHandler: "kata"}); status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), `"crun"`) {
		t.Errorf("an unknown handler: %v", err)
	}
	for name, mode := range map[string]runtimeapi.NamespaceMode{"own": runtimeapi.NamespaceMode_CONTAINER, "shared": runtimeapi.NamespaceMode_POD} {
		k.leadHandlerLife(name, mode)
	}
}

// leadHandlerLife is the life of a pod whose containers crun makes.
func (k *kubelet) leadHandlerLife(name string, pids runtimeapi.NamespaceMode) {
	t := k.n.t
	t.Helper()
	config := k.pod(name)
	config.Linux.SecurityContext.NamespaceOptions.Pid = pids
	r, err := k.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config, RuntimeHandler: "crun"})
	if err != nil {
		t.Fatal(err)
	}
	pod := r.GetPodSandboxId()
	defer k.removePod(pod)
	ps, err := k.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod})
	if err != nil || ps.GetStatus().GetRuntimeHandler() != "crun" {
		t.Errorf("the pod sandbox is %v, %v", ps, err)
	}
	c := k.container(name, "hostname; cat /etc/resolv.conf; ip -o -4 addr show eth0; exec sleep 1000")
	c.Linux.SecurityContext.NamespaceOptions.Pid = pids
	id := k.start(pod, c)
	eventually(t, func() string {
		b, _ := os.ReadFile(filepath.Join(k.logs, name+".log"))
		for _, want := range []string{" stdout F " + name + "\n", "nameserver 10.1.2.3", ps.GetStatus().GetNetwork().GetIp() + "/"} {
			if !strings.Contains(string(b), want) {
				return fmt.Sprintf("the log lacks %q: %q", want, b)
			}
		}
		return ""
	})
	if out, err := k.exec(id, 20, "sh", "-c", "echo out; cat /proc/1/comm; grep Seccomp: /proc/self/status; exit 3"); err != nil || out.GetExitCode() != 3 ||
		!strings.HasPrefix(string(out.GetStdout()), "out\n") || !strings.HasSuffix(string(out.GetStdout()), "Seccomp:\t2\n") {
		t.Errorf("ExecSync: %v, %v", out, err)
	}
	if _, err := k.exec(id, 1, "sh", "-c", "sleep 4321 & sleep 4321"); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("ExecSync beyond its time: %v", err)
	}
	if out, err := k.exec(id, 20, "sh", "-c", "ps | grep '[4]321'"); err != nil || out.GetExitCode() != 1 {
		t.Errorf("what a command had started lives on: %v, %v", out, err)
	}
	if _, err := k.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 1}); err != nil {
		t.Error(err)
	}
	if s := k.status(id); s.GetState() != runtimeapi.ContainerState_CONTAINER_EXITED || s.GetExitCode() < 128 {
		t.Errorf("a stopped container is %v", s)
	}
	if _, err := k.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Error(err)
	}
	c.Mounts = []*runtimeapi.Mount{{HostPath: k.logs, ContainerPath: "/mnt", Readonly: true, RecursiveReadOnly: true}}
	if _, err := k.create(pod, c); err == nil || !strings.Contains(err.Error(), "RROUnsupported") {
		t.Errorf("a mount that is recursively read-only: %v", err)
	}
}

// faulty makes an OCI runtime that kills the daemon, or dies itself, once where it is
// told.
func (n *node) faulty(real string) (path string, at func(when, command string)) {
	n.t.Helper()
	dir := n.t.TempDir()
	path = script(n.t, fmt.Sprintf(`dir=%s
for a; do case $a in create|start|kill|delete|exec) command=$a; break;; esac; done
told() { rm "$dir/$1-$command" 2>/dev/null; }
told before && kill -9 $(cat $dir/pid)
if told during; then
	%[2]s "$@" & sleep 0.0$(date +%%N | cut -c1-1); kill -9 $!; wait $!; exit 137
fi
%[2]s "$@"
code=$?
told after && kill -9 $(cat $dir/pid)
exit $code
`, dir, real))
	return path, func(when, command string) {
		n.t.Helper()
		pid := filepath.Join(dir, "pid")
		err := os.WriteFile(pid, fmt.Append(nil, n.daemon.cmd.Process.Pid), 0o600)
		if when != "" {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, when+"-"+command), nil, 0o600))
		}
		if err != nil {
			n.t.Fatal(err)
		}
	}
}

// TestDaemonRuntimeFaults kills the daemon, or the runtime, around every command of the
// runtime: a kubelet's retry goes on, and nothing is left.
func TestDaemonRuntimeFaults(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	path, at := n.faulty(ociRuntime(t, "crun"))
	n.useRuntimes(map[string]string{"faulty": path})
	k := n.kubelet()
	r, err := k.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: k.pod("faults"), RuntimeHandler: "faulty"})
	if err != nil {
		t.Fatal(err)
	}
	pod := r.GetPodSandboxId()
	// again calls until it is done, and starts the daemon when it is gone.
	again := func(what string, call func() error) {
		t.Helper()
		eventually(t, func() string {
			err := call()
			select {
			case <-n.daemon.done:
				n.daemon.killed = true
				n.serve()
			default:
			}
			if err != nil {
				return what + ": " + err.Error()
			}
			return ""
		})
	}
	for _, command := range []string{"create", "start", "exec", "kill", "delete"} {
		for _, when := range []string{"before", "during", "after"} {
			name := when + "-" + command
			at(when, command)
			id := ""
			config := k.container(name, "trap 'exit 0' TERM; while :; do sleep 0.1; done")
			again("create "+name, func() (err error) { id, err = k.create(pod, config); return err })
			started := func() error {
				_, err := k.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id})
				if status.Code(err) == codes.FailedPrecondition { // a start that was cut off has ended it
					return nil
				}
				return err
			}
			if command == "start" {
				_ = started()
			}
			again("start "+name, started)
			if command == "exec" {
				again("exec "+name, func() error { _, err := k.exec(id, 20, "true"); return err })
			}
			again("stop "+name, func() error {
				_, err := k.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 10})
				return err
			})
			again("remove "+name, func() error {
				_, err := k.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id})
				return err
			})
			again("status "+name, func() error {
				_, err := k.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
				if status.Code(err) == codes.NotFound {
					return nil
				}
				return fmt.Errorf("it is still there: %w", err)
			})
		}
	}
	k.removePod(pod)
	n.daemon.end(syscall.SIGTERM)
}
