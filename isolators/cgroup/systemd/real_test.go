package systemd_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/cgroup"
	"github.com/berth-dev/berth/isolators/cgroup/systemd"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

// realSystemd returns a connection to the systemd of this machine, which must run
// and have cgroup version 2: "make test-vm" has such a machine.
func realSystemd(t *testing.T) *systemd.Manager {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(cgroup.DefaultRoot, &fs); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/run/systemd/private"); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Skip("no systemd with cgroup version 2 runs here")
	}
	m := systemd.New(systemd.Options{})
	t.Cleanup(m.Close)
	return m
}

func realIsolator(t *testing.T) *cgroup.Isolator {
	t.Helper()
	iso, err := cgroup.New(cgroup.Options{
		Driver: cgroup.DriverSystemd, Units: realSystemd(t), Parent: "berthtest.slice", Owner: "real", OrphanAge: time.Nanosecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return iso
}

func limits() *containerizer.Spec {
	return &containerizer.Spec{Resources: containerizer.Resources{Linux: specs.LinuxResources{
		CPU:    &specs.LinuxCPU{Shares: new(uint64(512)), Quota: new(int64(50000)), Period: new(uint64(100000)), Cpus: "0"},
		Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(96 << 20))},
		Pids:   &specs.LinuxPids{Limit: new(int64(50))},
	}}}
}

func TestRealConformance(t *testing.T) {
	realSystemd(t)
	isolatortest.Run(t, isolatortest.Config{
		New: func(t *testing.T) containerizer.Isolator {
			t.Helper()
			return realIsolator(t)
		},
		Spec:      limits,
		ChildSpec: func() *containerizer.Spec { return &containerizer.Spec{} },
		Leftovers: func(t *testing.T, id containerizer.ContainerID) []string {
			t.Helper()
			escaped := strings.ReplaceAll(string(id.Root()), "-", `\\x2d`) // for Glob
			pattern := "berthtest-" + escaped + ".slice"
			if !id.IsRoot() {
				pattern += "/berth-" + escaped + ".scope/" + id.Base()
			}
			found, err := filepath.Glob(cgroup.DefaultRoot + "/berthtest.slice/" + pattern)
			if err != nil {
				t.Fatal(err)
			}
			return found
		},
		Acquires: true,
	})
}

// launch does what the launcher does: clone into the group, then the barrier.
func launch(t *testing.T, iso *cgroup.Isolator, f *isolatortest.Fixture, command ...string) *exec.Cmd {
	t.Helper()
	info, err := iso.Prepare(t.Context(), f.Container)
	if err != nil {
		t.Fatalf("Prepare = %v", err)
	}
	t.Cleanup(func() {
		if err := iso.Cleanup(context.WithoutCancel(t.Context()), f.Container); err != nil {
			t.Errorf("Cleanup = %v", err)
		}
	})
	if info == nil {
		return nil
	}
	f.Launch = info
	dir, err := os.Open(info.Cgroup.Unified)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start a process in %q: %v", info.Cgroup.Unified, err)
	}
	if info.Barrier {
		if err := iso.Isolate(t.Context(), f.Container, cmd.Process.Pid); err != nil {
			t.Fatalf("Isolate = %v", err)
		}
	}
	return cmd
}

func TestRealScope(t *testing.T) {
	iso := realIsolator(t)
	f := isolatortest.NewContainer(t, limits())
	cmd := launch(t, iso, f, "/bin/sleep", "60")
	dir := f.Launch.Cgroup.Unified
	if !strings.HasPrefix(dir, cgroup.DefaultRoot+"/berthtest.slice/berthtest-") || !strings.HasSuffix(dir, ".scope") {
		t.Errorf("the container's group is %q", dir)
	}
	check := func(want map[string]string) {
		t.Helper()
		for file, v := range want {
			b, err := os.ReadFile(dir + "/" + file)
			if got := strings.TrimSpace(string(b)); err != nil || got != v {
				t.Errorf("%s = %q, %v; want %q", file, got, err, v)
			}
		}
	}
	check(map[string]string{
		"cpu.weight": "59", "cpu.max": "50000 100000", "memory.max": "67108864", "memory.swap.max": "33554432", "pids.max": "50",
		"cpuset.cpus": "0", "cgroup.procs": strconv.Itoa(cmd.Process.Pid),
	})

	err := iso.Update(t.Context(), f.Container, &containerizer.Resources{Linux: specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(9))}}})
	if err != nil {
		t.Fatalf("Update = %v", err)
	}
	// systemd writes its own values again now: they must be ours.
	if out, err := exec.CommandContext(t.Context(), "systemctl", "daemon-reload").CombinedOutput(); err != nil {
		t.Fatalf("systemctl daemon-reload = %v\n%s", err, out)
	}
	check(map[string]string{"pids.max": "9", "memory.max": "67108864", "cpu.max": "50000 100000", "cpu.weight": "59"})

	child := isolatortest.NewChild(t, f, limits())
	below := launch(t, iso, child, "/bin/sleep", "60")
	if got := child.Launch.Cgroup.Unified; got != dir+"/child" {
		t.Errorf("the child's group is %q, want one in the scope", got)
	}
	if err := iso.KillAll(t.Context(), f.Container); err != nil {
		t.Fatalf("KillAll = %v", err)
	}
	for _, c := range []*exec.Cmd{cmd, below} {
		var exit *exec.ExitError
		if err := c.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("a process ended with %v, want SIGKILL", err)
		}
	}
}

func TestRealPodSandbox(t *testing.T) {
	iso := realIsolator(t)
	pod := isolatortest.NewContainer(t, &containerizer.Spec{Class: containerizer.ClassPodSandbox})
	launch(t, iso, pod)
	child := isolatortest.NewChild(t, pod, limits())
	launch(t, iso, child, "/bin/sleep", "60")
	if got := child.Launch.Cgroup.Unified; strings.Count(got, ".slice/") != 3 || !strings.HasSuffix(got, ".scope") {
		t.Errorf("the group of a pod's container is %q, want a scope in a slice in the pod's slice", got)
	}
}

// A kubelet gives the pod's slice; the container's scope is directly in it.
func TestRealCgroupParent(t *testing.T) {
	iso := realIsolator(t)
	f := isolatortest.NewContainer(t, limits())
	f.Spec.CgroupParent = "berthtest-kubepods-pod1.slice"
	launch(t, iso, f, "/bin/sleep", "60")
	want := cgroup.DefaultRoot + "/berthtest.slice/berthtest-kubepods.slice/berthtest-kubepods-pod1.slice"
	if got := filepath.Dir(filepath.Dir(f.Launch.Cgroup.Unified)); got != want {
		t.Errorf("the container is in %q, want %q", got, want)
	}
}

// systemd removes a scope with its last process; that it died of an OOM kill is
// known all the same.
func TestRealOOM(t *testing.T) {
	iso := realIsolator(t)
	f := isolatortest.NewContainer(t, limits())
	cmd := launch(t, iso, f, "/bin/tail", "-n", "1", "/dev/zero")
	if err := cmd.Wait(); err == nil {
		t.Fatal("a process above its memory limit ended well")
	}
	for deadline := time.Now().Add(patience); ; { // until systemd has noticed
		if _, err := os.Stat(f.Launch.Cgroup.Unified); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("systemd does not remove the scope")
		}
	}
	got := containerizer.Termination{ExitCode: 137, Signal: 9, Reason: containerizer.ReasonError}
	if err := iso.ReportExit(t.Context(), f.Container, &got); err != nil {
		t.Fatal(err)
	}
	if !got.OOMKilled || got.Reason != containerizer.ReasonOOMKilled || !strings.Contains(got.Message, "67108864") {
		t.Errorf("ReportExit = %+v, want an OOM kill at 67108864 bytes", got)
	}
}
