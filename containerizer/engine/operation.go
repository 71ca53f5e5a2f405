package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// opKind says what an operation does.
type opKind string

const (
	opPrepare opKind = "prepare"
	opLaunch  opKind = "launch"
	opStart   opKind = "start"
	opReap    opKind = "reap"
	opPause   opKind = "pause"
	opResume  opKind = "resume"
	opUpdate  opKind = "update"
	opRename  opKind = "rename"
	opDestroy opKind = "destroy"
	opRecover opKind = "recover"
)

// givesWay says whether a Destroy cuts an operation short.
func (k opKind) givesWay() bool { return k == opPrepare || k == opLaunch || k == opStart }

// operation is one change of one container. It belongs to the engine: callers
// come and go.
type operation struct {
	id     containerizer.ContainerID
	kind   opKind
	hash   string // of the request; callers with the same kind and hash join
	cancel context.CancelCauseFunc
	began  time.Time
	stage  atomic.Pointer[string]

	// settled is closed once the container's end is recorded, if it comes to that.
	settled     chan struct{}
	termination *containerizer.Termination // set before settled is closed

	done chan struct{}
	// Set before done is closed.
	err     error
	session containerizer.Session

	abandoned bool // nobody waits for the session; guarded by Engine.mu
}

// settle publishes how the operation's container ended.
func (o *operation) settle(t *containerizer.Termination) {
	if o.termination == nil {
		o.termination = t
		close(o.settled)
	}
}

// errGivesWay is the cause with which a Destroy cancels a launch.
var errGivesWay = fmt.Errorf("the container is being destroyed: %w", containerizer.ErrFailedPrecondition)

// late names the operation for a caller that waited in vain.
func (o *operation) late(cause error) error {
	stage := "begin"
	if s := o.stage.Load(); s != nil {
		stage = *s
	}
	return fmt.Errorf("%s of container %q goes on (at %q for %s since its begin): %w", o.kind, o.id, stage, time.Since(o.began).Round(time.Millisecond), cause)
}

// do runs f as the operation of kind on id, or joins the one that runs already.
// An operation of another kind is waited for. joined says that it was not f that
// ran.
func (e *Engine) do(ctx context.Context, id containerizer.ContainerID, kind opKind, hash string, f func(ctx context.Context, op *operation) error) (op *operation, joined bool, err error) {
	for {
		op, mine, err := e.begin(ctx, id, kind, hash, f)
		if err != nil {
			return nil, false, err
		}
		if !mine && kind == opDestroy && op.kind.givesWay() {
			op.cancel(errGivesWay)
		}
		select {
		case <-op.done:
		case <-ctx.Done():
			if mine {
				e.abandon(op)
			}
			return nil, !mine, op.late(context.Cause(ctx))
		}
		if mine || (op.kind == kind && op.hash == hash) {
			return op, !mine, op.err
		}
	}
}

// nested marks the contexts of operations: what an operation begins on children is
// part of it, and goes on when the engine is being closed.
type nested struct{}

// begin registers and starts an operation unless another one runs on id.
func (e *Engine) begin(ctx context.Context, id containerizer.ContainerID, kind opKind, hash string, f func(ctx context.Context, op *operation) error) (op *operation, mine bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, fmt.Errorf("%s container %q: %w", kind, id, context.Cause(ctx))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if other := e.ops[id]; other != nil {
		return other, false, nil
	}
	if e.closed && ctx.Value(nested{}) == nil {
		return nil, false, fmt.Errorf("%s container %q: the engine is closed: %w", kind, id, containerizer.ErrUnavailable)
	}
	opCtx, cancel := context.WithCancelCause(context.WithValue(context.WithoutCancel(ctx), nested{}, true))
	op = &operation{id: id, kind: kind, hash: hash, cancel: cancel, began: time.Now(), settled: make(chan struct{}), done: make(chan struct{})}
	e.ops[id] = op
	e.wg.Go(func() {
		defer cancel(nil)
		ctx, end := containerizer.Span(opCtx, e.opts.Tracer, id, string(kind), "")
		op.err = f(ctx, op)
		end(op.err)
		if e.opts.OnOperation != nil {
			e.opts.OnOperation(id, string(kind), time.Since(op.began), op.err)
		}
		e.mu.Lock()
		delete(e.ops, id)
		close(op.done)
		orphan := op.abandoned
		e.mu.Unlock()
		if orphan && op.session != nil {
			op.session.Detach()
		}
	})
	return op, true, nil
}

// abandon lets go of the session that op has or will have.
func (e *Engine) abandon(op *operation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-op.done:
		if op.session != nil {
			op.session.Detach()
		}
	default:
		op.abandoned = true
	}
}

// cancelPoll is how often an operation that takes long looks whether another
// process asks it to give way.
const cancelPoll = 50 * time.Millisecond

// heedCancel cancels op when the container's cancel file appears. The returned
// function ends that.
func heedCancel(op *operation, dir string) (stop func()) {
	path := filepath.Join(dir, cancelFile)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(cancelPoll)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				if _, err := os.Lstat(path); err == nil {
					op.cancel(errGivesWay)
					return
				}
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// askToGiveWay makes the process that launches in dir cancel.
func askToGiveWay(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, cancelFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// detached is ctx without its end, but with one of its own.
func (e *Engine) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), e.opts.CleanupTimeout)
}

// causeOf prefers the cause for which ctx was cancelled to what came of it.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return err
}
