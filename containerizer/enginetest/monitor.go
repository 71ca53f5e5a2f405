package enginetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// monitorEnv holds the folder of the container in a monitor's environment.
const monitorEnv = "BERTH_ENGINETEST_MONITOR"

// Files in the folder of a container.
const (
	orderFile = "order.json" // what to run
	stateFile = "state.json" // what runs
	exitFile  = "exit.json"  // how it ended
	lockFile  = "lock"       // held by the monitor while it lives
	startFIFO = "start"      // opened for writing to let a held container go
	stdinFIFO = "stdin"
	outFile   = "out"
	execsFile = "execs" // pids of exec sessions, a line each
)

// order is what a monitor is to run.
type order struct {
	Argv  []string
	Env   []string
	Hold  bool
	Stdin bool
}

// monitorState is what a monitor runs.
type monitorState struct {
	PID        int // 0 while held, and for a pod sandbox
	MonitorPID int
	StartedAt  time.Time
	Failure    string // why the command could not be executed
	FailCode   int    // 126 or 127 then
}

// Main runs this process as a monitor and does not return, if it was started as
// one.
func Main() {
	dir := os.Getenv(monitorEnv)
	if dir == "" {
		return
	}
	if err := runMonitor(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runMonitor(dir string) error {
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // held to the end of the process
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	var o order
	if err := readJSON(filepath.Join(dir, orderFile), &o); err != nil {
		return err
	}
	state := monitorState{MonitorPID: os.Getpid(), StartedAt: time.Now().UTC()}
	if err := writeJSON(dir, stateFile, &state); err != nil {
		return err
	}
	if o.Hold || len(o.Argv) == 0 {
		f, err := os.OpenFile(filepath.Join(dir, startFIFO), os.O_RDONLY, 0) // until a writer comes
		if err != nil {
			return err
		}
		_ = f.Close() // nothing is read
	}
	return runCommand(dir, &o, &state)
}

func runCommand(dir string, o *order, state *monitorState) error {
	out, err := os.OpenFile(filepath.Join(dir, outFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	cmd := &exec.Cmd{
		Path: o.Argv[0], Args: o.Argv, Env: o.Env, Stdout: out, Stderr: out,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if o.Stdin {
		in, err := os.OpenFile(filepath.Join(dir, stdinFIFO), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		cmd.Stdin = in
	}
	if err := cmd.Start(); err != nil {
		state.Failure, state.FailCode = err.Error(), failCode(err)
		return writeJSON(dir, stateFile, state)
	}
	state.PID, state.StartedAt = cmd.Process.Pid, time.Now().UTC()
	if err := writeJSON(dir, stateFile, state); err != nil {
		return err
	}
	_ = cmd.Wait() // told below
	return writeJSON(dir, exitFile, termination(cmd.ProcessState))
}

// failCode is that of a shell for a command that cannot be executed.
func failCode(err error) int {
	if errors.Is(err, fs.ErrNotExist) {
		return 127
	}
	return 126
}

func termination(ps *os.ProcessState) *containerizer.Termination {
	ws := ps.Sys().(syscall.WaitStatus) // Linux
	t := &containerizer.Termination{WaitStatus: uint32(ws), FinishedAt: time.Now().UTC()}
	switch {
	case ws.Signaled():
		t.Signal = int(ws.Signal())
		t.ExitCode, t.Reason = 128+t.Signal, containerizer.ReasonError
	case ws.ExitStatus() == 0:
		t.Reason = containerizer.ReasonCompleted
	default:
		t.ExitCode, t.Reason = ws.ExitStatus(), containerizer.ReasonError
	}
	return t
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func writeJSON(dir, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, "."+name)
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, name))
}
