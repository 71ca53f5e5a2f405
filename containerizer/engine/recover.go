package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// Recover implements [containerizer.Engine]. It may run beside other processes of
// berth: what they work on is left alone, and no container is placed while
// isolators, launcher and provisioner look for what belongs to none.
func (e *Engine) Recover(ctx context.Context, repair bool) (*containerizer.RecoverReport, error) {
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	r := &recovery{e: e, repair: repair}
	for _, step := range []func(context.Context) error{r.records, r.containers, r.names, r.sandboxes, r.strangers} {
		if err := step(ctx); err != nil {
			return &r.report, fmt.Errorf("recover: %w", err)
		}
	}
	return &r.report, nil
}

// recovery is one run of Recover.
type recovery struct {
	e      *Engine
	repair bool
	report containerizer.RecoverReport
}

// fix runs f when repairs are wanted, and reports what was found.
func (r *recovery) fix(found string, f func() error) {
	if r.repair {
		if err := f(); err != nil {
			r.report.Owed = append(r.report.Owed, found+": "+err.Error())
			return
		}
	}
	r.report.Repaired = append(r.report.Repaired, found)
}

// records brings in surviving records that the state folder lost, and removes
// those that nothing can be made of.
func (r *recovery) records(ctx context.Context) error {
	e := r.e
	base := filepath.Join(e.root, recordsFolder)
	ids, err := tree(base, "")
	if err != nil {
		return err
	}
	gate, err := e.enterGate(ctx, exclusive)
	if err != nil {
		return err
	}
	defer unlockClose(gate)
	missing := slices.DeleteFunc(ids, func(id containerizer.ContainerID) bool {
		_, err := os.Lstat(e.dir(id))
		return err == nil
	})
	if len(missing) == 0 {
		return nil
	}
	if r.repair {
		if err := e.importRecords(); err != nil {
			return err
		}
	}
	for _, id := range missing {
		if _, err := os.Lstat(e.dir(id)); r.repair && err == nil {
			r.report.Repaired = append(r.report.Repaired, fmt.Sprintf("container %q was known by its record only; it is listed as exited again", id))
			continue
		}
		var p persistent
		err := readJSON(filepath.Join(e.recordDir(id), recordFile), &p)
		if err == nil && !r.repair {
			r.report.Repaired = append(r.report.Repaired, fmt.Sprintf("container %q is known by its record only", id))
			continue
		}
		r.fix(fmt.Sprintf("the record of container %q is left over or damaged", id), func() error {
			return os.RemoveAll(e.recordDir(id))
		})
	}
	return nil
}

// containers finishes or undoes what was cut off, reaps what has ended unseen,
// and pays what is owed. Half-made folders go, too.
func (r *recovery) containers(ctx context.Context) error {
	base := filepath.Join(r.e.state, containersFolder)
	ids, err := tree(base, "")
	if err != nil {
		return err
	}
	slices.Reverse(ids) // children first
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		r.container(ctx, id)
	}
	found, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	for _, f := range found {
		unborn, dead := strings.HasPrefix(f.Name(), newPrefix), strings.HasPrefix(f.Name(), deadPrefix)
		path := filepath.Join(base, f.Name())
		if (unborn || dead) && r.abandonedFolder(path) {
			r.fix(fmt.Sprintf("folder %q was left half made", path), func() error { return os.RemoveAll(path) })
		}
	}
	return nil
}

// abandonedFolder says whether nobody works on the half-made folder path. One
// that has no ledger yet is not judged while it may be a moment old: the gate is
// asked for, which its maker is in.
func (r *recovery) abandonedFolder(path string) bool {
	if r.e.isHeld(path) {
		return false
	}
	gate, err := os.OpenFile(filepath.Join(r.e.state, gateFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false
	}
	defer unlockClose(gate)
	if ok, err := tryLock(gate, exclusive); err != nil || !ok {
		return false // next time
	}
	_, err = os.Lstat(path)
	return err == nil && !r.e.isHeld(path)
}

// container puts one container right.
func (r *recovery) container(ctx context.Context, id containerizer.ContainerID) {
	e := r.e
	l, err := e.load(id)
	if errors.Is(err, containerizer.ErrNotFound) {
		return
	}
	if err != nil {
		r.fix(fmt.Sprintf("container %q: its record is damaged (%v); it is removed", id, err), func() error { return e.Destroy(ctx, id) })
		return
	}
	if e.isHeld(l.dir) {
		r.report.Busy = append(r.report.Busy, id)
		return
	}
	found := r.finding(l)
	if found == "" {
		return
	}
	r.fix(fmt.Sprintf("container %q: %s", id, found), func() error {
		_, _, err := e.do(ctx, id, opRecover, "", e.recoverOp)
		return err
	})
}

// finding says what is wrong with l, "" for nothing.
func (r *recovery) finding(l *loaded) string {
	e := r.e
	ended := l.st.State.Alive() && e.ended(l) != nil
	switch {
	case l.st.State == containerizer.StateDestroying && len(l.st.Owed) > 0:
		return "its removal is owed: " + strings.Join(l.st.Owed, "; ")
	case e.interrupted(l):
		return fmt.Sprintf("a change was cut off while it was %s", l.st.State)
	case ended:
		return "it has ended and nobody noticed"
	case l.st.State == containerizer.StateExited && l.spec.AutoRemove:
		return "it has ended and was to be removed"
	case l.st.State == containerizer.StateExited && !l.st.Released:
		return "it has ended and still holds resources"
	}
	return ""
}

// recoverOp looks again under the lock, and puts right what is wrong.
func (e *Engine) recoverOp(ctx context.Context, op *operation) error {
	e.step(op, "recover.lock")
	h, l, err := e.holdLoaded(ctx, op.id)
	if errors.Is(err, containerizer.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer h.unlock()
	switch {
	case l.st.State == containerizer.StatePreparing, l.st.State == containerizer.StateDestroying:
		return e.finishCutOff(ctx, op, h, l)
	case l.st.State == containerizer.StateExited && l.spec.AutoRemove:
		return e.destroyHeld(ctx, op, h, l)
	case l.st.State == containerizer.StateExited:
		return errors.Join(e.dropMarks(h), e.releaseExited(ctx, op, h, l))
	}
	if t := e.ended(l); t != nil {
		return errors.Join(e.dropMarks(h), e.exitHeld(ctx, op, h, l, t))
	}
	if slices.Contains(h.ledger.snapshot().names(ownEntries, kindOp), string(opStart)) {
		return e.endCutOffStart(ctx, op, h, l)
	}
	return e.settleCutOff(ctx, h, l)
}

// endCutOffStart ends a created container of which nobody knows whether it was
// let go.
func (e *Engine) endCutOffStart(ctx context.Context, op *operation, h *held, l *loaded) error {
	t, err := e.kill(ctx, op, h, l)
	if err != nil {
		return e.owe(l, err)
	}
	return errors.Join(e.dropMarks(h), e.exitHeld(ctx, op, h, l, t))
}

func (*Engine) dropMarks(h *held) error {
	var errs []error
	for _, name := range h.ledger.snapshot().names(ownEntries, kindOp) {
		errs = append(errs, h.ledger.drop(ledgerEntry{ownEntries, kindOp, name}))
	}
	return errors.Join(errs...)
}

// settleCutOff makes a living container what its record says, after a change was
// cut off: frozen or not, and within its recorded limits.
//
// Preconditions: h is l's lock.
func (e *Engine) settleCutOff(ctx context.Context, h *held, l *loaded) error {
	for _, name := range h.ledger.snapshot().names(ownEntries, kindOp) {
		c := e.container(l)
		var err error
		switch opKind(name) {
		case opPause, opResume:
			if e.freezer == nil {
				err = fmt.Errorf("no configured isolator can freeze processes: %w", containerizer.ErrUnsupported)
			} else if l.st.State == containerizer.StatePaused {
				err = e.freezer.Freeze(ctx, forIsolator(c, h, e.freezerName()))
			} else {
				err = e.freezer.Thaw(ctx, forIsolator(c, h, e.freezerName()))
			}
		case opUpdate:
			err = e.updateIsolators(ctx, h, l, &l.spec.Resources, l.spec.Resources)
		default:
			err = fmt.Errorf("a %s was cut off; recover or remove it: %w", name, containerizer.ErrFailedPrecondition)
		}
		if err != nil {
			return fmt.Errorf("container %q: %w", l.id, err)
		}
		if err := h.ledger.drop(ledgerEntry{ownEntries, kindOp, name}); err != nil {
			return err
		}
	}
	return nil
}

// names removes names that no container has.
func (r *recovery) names(context.Context) error {
	found, err := os.ReadDir(filepath.Join(r.e.state, namesFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range found {
		if strings.HasPrefix(f.Name(), ".") {
			continue
		}
		if r.e.lookupName(f.Name()) == "" {
			r.fix(fmt.Sprintf("name %q belongs to no container", f.Name()), func() error { return r.e.dropStaleName(f.Name()) })
		}
	}
	return nil
}

// strangers lets everybody with state of their own release what belongs to no
// container. They cannot look without releasing, so this needs repair.
func (r *recovery) strangers(ctx context.Context) error {
	if !r.repair {
		return nil
	}
	e := r.e
	gate, err := e.enterGate(ctx, exclusive)
	if err != nil {
		return err
	}
	defer unlockClose(gate)
	ids, err := tree(filepath.Join(e.state, containersFolder), "")
	if err != nil {
		return err
	}
	live := make([]*containerizer.Container, 0, len(ids))
	for _, id := range ids {
		l, err := e.load(id)
		if err != nil {
			l = &loaded{id: id, dir: e.dir(id)}
		}
		live = append(live, e.container(l))
	}
	e.recoverWith(ctx, r, "launcher", e.launcher, live)
	for _, iso := range slices.Backward(e.isolators) {
		e.recoverWith(ctx, r, iso.Name(), iso, live)
	}
	e.recoverWith(ctx, r, "provisioner", e.provisioner, live)
	return nil
}

func (e *Engine) recoverWith(ctx context.Context, r *recovery, name string, who any, live []*containerizer.Container) {
	rec, is := who.(containerizer.Recoverer)
	if !is {
		return
	}
	mine := make([]*containerizer.Container, len(live))
	for i, c := range live {
		mine[i] = forIsolator(c, nil, name)
	}
	ctx, cancel := e.detached(ctx)
	defer cancel()
	orphans, err := rec.Recover(ctx, mine)
	for _, id := range orphans {
		r.report.Repaired = append(r.report.Repaired, fmt.Sprintf("%s: released what was left of container %q", name, id))
	}
	if err != nil {
		r.report.Owed = append(r.report.Owed, fmt.Sprintf("%s: %v", name, err))
	}
}
