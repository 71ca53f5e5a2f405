package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Stop implements [containerizer.Lifecycle].
func (e *Engine) Stop(ctx context.Context, id containerizer.ContainerID, timeout *time.Duration) error {
	if err := e.ready(ctx); err != nil {
		return err
	}
	l, err := e.load(id)
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	switch {
	case l.st.State == containerizer.StateExited:
		return nil
	case !l.st.State.Alive():
		return fmt.Errorf("stop container %q: it is %s: %w", id, l.st.State, containerizer.ErrFailedPrecondition)
	}
	if timeout == nil {
		timeout = l.spec.StopTimeout
	}
	patience := defaultStopTimeout
	if timeout != nil {
		patience = *timeout
	}
	if l.spec.Class == containerizer.ClassPodSandbox {
		return e.stopSandbox(ctx, l, timeout)
	}
	return e.stopProcess(ctx, l, patience)
}

// stopProcess asks with the stop signal, waits, and kills.
func (e *Engine) stopProcess(ctx context.Context, l *loaded, patience time.Duration) error {
	if patience > 0 && l.st.State != containerizer.StateCreated { // nobody is there yet to heed a signal
		if err := e.askToStop(ctx, l); err != nil {
			return fmt.Errorf("stop container %q: %w", l.id, err)
		}
		wctx, cancel := context.WithTimeout(ctx, patience)
		_, err := e.Wait(wctx, l.id)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	if err := e.signalAll(ctx, l, int(unix.SIGKILL)); err != nil && !errors.Is(err, containerizer.ErrFailedPrecondition) {
		return fmt.Errorf("stop container %q: %w", l.id, err)
	}
	if _, err := e.Wait(ctx, l.id); err != nil && !errors.Is(err, containerizer.ErrNotFound) {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// askToStop sends the stop signal, and lets a paused container heed it.
func (e *Engine) askToStop(ctx context.Context, l *loaded) error {
	sig, err := parseSignal(cmp.Or(l.spec.StopSignal, defaultStopSignal))
	if err != nil {
		return err
	}
	err = e.signal(ctx, l, sig)
	if err == nil && l.st.State == containerizer.StatePaused {
		err = e.Resume(ctx, l.id)
	}
	if errors.Is(err, containerizer.ErrFailedPrecondition) { // it has ended meanwhile
		return nil
	}
	return err
}

// stopSandbox stops the children together, then ends the sandbox.
func (e *Engine) stopSandbox(ctx context.Context, l *loaded, timeout *time.Duration) error {
	children, err := childIDs(filepath.Join(e.state, containersFolder), l.id)
	if err != nil {
		return err
	}
	errs := make([]error, len(children))
	var wg sync.WaitGroup
	for i, child := range children {
		wg.Go(func() {
			err := e.Stop(ctx, child, timeout)
			if !errors.Is(err, containerizer.ErrNotFound) && !errors.Is(err, containerizer.ErrFailedPrecondition) {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop the containers of %q: %w", l.id, err)
	}
	_, _, err = e.do(ctx, l.id, opReap, "stop", func(ctx context.Context, op *operation) error {
		return e.endOp(ctx, op)
	})
	return err
}

// Kill implements [containerizer.Control].
//
//nolint:revive // the contract has the flag
func (e *Engine) Kill(ctx context.Context, id containerizer.ContainerID, sig int, all bool) error {
	if err := e.ready(ctx); err != nil {
		return err
	}
	l, err := e.alive(id)
	if err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	if sig < 1 || sig > sigrtmax {
		return fmt.Errorf("kill container %q: signal %d is not between 1 and %d: %w", id, sig, sigrtmax, containerizer.ErrInvalid)
	}
	if all {
		err = e.signalAll(ctx, l, sig)
	} else {
		err = e.signal(ctx, l, sig)
	}
	if err != nil {
		return fmt.Errorf("kill container %q: %w", id, err)
	}
	return nil
}

// alive loads a container whose process lives.
func (e *Engine) alive(id containerizer.ContainerID) (*loaded, error) {
	l, err := e.load(id)
	if err != nil {
		return nil, err
	}
	if s := e.view(l).State; !s.Alive() {
		return nil, fmt.Errorf("container %q is %s: %w", id, s, containerizer.ErrFailedPrecondition)
	}
	return l, nil
}

// signal sends sig to l's own process.
func (e *Engine) signal(ctx context.Context, l *loaded, sig int) error {
	if err := noteSignal(l.dir, sig); err != nil {
		return err
	}
	return e.launcher.Signal(ctx, e.container(l), sig)
}

// signalAll sends sig to every process of l.
func (e *Engine) signalAll(ctx context.Context, l *loaded, sig int) error {
	if e.freezer == nil {
		return e.signal(ctx, l, sig)
	}
	c := forIsolator(e.container(l), nil, e.freezerName())
	if sig == int(unix.SIGKILL) {
		if err := noteSignal(l.dir, sig); err != nil {
			return err
		}
		return e.freezer.KillAll(ctx, c)
	}
	pids, err := e.freezer.Processes(ctx, c)
	if err != nil {
		return err
	}
	if err := noteSignal(l.dir, sig); err != nil {
		return err
	}
	var errs []error
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.Signal(sig)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("signal process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// freezerName is the name of the isolator that is e.freezer.
func (e *Engine) freezerName() string {
	if iso, is := e.freezer.(containerizer.Isolator); is {
		return iso.Name()
	}
	return ownEntries
}
