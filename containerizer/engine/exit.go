package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/internal/rawfile"
)

// Reap deals with a container whose process has ended: it records how, and
// releases what the container held but its writable layer and its record, or
// everything with AutoRemove. It is meant for whoever sees the exit first; calls
// that come later find nothing to do. ErrFailedPrecondition while it runs; nil
// for an unknown id. Because nobody waits for a Reap as a rule, it also retries
// what other containers owe.
func (e *Engine) Reap(ctx context.Context, id containerizer.ContainerID) error {
	if err := e.ready(ctx); err != nil {
		return err
	}
	_, _, err := e.do(ctx, id, opReap, "", func(ctx context.Context, op *operation) error {
		return e.reapOp(ctx, op, nil)
	})
	e.payDebts(ctx, debtPause)
	return err
}

// reapOp is Reap; t is how the container ended where the caller knows.
func (e *Engine) reapOp(ctx context.Context, op *operation, t *containerizer.Termination) error {
	e.step(op, "reap.lock")
	h, l, err := e.holdLoaded(ctx, op.id)
	switch {
	case errors.Is(err, containerizer.ErrNotFound):
		return nil
	case errors.Is(err, containerizer.ErrDataCorrupt):
		return fmt.Errorf("reap: %w", err)
	case err != nil:
		return err
	}
	defer h.unlock()
	switch {
	case l.st.State == containerizer.StateDestroying, l.st.State == containerizer.StatePreparing:
		return e.finishCutOff(ctx, op, h, l)
	case l.st.State == containerizer.StateExited && l.spec.AutoRemove:
		return e.destroyHeld(ctx, op, h, l)
	case l.st.State == containerizer.StateExited:
		return e.releaseExited(ctx, op, h, l)
	}
	if t == nil {
		if t = e.ended(l); t == nil {
			return fmt.Errorf("reap container %q: it is %s: %w", l.id, l.st.State, containerizer.ErrFailedPrecondition)
		}
	}
	return e.exitHeld(ctx, op, h, l, t)
}

// finishCutOff undoes or finishes what a dead process was doing: a first launch
// and a destroy end in nothing, a restart in an exited container.
//
// Preconditions: h is l's lock, and l is preparing or destroying.
func (e *Engine) finishCutOff(ctx context.Context, op *operation, h *held, l *loaded) error {
	if l.st.State == containerizer.StatePreparing && l.st.Termination != nil {
		return e.backToExited(ctx, op, h, l)
	}
	return e.destroyHeld(ctx, op, h, l)
}

// ended says how l's process ended, nil while it lives. It asks the launcher's
// files and waits for nobody.
func (e *Engine) ended(l *loaded) *containerizer.Termination {
	if !l.st.State.Alive() {
		return l.st.Termination
	}
	if l.st.Boot != e.bootID {
		return lostTermination("the node was restarted while it ran")
	}
	s, err := e.launcher.Status(e.container(l))
	switch {
	case err != nil:
		return nil // unknown is not ended
	case s.Termination != nil:
		return s.Termination
	case !s.Known:
		return lostTermination("its monitor is gone without a trace")
	}
	return nil
}

// exitHeld takes a container whose process has ended to exited, or away.
//
// Preconditions: h is l's lock. l is alive, or preparing after a failed launch.
func (e *Engine) exitHeld(ctx context.Context, op *operation, h *held, l *loaded, t *containerizer.Termination) error {
	if err := e.endChildren(ctx, op); err != nil {
		return e.owe(l, err)
	}
	e.step(op, "exit.report")
	l.st.Termination, l.fresh = e.finalTermination(ctx, h, l, t), true
	if l.spec != nil && l.spec.AutoRemove {
		return e.destroyHeld(ctx, op, h, l)
	}
	e.step(op, "exit.state")
	if err := l.become(containerizer.StateExited); err != nil {
		return err
	}
	l.st.Released = false
	if err := e.save(l); err != nil {
		return err
	}
	e.published(op, l)
	return e.releaseExited(ctx, op, h, l)
}

// published tells those who wait for l's end.
func (e *Engine) published(op *operation, l *loaded) {
	events := []containerizer.EventType{containerizer.EventExited}
	if l.st.Termination.OOMKilled {
		events = []containerizer.EventType{containerizer.EventOOM, containerizer.EventExited}
	}
	e.event(l.id, l.st.Termination, events...)
	op.settle(l.st.Termination)
	l.fresh = false
}

// finalTermination completes what the launcher saw with what isolators and the
// engine know.
func (e *Engine) finalTermination(ctx context.Context, h *held, l *loaded, seen *containerizer.Termination) *containerizer.Termination {
	t := *seen
	c := e.container(l)
	for _, iso := range e.isolators {
		r, is := iso.(containerizer.ExitReporter)
		if !is {
			continue
		}
		rctx, cancel := e.detached(ctx)
		if err := r.ReportExit(rctx, forIsolator(c, h, iso.Name()), &t); err != nil {
			e.log.Warn("an isolator cannot tell why the container ended", fieldID(l.id), fieldIsolator(iso.Name()), fieldError(err))
		}
		cancel()
	}
	var limit containerizer.Limitation
	if err := readJSON(filepath.Join(l.dir, limitationFile), &limit); err == nil {
		t.Limitation = &limit
	}
	sent, _ := rawfile.Read(filepath.Join(l.dir, signalsFile)) // none were sent
	switch {
	case t.Reason == containerizer.ReasonLaunchFailed, t.Reason == containerizer.ReasonUnknown:
	case t.OOMKilled:
		t.Reason = containerizer.ReasonOOMKilled
	case t.Limitation != nil:
		t.Reason, t.Message = containerizer.ReasonLimitation, t.Limitation.String()
	case t.Signal != 0 && slices.Contains(sent, byte(t.Signal)):
		t.Reason = containerizer.ReasonKilled
	case t.Reason != "":
	case t.ExitCode == 0:
		t.Reason = containerizer.ReasonCompleted
	default:
		t.Reason = containerizer.ReasonError
	}
	if t.FinishedAt.IsZero() {
		t.FinishedAt = time.Now().UTC()
	}
	return &t
}

// endChildren ends the processes of all containers below op's, whose own process
// is gone: they have lost what they lived in.
func (e *Engine) endChildren(ctx context.Context, op *operation) error {
	children, err := childIDs(filepath.Join(e.state, containersFolder), op.id)
	if err != nil {
		return err
	}
	var errs []error
	for _, child := range children {
		_, _, err := e.do(ctx, child, opReap, "parent", func(ctx context.Context, op *operation) error {
			return e.endOp(ctx, op)
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// endOp kills a container and takes it to exited.
func (e *Engine) endOp(ctx context.Context, op *operation) error {
	h, l, err := e.holdLoaded(ctx, op.id)
	if errors.Is(err, containerizer.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer h.unlock()
	switch {
	case l.st.State.Alive():
		t, err := e.kill(ctx, op, h, l)
		if err != nil {
			return err
		}
		return e.exitHeld(ctx, op, h, l, t)
	case l.st.State == containerizer.StateExited:
		return e.endChildren(ctx, op)
	}
	return e.finishCutOff(ctx, op, h, l)
}

// noteSignal remembers that sig was sent to l on somebody's wish, so that the
// termination can tell a kill from a crash.
func noteSignal(dir string, sig int) error {
	f, err := os.OpenFile(filepath.Join(dir, signalsFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return outOfSpace(err)
	}
	_, err = f.Write([]byte{byte(sig)})
	return errors.Join(err, f.Close())
}

// kill ends every process of l and returns how its own ended. What was alive
// before is not any more when it returns nil.
//
// Preconditions: h is l's lock.
func (e *Engine) kill(ctx context.Context, op *operation, h *held, l *loaded) (*containerizer.Termination, error) {
	e.step(op, "kill")
	ctx, cancel := e.detached(ctx)
	defer cancel()
	c := e.container(l)
	c.Ledger = ownedLedger{h.ledger, launcherOwner}
	s, err := e.launcher.Status(c)
	alive := err == nil && s.Running
	if alive && s.PID > 0 {
		if err := noteSignal(l.dir, int(unix.SIGKILL)); err != nil { // a full disk must not keep us from making room
			e.log.Warn("that a container is killed is not recorded", fieldID(l.id), fieldError(err))
		}
	}
	if err := e.killAll(ctx, h, c); err != nil {
		return nil, fmt.Errorf("kill the processes of container %q: %w", l.id, err)
	}
	if alive || err != nil { // it was not known how it ended
		s, err = e.launcher.Status(c)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("kill container %q: %w", l.id, err)
	case s.Termination != nil:
		return s.Termination, nil
	case !s.Known:
		return lostTermination("it was killed when its monitor was gone"), nil
	case s.PID == 0: // a pod sandbox has no process that could end
		return &containerizer.Termination{Reason: containerizer.ReasonCompleted, FinishedAt: time.Now().UTC()}, nil
	}
	if err := e.launcher.Signal(ctx, c, int(unix.SIGKILL)); err != nil && !errors.Is(err, containerizer.ErrFailedPrecondition) && !errors.Is(err, containerizer.ErrNotFound) {
		return nil, fmt.Errorf("kill container %q: %w", l.id, err)
	}
	t, err := e.launcher.Wait(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("wait for the end of container %q after SIGKILL: %w", l.id, err)
	}
	return t, nil
}

// killAll ends whatever is in the container's control groups.
func (e *Engine) killAll(ctx context.Context, h *held, c *containerizer.Container) error {
	if e.freezer == nil {
		return nil
	}
	return e.freezer.KillAll(ctx, forIsolator(c, h, e.freezerName()))
}
