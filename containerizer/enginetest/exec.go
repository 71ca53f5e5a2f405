package enginetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/berth-dev/berth/containerizer"
)

// Exec implements [containerizer.Launcher].
func (l *Launcher) Exec(_ context.Context, r containerizer.ExecRequest) (containerizer.ExecProcess, error) {
	argv := slices.Concat(r.Process.Entrypoint, r.Process.Args)
	cmd := &exec.Cmd{
		Path: argv[0], Args: argv, Env: r.Process.Env,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	p := &execProcess{done: make(chan struct{})}
	if r.IO != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = r.IO.Stdin, r.IO.Stdout, r.IO.Stderr
		p.session = &execSession{p}
	}
	if err := cmd.Start(); err != nil {
		return nil, failure(&monitorState{Failure: err.Error(), FailCode: failCode(err)})
	}
	p.pid = cmd.Process.Pid
	l.wg.Go(func() {
		defer close(p.done)
		_ = cmd.Wait() // told by its state
		p.t = termination(cmd.ProcessState)
	})
	f, err := os.OpenFile(filepath.Join(folder(r.Container), execsFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintln(f, p.pid)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return p, err
}
