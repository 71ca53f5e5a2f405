package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// Prepare implements [containerizer.Lifecycle].
func (e *Engine) Prepare(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec) error {
	_, err := e.create(ctx, opPrepare, id, spec, containerizer.LaunchOptions{})
	return err
}

// Launch implements [containerizer.Lifecycle].
func (e *Engine) Launch(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec, o containerizer.LaunchOptions) (containerizer.Session, error) {
	return e.create(ctx, opLaunch, id, spec, o)
}

// create is Prepare and Launch.
func (e *Engine) create(ctx context.Context, kind opKind, id containerizer.ContainerID, spec *containerizer.Spec, o containerizer.LaunchOptions) (containerizer.Session, error) {
	if err := ValidateSpec(id, spec); err != nil {
		return nil, err
	}
	if err := e.checkRuntime(spec); err != nil {
		return nil, err
	}
	if err := checkSecretEnv(o.SecretEnv); err != nil {
		return nil, err
	}
	if err := e.ready(ctx); err != nil {
		return nil, err
	}
	req, err := newRequest(id, spec)
	if err != nil {
		return nil, err
	}
	op, joined, err := e.do(ctx, id, kind, req.Hash, func(ctx context.Context, op *operation) error {
		return e.createOp(ctx, op, req, spec, o)
	})
	return e.sessionOf(ctx, op, joined, id, o, err)
}

// checkRuntime refuses an OCI runtime that the launcher does not know.
func (e *Engine) checkRuntime(spec *containerizer.Spec) error {
	if spec.Runtime == "" {
		return nil
	}
	if r, is := e.launcher.(containerizer.RuntimeChecker); is {
		return r.CheckRuntime(spec.Runtime)
	}
	return fmt.Errorf("OCI runtime %q: this engine launches natively: %w", spec.Runtime, containerizer.ErrUnsupported)
}

// sessionOf returns the session of the caller's own operation; who joined one
// attaches to its result.
func (e *Engine) sessionOf(ctx context.Context, op *operation, joined bool, id containerizer.ContainerID, o containerizer.LaunchOptions, err error) (containerizer.Session, error) {
	switch {
	case err != nil:
		return nil, err
	case joined && o.Attach != nil:
		return e.Attach(ctx, id, *o.Attach)
	case joined:
		return nil, nil
	}
	return op.session, nil
}

// createOp places the container and brings it up, or takes the one that exists
// for the same request.
func (e *Engine) createOp(ctx context.Context, op *operation, req *request, spec *containerizer.Spec, o containerizer.LaunchOptions) error {
	for {
		e.step(op, "create.place")
		l := &loaded{id: op.id, req: *req, spec: spec, st: status{State: containerizer.StatePreparing}}
		l.req.CreatedAt, l.req.Boot = time.Now().UTC(), e.bootID
		h, err := e.placeNew(ctx, l)
		if errors.Is(err, fs.ErrExist) {
			again, err := e.takeExisting(ctx, op, req, o)
			if again && err == nil {
				continue
			}
			return err
		}
		if err != nil {
			return err
		}
		defer h.unlock()
		return e.bringUpOrUndo(ctx, op, h, l, o)
	}
}

// launchEntries is what the ledger of a container that is about to be launched
// begins with: every step that teardown would have to undo. They are recorded at
// once, because undoing a step that was not reached is a no-op.
func (e *Engine) launchEntries(spec *containerizer.Spec) entries {
	first := make(entries, 0, len(e.isolators)+3)
	if spec.Image != nil || slices.ContainsFunc(spec.Mounts, func(m containerizer.Mount) bool { return m.Type == containerizer.MountImage }) {
		first = append(first, imageEntry())
	}
	if len(spec.Artifacts) > 0 {
		first = append(first, sandboxEntry())
	}
	for _, iso := range e.isolators {
		first = append(first, ledgerEntry{ownEntries, kindIsolator, iso.Name()})
	}
	return append(first, processEntry())
}

// placeNew makes l's folder below its parent's, which must be there and not on
// its way out.
func (e *Engine) placeNew(ctx context.Context, l *loaded) (*held, error) {
	gate, err := e.enterGate(ctx, shared)
	if err != nil {
		return nil, err
	}
	h, err := e.place(l, e.launchEntries(l.spec))
	unlockClose(gate)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !l.id.IsRoot():
		return nil, fmt.Errorf("container %q: its parent %q: %w", l.id, l.id.Parent(), containerizer.ErrNotFound)
	case err != nil:
		return nil, err
	case l.id.IsRoot():
		return h, nil
	}
	// A parent that is destroyed lists its children after it has become destroying,
	// and a child looks at the parent after it is there: one sees the other.
	if err := e.checkParent(l.id.Parent()); err != nil {
		err = errors.Join(fmt.Errorf("container %q: %w", l.id, err), e.remove(h))
		h.unlock()
		return nil, err
	}
	return h, nil
}

func (e *Engine) checkParent(id containerizer.ContainerID) error {
	p, err := e.load(id)
	if err != nil {
		return fmt.Errorf("its parent: %w", err)
	}
	if s := e.view(p).State; !s.Alive() {
		return fmt.Errorf("its parent %q is %s, not running: %w", id, s, containerizer.ErrFailedPrecondition)
	}
	return nil
}

// takeExisting answers a request for an id that is taken. again asks for another
// try, because what was there is gone now.
func (e *Engine) takeExisting(ctx context.Context, op *operation, req *request, o containerizer.LaunchOptions) (again bool, err error) {
	h, l, err := e.holdLoaded(ctx, op.id)
	if errors.Is(err, containerizer.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer h.unlock()
	switch {
	case l.st.State == containerizer.StateDestroying,
		l.st.State == containerizer.StatePreparing && l.st.Termination == nil:
		return true, e.destroyHeld(ctx, op, h, l) // left by a process that died
	case l.req.Hash != req.Hash:
		return false, fmt.Errorf("container %q: another container has this id: %w", op.id, containerizer.ErrAlreadyExists)
	case l.st.State == containerizer.StatePreparing:
		return false, fmt.Errorf("container %q: its start was cut off; start it again: %w", op.id, containerizer.ErrFailedPrecondition)
	case l.st.State == containerizer.StateCreated && op.kind == opLaunch:
		return false, e.startHeld(ctx, op, h, l, o)
	case o.Attach != nil && l.st.State.Alive():
		op.session, err = e.launcher.Attach(ctx, e.container(l), *o.Attach)
		return false, err
	}
	return false, nil // it was done before
}

// bringUpOrUndo launches the container in h. A command that cannot be executed
// leaves an exited container; after any other error a new container is gone and
// a restarted one is exited as before.
func (e *Engine) bringUpOrUndo(ctx context.Context, op *operation, h *held, l *loaded, o containerizer.LaunchOptions) error {
	stop := heedCancel(op, l.dir)
	defer stop()
	err := e.bringUp(ctx, op, h, l, o)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("launch container %q: %w", l.id, causeOf(ctx, err))
	if op.session != nil {
		op.session.Detach()
		op.session = nil
	}
	ctx = context.WithoutCancel(ctx)
	if t := commandTermination(err); t != nil {
		return errors.Join(err, e.exitHeld(ctx, op, h, l, t))
	}
	if l.st.Termination != nil { // it was exited before
		return errors.Join(err, e.backToExited(ctx, op, h, l))
	}
	return errors.Join(err, e.destroyHeld(ctx, op, h, l))
}

// commandTermination is how a container ends whose command cannot be executed;
// nil for other errors.
func commandTermination(err error) *containerizer.Termination {
	code := 0
	switch {
	case errors.Is(err, containerizer.ErrCommandNotFound):
		code = 127
	case errors.Is(err, containerizer.ErrCommandNotExecutable):
		code = 126
	default:
		return nil
	}
	return &containerizer.Termination{
		ExitCode: code, WaitStatus: uint32(code) << 8, Reason: containerizer.ReasonLaunchFailed,
		Message: err.Error(), FinishedAt: time.Now().UTC(),
	}
}

// backToExited undoes the restart of a container that has exited before.
func (e *Engine) backToExited(ctx context.Context, op *operation, h *held, l *loaded) error {
	if err := l.become(containerizer.StateExited); err != nil {
		return err
	}
	l.st.Released = false
	return e.releaseExited(ctx, op, h, l)
}

// withLog says where the log of a container goes that asks for no place.
func (e *Engine) withLog(l *loaded, s *containerizer.Spec) *containerizer.Spec {
	if s.Log.Driver != containerizer.LogFile || s.Log.Path != "" {
		return s
	}
	if l.survives() {
		s.Log.Path = filepath.Join(e.recordDir(l.id), logFile)
		return s
	}
	s.Log.Path = filepath.Join(l.dir, logFile)
	if s.Log.MaxSizeBytes == 0 {
		s.Log.MaxSizeBytes = e.opts.EphemeralLogBytes
	}
	return s
}

// makeRecordDir makes the folder that survives a reboot.
func (e *Engine) makeRecordDir(l *loaded) error {
	if !l.survives() {
		return nil
	}
	err := os.Mkdir(e.recordDir(l.id), 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.MkdirAll(e.recordDir(l.id), 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the record's folder: %w", outOfSpace(err))
	}
	return nil
}
