package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/berth-dev/berth/containerizer"
)

// Destroy implements [containerizer.Lifecycle].
func (e *Engine) Destroy(ctx context.Context, id containerizer.ContainerID) error {
	if err := e.ready(ctx); err != nil {
		return err
	}
	_, _, err := e.do(ctx, id, opDestroy, "", e.destroyOp)
	return err
}

func (e *Engine) destroyOp(ctx context.Context, op *operation) error {
	e.step(op, "destroy.lock")
	dir := e.dir(op.id)
	var asked error
	h, err := e.hold(ctx, op.id, func() { asked = askToGiveWay(dir) })
	switch {
	case errors.Is(err, containerizer.ErrNotFound):
		return nil
	case err != nil:
		return errors.Join(err, asked)
	}
	defer h.unlock()
	l, err := e.load(op.id)
	if err != nil { // damaged: the ledger is enough
		e.log.Warn("destroying a container whose record is damaged", fieldID(op.id), fieldError(err))
		l = &loaded{id: op.id, dir: dir, st: status{State: containerizer.StatePreparing}}
	}
	return e.destroyHeld(ctx, op, h, l)
}

// destroyHeld takes a container from any state to nothing, its children first.
// What fails is owed: the container stays, destroying, and says so.
//
// Preconditions: h is l's lock.
func (e *Engine) destroyHeld(ctx context.Context, op *operation, h *held, l *loaded) error {
	ctx = context.WithoutCancel(ctx)
	e.step(op, "destroy.state")
	unseen := l.st.State.Alive() && !l.fresh
	if err := l.become(containerizer.StateDestroying); err != nil {
		return err
	}
	if err := e.save(l); err != nil {
		e.log.Warn("the state of a container is not recorded", fieldID(l.id), fieldError(err)) // a full disk must not keep us from making room
	}
	if l.fresh {
		e.published(op, l)
	}
	for {
		if err := e.destroyChildren(ctx, op); err != nil {
			return e.owe(l, err)
		}
		t, err := e.kill(ctx, op, h, l)
		if err != nil {
			return e.owe(l, err)
		}
		if unseen {
			l.st.Termination, unseen = e.finalTermination(ctx, h, l, t), false
			e.published(op, l)
		}
		if err := errors.Join(e.release(ctx, op, h, l), e.releaseRootfs(ctx, op, h, l), e.releaseSandbox(ctx, op, h, l)); err != nil {
			return e.owe(l, err)
		}
		err = e.forget(op, h, l)
		if errors.Is(err, errChildren) {
			continue
		}
		if err != nil {
			return e.owe(l, err)
		}
		e.event(l.id, l.st.Termination, containerizer.EventDestroyed)
		if len(l.st.Owed) > 0 {
			e.clearDebt(l.id)
		}
		return nil
	}
}

// owe records what could not be released, and returns it.
func (e *Engine) owe(l *loaded, err error) error {
	l.st.Owed = nil
	for _, one := range flatten(err) {
		l.st.Owed = append(l.st.Owed, one.Error())
	}
	err = fmt.Errorf("container %q still holds: %w", l.id, err)
	return errors.Join(err, e.save(l), e.noteDebt(l.id))
}

// flatten takes errors.Join apart.
func flatten(err error) []error {
	joined, is := err.(interface{ Unwrap() []error }) // the outermost join only
	if !is {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

func (e *Engine) destroyChildren(ctx context.Context, op *operation) error {
	children, err := childIDs(filepath.Join(e.state, containersFolder), op.id)
	if err != nil {
		return err
	}
	var errs []error
	for _, child := range children {
		_, _, err := e.do(ctx, child, opDestroy, "", e.destroyOp)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// releaseExited releases what an exited container does not need, and records
// that or what is owed.
//
// Preconditions: h is l's lock, and l is exited.
func (e *Engine) releaseExited(ctx context.Context, op *operation, h *held, l *loaded) error {
	if l.st.Released {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := e.kill(ctx, op, h, l); err != nil {
		return e.owe(l, err)
	}
	if err := e.release(ctx, op, h, l); err != nil {
		return e.owe(l, err)
	}
	e.step(op, "release.state")
	if err := os.Remove(filepath.Join(l.dir, signalsFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return e.owe(l, err)
	}
	if err := os.Remove(filepath.Join(l.dir, limitationFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return e.owe(l, err)
	}
	if len(l.st.Owed) > 0 {
		e.clearDebt(l.id)
	}
	l.st.Released, l.st.Owed = true, nil
	return e.saveAll(l)
}

// release runs the ledger backwards but for the root filesystem: launcher, then
// isolators from the last to the first. An isolator that fails does not keep the
// others from being tried.
//
// Preconditions: h is l's lock, and no process of l is left.
func (e *Engine) release(ctx context.Context, op *operation, h *held, l *loaded) error {
	c := e.container(l)
	err := e.undo(ctx, op, h, processEntry(), func(ctx context.Context) error {
		if err := e.launcher.Cleanup(ctx, forIsolator(c, h, launcherOwner)); err != nil {
			return fmt.Errorf("launcher: %w", err)
		}
		return nil
	})
	if err != nil { // the monitor may still hold what isolators are about to take away
		return err
	}
	var errs []error
	for _, name := range slices.Backward(h.ledger.snapshot().names(ownEntries, kindIsolator)) {
		errs = append(errs, e.undo(ctx, op, h, ledgerEntry{ownEntries, kindIsolator, name}, func(ctx context.Context) error {
			return e.cleanupIsolator(ctx, h, c, name)
		}))
	}
	return errors.Join(errs...)
}

// releaseRootfs gives up what was provisioned for l.
//
// Preconditions: h is l's lock, and no process of l is left.
func (e *Engine) releaseRootfs(ctx context.Context, op *operation, h *held, l *loaded) error {
	return e.undo(ctx, op, h, imageEntry(), func(ctx context.Context) error {
		if e.provisioner == nil {
			return fmt.Errorf("the root filesystem: this engine has no provisioner: %w", containerizer.ErrUnsupported)
		}
		if err := e.provisioner.Destroy(ctx, l.id); err != nil {
			return fmt.Errorf("root filesystem: %w", err)
		}
		return nil
	})
}

// undo runs f for entry, if the ledger has it, and strikes it out when f succeeds.
func (e *Engine) undo(ctx context.Context, op *operation, h *held, entry ledgerEntry, f func(context.Context) error) error {
	if !h.ledger.has(entry) {
		return nil
	}
	e.step(op, "release."+entry.kind)
	ctx, end := containerizer.Span(ctx, e.opts.Tracer, op.id, "release", entry.kind)
	ctx, cancel := e.detached(ctx)
	defer cancel()
	err := f(ctx)
	end(err)
	if err != nil {
		return err
	}
	return h.ledger.drop(entry)
}

func (e *Engine) cleanupIsolator(ctx context.Context, h *held, c *containerizer.Container, name string) error {
	for _, iso := range e.isolators {
		if iso.Name() != name {
			continue
		}
		ctx, end := containerizer.Span(ctx, e.opts.Tracer, c.ID, "isolator", name)
		err := iso.Cleanup(ctx, forIsolator(c, h, name))
		end(err)
		if err != nil {
			return fmt.Errorf("isolator %q: %w", name, err)
		}
		return nil
	}
	if !slices.ContainsFunc(h.ledger.snapshot(), func(e ledgerEntry) bool { return e.owner == name }) {
		return nil // it is not configured any more and held nothing
	}
	return fmt.Errorf("isolator %q is not configured any more; configure it again to release what it holds: %w", name, containerizer.ErrUnsupported)
}

// forget removes names and records of a container that holds nothing else.
func (e *Engine) forget(op *operation, h *held, l *loaded) error {
	e.step(op, "forget.name")
	for _, name := range h.ledger.snapshot().names(ownEntries, kindName) {
		if err := e.releaseName(h.ledger, name, l.id); err != nil {
			return err
		}
	}
	e.step(op, "forget.record")
	if l.spec == nil || l.survives() {
		if err := os.RemoveAll(e.recordDir(l.id)); err != nil {
			return fmt.Errorf("remove the record: %w", err)
		}
	}
	e.step(op, "forget.state")
	if err := e.remove(h); err != nil {
		return err
	}
	e.requests.drop(l.id)
	e.statuses.drop(l.id)
	e.parents.drop(l.id)
	e.execBases.drop(l.id)
	e.samples.drop(l.id)
	return nil
}
