package cgroup_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/cgroup"
)

func limited(l specs.LinuxResources) *containerizer.Spec {
	return &containerizer.Spec{Resources: containerizer.Resources{Linux: l}}
}

// output runs a script in f's groups and returns what it prints and how it ended.
func output(t *testing.T, iso *cgroup.Isolator, spec *containerizer.Spec, text string) (string, error) {
	t.Helper()
	f := prepared(t, iso, spec)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := scriptTo(t, f, text, w)
	_ = w.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	return string(b), cmd.Wait()
}

// hog uses more memory than any limit here: the only line has no end.
const hog = "exec tail -n 1 /dev/zero"

func oomSpec() *containerizer.Spec {
	return limited(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(16 << 20)), Swap: new(int64(16 << 20))}})
}

func TestOOMKillIsReported(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	f := prepared(t, iso, oomSpec())
	err := script(t, f, hog).Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("a process above its memory limit ended with %v, want SIGKILL", err)
	}

	for name, tt := range map[string]struct {
		in   containerizer.Termination
		want containerizer.Reason
	}{
		"killed":             {containerizer.Termination{ExitCode: 137, Signal: 9, Reason: containerizer.ReasonError}, containerizer.ReasonOOMKilled},
		"a child was killed": {containerizer.Termination{ExitCode: 1, Reason: containerizer.ReasonError}, containerizer.ReasonOOMKilled},
		"ended well":         {containerizer.Termination{Reason: containerizer.ReasonCompleted}, containerizer.ReasonCompleted},
		"was stopped":        {containerizer.Termination{ExitCode: 137, Signal: 9, Reason: containerizer.ReasonKilled}, containerizer.ReasonKilled},
	} {
		t.Run(name, func(t *testing.T) {
			got := tt.in
			if err := iso.ReportExit(t.Context(), f.Container, &got); err != nil {
				t.Fatal(err)
			}
			if !got.OOMKilled || got.Reason != tt.want {
				t.Errorf("ReportExit = %+v, want OOMKilled and reason %q", got, tt.want)
			}
			if tt.want == containerizer.ReasonOOMKilled && !strings.Contains(got.Message, "16777216") {
				t.Errorf("message %q does not name the limit", got.Message)
			}
		})
	}

	other := prepared(t, iso, oomSpec())
	calm := containerizer.Termination{ExitCode: 137, Signal: 9, Reason: containerizer.ReasonError}
	want := calm
	if err := iso.ReportExit(t.Context(), other.Container, &calm); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, calm); diff != "" {
		t.Errorf("ReportExit without OOM kill changed the termination (-want +got):\n%s", diff)
	}
}

func TestWatchReportsOOM(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t), EndOnOOM: true})
	f := prepared(t, iso, oomSpec())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	type result struct {
		l   *containerizer.Limitation
		err error
	}
	done := make(chan result, 1)
	go func() {
		l, err := iso.Watch(ctx, f.Container)
		done <- result{l, err}
	}()
	_ = script(t, f, hog).Wait() // killed
	r := <-done
	if r.err != nil || r.l == nil || r.l.Resource != "mem" || r.l.Isolator != "cgroups/mem" {
		t.Errorf("Watch = %v, %v; want a limitation of mem", r.l, r.err)
	}
}

func TestPIDsLimit(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	out, err := output(t, iso, limited(specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(3))}}),
		"exec 2>/dev/null; for n in 1 2 3 4 5; do sleep 60 >/dev/null & done; echo no limit")
	if err == nil || strings.Contains(out, "no limit") {
		t.Errorf("five processes with a limit of three: output %q, %v", out, err)
	}
}

func TestCPUQuotaThrottles(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	f := prepared(t, iso, limited(specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(10000)), Period: new(uint64(100000))}}))
	cmd := script(t, f, "while :; do :; done")
	var u containerizer.Usage
	eventually(t, "the process is throttled", func() bool {
		if err := iso.Usage(t.Context(), f.Container, &u); err != nil {
			t.Fatal(err)
		}
		return u.CPU.ThrottledPeriods >= 2 && u.CPU.Throttled > 0 // counted when it ends
	})
	if u.CPU.Total <= 0 || u.CPU.Periods < u.CPU.ThrottledPeriods {
		t.Errorf("usage of a throttled process = %+v", *u.CPU)
	}
	// A tenth of one processor, with room for the first, unthrottled slices.
	if limit := time.Duration(u.CPU.Periods+2) * 25 * time.Millisecond; u.CPU.Total > limit {
		t.Errorf("it used %v in %d periods of 100 ms, want at most about 10 ms in each", u.CPU.Total, u.CPU.Periods)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
}

func TestCPUSet(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	out, err := output(t, iso, limited(specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0", Mems: "0"}}),
		"grep Cpus_allowed_list /proc/self/status")
	if got := strings.Fields(out); err != nil || len(got) != 2 || got[1] != "0" {
		t.Errorf("processors with cpu.cpus 0: %q, %v", out, err)
	}
}

// /dev/kmsg (1:11) stands for the devices that nobody gets by default; /dev/null
// and friends always work.
func TestDevices(t *testing.T) {
	const probe = `exec 2>/dev/null
echo x > /dev/null && head -c 1 /dev/zero >/dev/null && echo defaults
(exec 3</dev/kmsg) && echo read
(exec 3>/dev/kmsg) && echo write
exit 0`
	kmsg := func(allow bool, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: allow, Type: "c", Major: new(int64(1)), Minor: new(int64(11)), Access: access}
	}
	rules := func(r ...specs.LinuxDeviceCgroup) *containerizer.Spec {
		return limited(specs.LinuxResources{Devices: r})
	}
	privileged := rules()
	privileged.Security.Privileged = true
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	for name, tt := range map[string]struct {
		spec *containerizer.Spec
		want string
	}{
		"default":        {rules(), "defaults"},
		"read":           {rules(kmsg(true, "r")), "defaults read"},
		"write":          {rules(kmsg(true, "w")), "defaults write"},
		"all of it":      {rules(kmsg(true, "rwm")), "defaults read write"},
		"taken back":     {rules(kmsg(true, "rw"), kmsg(false, "w")), "defaults read"},
		"deny all first": {rules(kmsg(true, "rw"), specs.LinuxDeviceCgroup{Allow: false, Access: "rwm"}), "defaults"},
		"allow all":      {rules(specs.LinuxDeviceCgroup{Allow: true, Type: "a", Access: "rwm"}), "defaults read write"},
		"all but one":    {rules(specs.LinuxDeviceCgroup{Allow: true, Type: "a", Access: "rwm"}, kmsg(false, "w")), "defaults read"},
		"privileged":     {privileged, "defaults read write"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := output(t, iso, tt.spec, probe)
			if got := strings.Join(strings.Fields(out), " "); err != nil || got != tt.want {
				t.Errorf("what works = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// The rules that other isolators contribute count as the spec's do.
func TestDeviceRulesOfOtherIsolators(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	f := newContainer(t, &containerizer.Spec{})
	f.Launch.DeviceRules = []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: new(int64(1)), Minor: new(int64(11)), Access: "r"}}
	prepare(t, iso, f)
	if err := script(t, f, "exec 3</dev/kmsg").Wait(); err != nil {
		t.Errorf("open a device that another isolator allowed: %v", err)
	}
}

func TestUsage(t *testing.T) {
	iso := newIsolator(t, cgroup.Options{Parent: newParent(t)})
	f := prepared(t, iso, limited(specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(96 << 20))},
		Pids:   &specs.LinuxPids{Limit: new(int64(10))},
	}))
	ready(t, f, "head -c 3000000 /dev/zero | tail -c 3000000 >/dev/null; while :; do :; done & echo ready; wait")
	var u containerizer.Usage
	// User and system time are sampled by the clock tick, which may take its time to
	// find the process running.
	for deadline := time.Now().Add(20 * time.Second); ; {
		if err := iso.Usage(t.Context(), f.Container, &u); err != nil {
			t.Fatal(err)
		}
		if u.CPU == nil || u.CPU.User+u.CPU.System > 0 || time.Now().After(deadline) {
			break
		}
	}
	if u.At.IsZero() || u.CPU == nil || u.CPU.Total <= 0 || u.CPU.User+u.CPU.System <= 0 {
		t.Errorf("processor usage = %+v at %v", u.CPU, u.At)
	}
	if u.Memory == nil || u.Memory.LimitBytes != 64<<20 || u.Memory.Bytes == 0 || u.Memory.Bytes > 64<<20 || u.Memory.PageFaults == 0 || u.Memory.WorkingSetBytes > u.Memory.Bytes {
		t.Errorf("memory usage = %+v", u.Memory)
	}
	if u.PIDs == nil || u.PIDs.Current != 2 || u.PIDs.Limit != 10 {
		t.Errorf("process counts = %+v, want 2 of 10", u.PIDs)
	}
	if u.IO == nil {
		t.Error("no I/O usage")
	}
	if s := u.Memory.SwapLimitBytes; s != nil && *s != 32<<20 { // not every kernel bounds swap
		t.Errorf("the limit of swap = %d, want what was asked for beside memory", *s)
	}
}
