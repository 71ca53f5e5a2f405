package cri

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

const (
	// maxOutput bounds each stream of an ExecSync, as the kubelet's messages are
	// (CVE-2022-1708, CVE-2022-31030). What is beyond is read and forgotten.
	maxOutput = 7 << 20
	// drainTime is how long output may come after the process has ended: a grandchild may
	// keep the pipe open for ever.
	drainTime = 500 * time.Millisecond
)

// ExecSync runs a command in a container and returns its output and exit code. At the
// time-out everything that the command has started is killed. It writes no file.
func (s *runtimeService) ExecSync(ctx context.Context, r *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	id, err := s.index.containerID(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	if len(r.GetCmd()) == 0 {
		return nil, fmt.Errorf("execute in container %q: no command is given: %w", r.GetContainerId(), containerizer.ErrInvalid)
	}
	if r.GetTimeout() > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.GetTimeout())*time.Second)
		defer cancel()
	}
	var stdout, stderr bounded
	t, err := s.execute(ctx, id, &containerizer.Process{Args: r.GetCmd()}, &containerizer.IO{Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ExecSyncResponse{Stdout: stdout.bytes(), Stderr: stderr.bytes(), ExitCode: int32(t.ExitCode)}, nil //nolint:gosec // a byte, or 128 and a signal
}

// execute runs a process to its end. If ctx ends first, it and its descendants are killed.
func (s *Server) execute(ctx context.Context, id containerizer.ContainerID, p *containerizer.Process, io *containerizer.IO) (*containerizer.Termination, error) {
	x, err := s.o.Engine.Exec(ctx, id, p, io)
	if err != nil {
		return nil, err
	}
	defer x.Close() //nolint:errcheck // lets go of a process that has ended
	stop := context.AfterFunc(ctx, func() { killTree(x.PID()) })
	defer stop()
	t, err := x.Wait(ctx)
	if ctx.Err() != nil {
		killTree(x.PID()) // whoever comes second finds nobody
		if session := x.Session(); session != nil {
			session.Detach()
		}
		return nil, fmt.Errorf("command %q in container %q: %w", p.Args, id.Base(), ctx.Err())
	}
	if err != nil {
		return nil, fmt.Errorf("command %q in container %q: %w", p.Args, id.Base(), err)
	}
	if session := x.Session(); session != nil {
		drained := make(chan struct{})
		go func() {
			_ = session.Wait() // what its reader could not take is the reader's
			close(drained)
		}()
		select {
		case <-drained:
		case <-time.After(drainTime):
			session.Detach()
			<-drained
		}
	}
	return t, nil
}

// killTree kills a process and whatever it has started: its descendants, and those that
// were left to another parent but are in its session. It looks again until nobody is left to be killed,
// because who is not dead yet can still fork.
func killTree(pid int) {
	for range 16 {
		victims := descendants(pid)
		for _, v := range victims {
			_ = unix.Kill(v, unix.SIGKILL) // gone is fine
		}
		if len(victims) == 0 {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// descendants are the living processes that stem from pid, itself included.
func descendants(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return []int{pid}
	}
	parents := map[int]int{}
	var found []int
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		parent, session, alive := statOf(n)
		if !alive {
			continue
		}
		parents[n] = parent
		if n == pid || session == pid {
			found = append(found, n)
		}
	}
	for n := range parents {
		for up, hops := parents[n], 0; up > 1 && hops < 64; up, hops = parents[up], hops+1 {
			if up == pid {
				found = append(found, n)
				break
			}
		}
	}
	return found
}

// statOf reads /proc/PID/stat (proc_pid_stat(5)).
func statOf(pid int) (parent, session int, alive bool) {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, false
	}
	text := string(content)
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 4 || f[0] == "Z" || f[0] == "X" {
		return 0, 0, false
	}
	parent, _ = strconv.Atoi(f[1])
	session, _ = strconv.Atoi(f[3])
	return parent, session, true
}
