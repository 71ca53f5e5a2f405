package miniinit_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer/launch/miniinit"
)

// command runs the init with arguments, as any executable.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(path, miniinit.ELF(), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = []string{"GREETING=hello", "PATH=/bin:/usr/bin"}
	return cmd
}

func TestSize(t *testing.T) {
	if n := len(miniinit.ELF()); n > 1024 {
		t.Errorf("the init has %d bytes", n)
	}
}

func TestCommand(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		out  string
		code int
	}{
		"success":            {[]string{"/bin/sh", "sh", "-c", "echo $GREETING $0 $1", "a", "b"}, "hello a b\n", 0},
		"exit code":          {[]string{"/bin/sh", "sh", "-c", "exit 7"}, "", 7},
		"killed by a signal": {[]string{"/bin/sh", "sh", "-c", "kill -9 $$"}, "", 137},
		"not found":          {[]string{"/nowhere", "x"}, "", 127},
		"not a directory":    {[]string{"/bin/sh/x", "x"}, "", 127},
		"not executable":     {[]string{"/etc/passwd", "x"}, "", 126},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := command(t, tt.args...)
			out, err := cmd.Output()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != tt.code || string(out) != tt.out {
				t.Errorf("ended %d with %q, want %d with %q", code, out, tt.code, tt.out)
			}
		})
	}
}

func TestForwardsSignals(t *testing.T) {
	cmd := command(t, "/bin/sh", "sh", "-c", "trap 'exit 42' TERM; echo ready; while :; do sleep 0.01; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 42 {
		t.Errorf("ended %d, want 42", code)
	}
}

func TestReapsOrphans(t *testing.T) {
	// As pid 1 of a pid namespace it inherits the orphan, whose end must not be taken
	// for the command's.
	if os.Getuid() != 0 {
		t.Skip("a pid namespace needs root")
	}
	cmd := command(t, "/bin/sh", "sh", "-c", "(sleep 0.05 & ) ; sleep 0.3; ls /proc >/dev/null; exit 5")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("ended %d, want 5", code)
	}
}

func TestWithoutCommand(t *testing.T) {
	cmd := command(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Once it sleeps it waits for signals.
	deadline := time.Now().Add(10 * time.Second)
	for asleep := false; !asleep; {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/stat")
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("it does not come to rest: %s, %v", stat, err)
		}
		asleep = strings.Contains(string(stat), "(init) S")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended %v, want success", err)
	}
}
