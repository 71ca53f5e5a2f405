package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-dev/berth/containerizer"
)

// Start implements [containerizer.Lifecycle]. It is a no-op for a container that
// runs already.
func (e *Engine) Start(ctx context.Context, id containerizer.ContainerID, o containerizer.LaunchOptions) (containerizer.Session, error) {
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	op, joined, err := e.do(ctx, id, opStart, "", func(ctx context.Context, op *operation) error {
		return e.startOp(ctx, op, o)
	})
	return e.sessionOf(ctx, op, joined, id, o, err)
}

func (e *Engine) startOp(ctx context.Context, op *operation, o containerizer.LaunchOptions) error {
	e.step(op, "start.lock")
	h, l, err := e.holdLoaded(ctx, op.id)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer h.unlock()
	if t := e.ended(l); t != nil && l.st.State.Alive() {
		if err := e.exitHeld(ctx, op, h, l, t); err != nil {
			return err
		}
		if l.spec.AutoRemove {
			return fmt.Errorf("start container %q: it has ended and was removed: %w", l.id, containerizer.ErrNotFound)
		}
	}
	switch l.st.State {
	case containerizer.StateRunning, containerizer.StatePaused:
		if o.Attach != nil {
			op.session, err = e.launcher.Attach(ctx, e.container(l), *o.Attach)
		}
		return err
	case containerizer.StateCreated:
		return e.startHeld(ctx, op, h, l, o)
	case containerizer.StateExited:
		return e.restart(ctx, op, h, l, o)
	case containerizer.StatePreparing:
		if l.st.Termination != nil { // an earlier start was cut off
			if err := e.backToExited(ctx, op, h, l); err != nil {
				return err
			}
			return e.restart(ctx, op, h, l, o)
		}
	case containerizer.StateDestroying, containerizer.StateDestroyed:
	}
	return fmt.Errorf("start container %q: it is %s, and what did that was cut off; remove it: %w", l.id, l.st.State, containerizer.ErrFailedPrecondition)
}

// startHeld lets a created container run.
//
// Preconditions: h is l's lock, and l is created.
func (e *Engine) startHeld(ctx context.Context, op *operation, h *held, l *loaded, o containerizer.LaunchOptions) (err error) {
	if o.Attach != nil && o.Attach.Files != nil {
		return fmt.Errorf("start container %q: descriptors can be handed over at launch only: %w", l.id, containerizer.ErrUnsupported)
	}
	mark := ledgerEntry{ownEntries, kindOp, string(opStart)}
	if h.ledger.snapshot().has(ownEntries, kindOp) {
		cause := fmt.Errorf("start container %q: an earlier start was cut off, so it was ended: %w", l.id, containerizer.ErrFailedPrecondition)
		return e.failedStart(context.WithoutCancel(ctx), op, h, l, cause)
	}
	if err := h.ledger.add(mark); err != nil {
		return err
	}
	c := e.container(l)
	if o.Attach != nil {
		if op.session, err = e.launcher.Attach(ctx, c, *o.Attach); err != nil {
			return errors.Join(fmt.Errorf("start container %q: %w", l.id, err), h.ledger.drop(mark))
		}
	}
	err = e.beforeStart(ctx, op, h, c)
	if err == nil {
		e.step(op, "start.process")
		err = e.launcher.Start(ctx, c)
	}
	if err != nil {
		if op.session != nil {
			op.session.Detach()
			op.session = nil
		}
		return e.failedStart(context.WithoutCancel(ctx), op, h, l, fmt.Errorf("start container %q: %w", l.id, causeOf(ctx, err)))
	}
	e.step(op, "start.state")
	if err := l.become(containerizer.StateRunning); err != nil {
		return err
	}
	s, err := e.launcher.Status(c)
	if err != nil {
		return fmt.Errorf("start container %q: %w", l.id, err)
	}
	l.st.PID, l.st.StartedAt = s.PID, s.StartedAt
	if err := e.saveAll(l); err != nil {
		return err
	}
	e.event(l.id, nil, containerizer.EventStarted)
	return h.ledger.drop(mark)
}

// failedStart takes a created container whose start failed to exited.
func (e *Engine) failedStart(ctx context.Context, op *operation, h *held, l *loaded, cause error) error {
	t := commandTermination(cause)
	if t == nil {
		t = &containerizer.Termination{
			ExitCode: 128, WaitStatus: 128 << 8, Reason: containerizer.ReasonLaunchFailed, Message: cause.Error(),
		}
	}
	if _, err := e.kill(ctx, op, h, l); err != nil {
		return errors.Join(cause, e.owe(l, err))
	}
	return errors.Join(cause, e.exitHeld(ctx, op, h, l, t), h.ledger.drop(ledgerEntry{ownEntries, kindOp, string(opStart)}))
}

// restart launches an exited container anew, on the writable layer it has.
//
// Preconditions: h is l's lock, and l is exited.
func (e *Engine) restart(ctx context.Context, op *operation, h *held, l *loaded, o containerizer.LaunchOptions) error {
	if !l.id.IsRoot() {
		if err := e.checkParent(l.id.Parent()); err != nil {
			return fmt.Errorf("start container %q: %w", l.id, err)
		}
	}
	if err := e.releaseExited(ctx, op, h, l); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	e.step(op, "start.prepare")
	if err := l.become(containerizer.StatePreparing); err != nil {
		return err
	}
	if err := h.ledger.add(e.launchEntries(l.spec)...); err != nil {
		return err
	}
	l.st.RestartCount++
	if err := e.save(l); err != nil {
		return err
	}
	return e.bringUpOrUndo(ctx, op, h, l, o)
}
