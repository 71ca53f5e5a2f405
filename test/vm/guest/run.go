package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/test/vm/internal/plan"
)

// run does what the plan says, with the program's output going to w, and returns
// its exit status as a shell would, and how much it wrote.
func run(w io.Writer) (exit int, written int64, err error) {
	data, err := os.ReadFile(plan.Path)
	if err != nil {
		return 0, 0, err
	}
	var p plan.Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return 0, 0, fmt.Errorf("parse %s: %w", plan.Path, err)
	}
	if err := mountCgroups(p.Cgroup); err != nil {
		return 0, 0, err
	}
	if err := loopbackUp(); err != nil {
		return 0, 0, err
	}
	if p.Disk {
		if err := (mount{plan.DiskDevice, plan.DiskDir, "ext4", 0, ""}).do(); err != nil {
			return 0, 0, err
		}
	}
	status, written, err := start(&p, w)
	if err != nil {
		return 0, written, err
	}
	if status.Signaled() {
		n, err := fmt.Fprintf(w, "%s: killed by %s\n", p.Args[0], unix.SignalName(status.Signal()))
		return 128 + int(status.Signal()), written + int64(n), err
	}
	return status.ExitStatus(), written, nil
}

// start runs the program and waits for it, reaping whatever else ends meanwhile,
// as process 1 must. Its output goes through a pipe, so that programs find a plain
// pipe and not a device.
func start(p *plan.Plan, w io.Writer) (status unix.WaitStatus, written int64, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, 0, err
	}
	r, out, err := os.Pipe()
	if err != nil {
		return 0, 0, err
	}
	child, err := os.StartProcess(p.Args[0], p.Args, &os.ProcAttr{
		Dir: p.Dir, Env: p.Env, Files: []*os.File{null, out, out},
		Sys: &unix.SysProcAttr{Setsid: true},
	})
	_ = out.Close() // the child has it now, or nobody
	if err != nil {
		return 0, 0, err
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		written, _ = io.Copy(w, r) // a host that stops reading has ended the machine
	}()
	status, err = reapUntil(child.Pid)
	// A daemon that the program left may hold the pipe for good; all that the
	// program itself wrote is in the pipe already.
	_ = r.SetReadDeadline(time.Now().Add(time.Second))
	<-copied
	return status, written, err
}

// reapUntil waits for any child until the one called pid has ended.
func reapUntil(pid int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case got == pid:
			return status, nil
		}
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}
