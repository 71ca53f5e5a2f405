package monitor_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/monitor/client"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// adopting asks for a process that a shell, in the part of an OCI runtime, makes.
func adopting(tb testing.TB, name, line, dir string, exec bool) *client.LaunchRequest {
	tb.Helper()
	r := request(tb, name, line, dir, options{})
	r.Exec = exec
	if exec {
		r.Record = nil
	}
	f, err := os.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	r.Adopt = &client.Adopt{Dir: int(f.Fd())}
	return r
}

// leaves is a shell line that leaves a process behind, which runs line.
func leaves(dir, line string) string {
	return fmt.Sprintf(`sh -c '%s' & echo $! > %s`, line, filepath.Join(dir, wire.AdoptFile))
}

// TestAdopt: what a runtime leaves behind is held, begins to run when that is said, and
// its end is the element's.
func TestAdopt(t *testing.T) {
	t.Parallel()
	f := start(t, client.Options{})
	dir := t.TempDir()
	p := f.launch(adopting(t, "c", leaves(dir, "exec sleep 1000"), dir, false))
	if p.State != wire.StateHeld || !alive(p.PID) {
		t.Fatalf("it is %+v, want a held process", p)
	}
	if rec, ok := processRecord(t, dir); !ok || int(rec.PID) != p.PID || rec.StartTicks == 0 || rec.StartedAt != 0 {
		t.Errorf("it is recorded as %+v", rec)
	}
	running, err := f.Release(f.ctx(), "c", false)
	if err != nil || running.PID != p.PID || running.StartedAt.IsZero() {
		t.Fatalf("Release = %+v, %v", running, err)
	}
	if err := f.Signal(f.ctx(), "c", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := f.exit(running); e.Status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", e)
	}
	if _, ok := exitRecord(t, dir); !ok {
		t.Error("its end is not recorded")
	}
}

// endedRuntime has the test binary take the part of an OCI runtime whose process has ended
// before it does, and leave its pid in the directory that the variable has.
const endedRuntime = "BERTH_TEST_ENDED_RUNTIME"

// leaveEnded leaves a process that has ended with 7, and that nobody has waited for.
func leaveEnded(dir string) int {
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "exit 7"}, &os.ProcAttr{})
	if err != nil {
		return 1
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
	}
	if err != nil || os.WriteFile(filepath.Join(dir, wire.AdoptFile), []byte(strconv.Itoa(p.Pid)), 0o600) != nil {
		return 1
	}
	return 0
}

// TestAdoptEnded: the end of a process is known that came before its runtime's.
func TestAdoptEnded(t *testing.T) {
	t.Parallel()
	f := start(t, client.Options{})
	root := t.TempDir()
	f.launch(request(t, "c", "sleep 1000", root, options{}))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		dir := t.TempDir()
		p := f.launch(adopting(t, fmt.Sprintf("x%d", n), fmt.Sprintf("%s=%s exec %s", endedRuntime, dir, self), dir, true))
		f.status(p, 7)
	}
	if err := f.Signal(f.ctx(), "c", syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

// TestAdoptFailures: a runtime that fails, or leaves nothing to be adopted.
func TestAdoptFailures(t *testing.T) {
	t.Parallel()
	f := start(t, client.Options{})
	for name, line := range map[string]string{
		"runtime fails": "exit 1",
		"killed":        "kill -9 $$",
		"no pid":        "true",
		"no number":     "echo nothing > DIR/pid",
		"init":          "echo 1 > DIR/pid",
		"not its child": fmt.Sprintf("echo %d > DIR/pid", os.Getpid()),
		"gone":          "echo 4194303 > DIR/pid",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := f.Launch(f.ctx(), adopting(t, "c", strings.ReplaceAll(line, "DIR", dir), dir, false))
			if err == nil || !strings.Contains(err.Error(), "OCI runtime") {
				t.Errorf("Launch = %v", err)
			}
			if _, ok := processRecord(t, dir); ok {
				t.Error("a process is recorded")
			}
		})
	}
	if _, err := f.Release(f.ctx(), "c", false); err == nil || errors.Is(err, syscall.EINVAL) {
		t.Errorf("the monitor still has it: %v", err)
	}
}
