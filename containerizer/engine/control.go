package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// Pause implements [containerizer.Control]. A no-op for a paused container.
func (e *Engine) Pause(ctx context.Context, id containerizer.ContainerID) error {
	return e.freezeOp(ctx, id, opPause)
}

// Resume implements [containerizer.Control]. A no-op for a running container.
func (e *Engine) Resume(ctx context.Context, id containerizer.ContainerID) error {
	return e.freezeOp(ctx, id, opResume)
}

func (e *Engine) freezeOp(ctx context.Context, id containerizer.ContainerID, kind opKind) error {
	if e.freezer == nil {
		return fmt.Errorf("%s container %q: no configured isolator can freeze processes (the cgroups isolators can): %w", kind, id, containerizer.ErrUnsupported)
	}
	return e.change(ctx, id, kind, "", func(ctx context.Context, h *held, l *loaded) error {
		from, to, ev := containerizer.StateRunning, containerizer.StatePaused, containerizer.EventPaused
		act := e.freezer.Freeze
		if kind == opResume {
			from, to, ev = to, from, containerizer.EventResumed
			act = e.freezer.Thaw
		}
		switch l.st.State {
		case to:
			return nil
		case from:
		default:
			return fmt.Errorf("it is %s, not %s: %w", l.st.State, from, containerizer.ErrFailedPrecondition)
		}
		c := forIsolator(e.container(l), h, e.freezerName())
		if err := act(ctx, c); err != nil {
			if kind == opPause { // half frozen is worse than not
				uctx, cancel := e.detached(ctx)
				defer cancel()
				err = errors.Join(err, e.freezer.Thaw(uctx, c))
			}
			return err
		}
		if err := l.become(to); err != nil {
			return err
		}
		if err := e.save(l); err != nil {
			return err
		}
		e.event(id, nil, ev)
		return nil
	})
}

// change runs f as an operation on a container whose process lives. The ledger
// tells of it as long as it takes.
func (e *Engine) change(ctx context.Context, id containerizer.ContainerID, kind opKind, hash string, f func(context.Context, *held, *loaded) error) error {
	if err := e.ready(ctx); err != nil {
		return err
	}
	_, _, err := e.do(ctx, id, kind, hash, func(ctx context.Context, op *operation) error {
		e.step(op, string(kind)+".lock")
		h, l, err := e.holdLoaded(ctx, id)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		defer h.unlock()
		if t := e.ended(l); t != nil {
			return fmt.Errorf("%s container %q: it has ended: %w", kind, id, containerizer.ErrFailedPrecondition)
		}
		if err := e.settleCutOff(ctx, h, l); err != nil {
			return err
		}
		mark := ledgerEntry{ownEntries, kindOp, string(kind)}
		if err := h.ledger.add(mark); err != nil {
			return err
		}
		e.step(op, string(kind)+".act")
		if err = f(ctx, h, l); err != nil {
			err = fmt.Errorf("%s container %q: %w", kind, id, err)
		}
		e.step(op, string(kind)+".done")
		return errors.Join(err, h.ledger.drop(mark))
	})
	return err
}

// Exec implements [containerizer.Control]. It takes no lock: any number of
// sessions may begin while a change of the container is in progress.
func (e *Engine) Exec(ctx context.Context, id containerizer.ContainerID, p *containerizer.Process, io *containerizer.IO) (containerizer.ExecProcess, error) {
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	if err := validateProcess(p); err != nil {
		return nil, fmt.Errorf("execute in container %q: %w", id, err)
	}
	l, err := e.read(id)
	if err != nil {
		return nil, fmt.Errorf("execute: %w", err)
	}
	if s := e.view(l).State; s != containerizer.StateRunning {
		return nil, fmt.Errorf("execute in container %q: it is %s, not running: %w", id, s, containerizer.ErrFailedPrecondition)
	}
	base, err := e.execBase(l)
	if err != nil {
		return nil, fmt.Errorf("execute in container %q: %w", id, err)
	}
	proc, err := execProcess(*p, base.spec.Process)
	if err != nil {
		return nil, fmt.Errorf("execute in container %q: %w", id, err)
	}
	spec, info := *base.spec, *base.info
	c := e.container(l)
	c.Spec, c.Launch = &spec, &info
	session := id.Child("exec-" + strings.ToLower(rand.Text()[:13]))
	x, err := e.launcher.Exec(ctx, containerizer.ExecRequest{Container: c, Info: c.Launch, Process: &proc, ID: session, IO: io})
	if err != nil {
		return nil, fmt.Errorf("execute in container %q: %w", id, err)
	}
	return x, nil
}

// Attach implements [containerizer.Control].
func (e *Engine) Attach(ctx context.Context, id containerizer.ContainerID, io containerizer.IO) (containerizer.Session, error) {
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	l, err := e.alive(id)
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	s, err := e.launcher.Attach(ctx, e.container(l), io)
	if err != nil {
		return nil, fmt.Errorf("attach to container %q: %w", id, err)
	}
	return s, nil
}

// ReopenLog implements [containerizer.Engine].
func (e *Engine) ReopenLog(ctx context.Context, id containerizer.ContainerID) error {
	if err := e.ready(ctx); err != nil {
		return err
	}
	l, err := e.alive(id)
	if err != nil {
		return fmt.Errorf("reopen the log: %w", err)
	}
	if err := e.launcher.Reopen(ctx, e.container(l)); err != nil {
		return fmt.Errorf("reopen the log of container %q: %w", id, err)
	}
	return nil
}

// Rename implements [containerizer.Engine]. The empty name takes the name away.
func (e *Engine) Rename(ctx context.Context, id containerizer.ContainerID, name string) error {
	if err := e.ready(ctx); err != nil {
		return err
	}
	if !id.IsRoot() {
		return fmt.Errorf("rename container %q: only root containers have names: %w", id, containerizer.ErrInvalid)
	}
	if err := validateName(name); err != nil {
		return fmt.Errorf("rename container %q: %w", id, err)
	}
	_, _, err := e.do(ctx, id, opRename, name, func(ctx context.Context, op *operation) error {
		return e.renameOp(ctx, op, name)
	})
	return err
}

// renameOp has both names for a moment, so that neither can be taken for left over.
func (e *Engine) renameOp(ctx context.Context, op *operation, name string) error {
	e.step(op, "rename.lock")
	h, l, err := e.holdLoaded(ctx, op.id)
	if err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	defer h.unlock()
	old := l.names()
	if len(old) == 1 && old[0] == name || len(old) == 0 && name == "" {
		return nil
	}
	if name != "" {
		l.st.Names = append(slices.Clone(old), name)
		if err := e.save(l); err != nil {
			return err
		}
		e.step(op, "rename.claim")
		if err := e.claimName(h.ledger, name, op.id); err != nil {
			l.st.Names = old
			return errors.Join(fmt.Errorf("rename container %q: %w", op.id, err), h.ledger.drop(ledgerEntry{ownEntries, kindName, name}), e.save(l))
		}
	}
	e.step(op, "rename.release")
	l.st.Names = []string{name}
	if err := e.saveAll(l); err != nil {
		return err
	}
	var errs []error
	for _, o := range old {
		if o != name {
			errs = append(errs, e.releaseName(h.ledger, o, op.id))
		}
	}
	e.event(op.id, nil, containerizer.EventRenamed)
	return errors.Join(errs...)
}
