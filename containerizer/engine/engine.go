package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

// Defaults of Options.
const (
	defaultStopTimeout       = 10 * time.Second
	defaultCleanupTimeout    = time.Minute
	defaultEphemeralLogBytes = 16 << 20
)

// Options are the collaborators and settings of an engine.
type Options struct {
	// Root is the folder of what survives a reboot, such as "/var/lib/berth".
	Root string
	// State is the folder of what does not, such as "/run/berth".
	State string

	// Launcher makes the processes.
	Launcher containerizer.Launcher
	// Provisioner makes root filesystems from images; nil refuses images.
	Provisioner containerizer.Provisioner
	// Artifacts fetches what containers find in their sandbox; nil refuses artifacts.
	Artifacts containerizer.ArtifactFetcher
	// Isolators in the order in which they prepare.
	Isolators []containerizer.Isolator
	// Log is where the engine tells what it does; nil is nowhere.
	Log *log.Logger

	// Resident engines answer List from a snapshot: for processes that live long.
	Resident bool
	// CleanupTimeout bounds each step of a teardown; what takes longer is owed. 0 is
	// one minute.
	CleanupTimeout time.Duration
	// EphemeralLogBytes bounds the log of a container with AutoRemove that asks for
	// no size, because that log is kept in State, in memory as a rule. 0 is 16 MiB.
	EphemeralLogBytes int64
	// UsageShare is how old a sample of Usage may be that another reader gets; 0 is 200
	// milliseconds.
	UsageShare time.Duration
	// Tracer hears of operations and of what they wait for; nil is nobody.
	Tracer containerizer.Tracer
	// OnStep, when set, is called with its name before each step of an operation, in
	// the operation's goroutine. It serves tracing, and tests that cut an operation
	// off at every step.
	OnStep func(id containerizer.ContainerID, step string)
	// OnOperation, when set, is called when an operation has ended, likewise.
	OnOperation func(id containerizer.ContainerID, kind string, took time.Duration, err error)
}

// Engine is the embedded engine. It is safe for concurrent use, and so are
// several engines, in several processes, over the same folders.
type Engine struct {
	root, state string
	opts        Options
	log         *log.Logger

	launcher    containerizer.Launcher
	provisioner containerizer.Provisioner
	isolators   []containerizer.Isolator
	freezer     containerizer.Freezer // nil when no isolator is one
	barriers    []barrier

	readyMu sync.Mutex
	isReady bool
	bootID  string // valid once isReady

	journal  journal
	requests memo[made]
	statuses memo[status]
	parents  memo[*launchRecord]
	// What exec sessions begin from.
	execBases execBases
	samples   samples
	snapshot  snapshot

	mu     sync.Mutex
	ops    map[containerizer.ContainerID]*operation // in progress, by container
	closed bool
	quit   chan struct{}  // closed with Close
	wg     sync.WaitGroup // of operations and readers of events
}

// barrier is an isolator with work to do at the barrier of a launch.
type barrier struct {
	name string
	containerizer.ProcessIsolator
}

var _ containerizer.Engine = (*Engine)(nil)

// New returns an engine over the folders of o. It touches no file: folders are
// made with the first container, and what earlier engines left is looked at when
// it is asked for.
func New(o Options) (*Engine, error) {
	if o.Launcher == nil {
		return nil, fmt.Errorf("make an engine: it needs a launcher: %w", containerizer.ErrInvalid)
	}
	if !filepath.IsAbs(o.Root) || !filepath.IsAbs(o.State) {
		return nil, fmt.Errorf("make an engine: root %q and state %q must be absolute paths: %w", o.Root, o.State, containerizer.ErrInvalid)
	}
	if o.CleanupTimeout == 0 {
		o.CleanupTimeout = defaultCleanupTimeout
	}
	if o.EphemeralLogBytes == 0 {
		o.EphemeralLogBytes = defaultEphemeralLogBytes
	}
	if o.UsageShare == 0 {
		o.UsageShare = defaultUsageShare
	}
	e := &Engine{
		parents: memo[*launchRecord]{most: maxParents},
		root:    filepath.Clean(o.Root), state: filepath.Clean(o.State), opts: o, log: o.Log,
		launcher: o.Launcher, provisioner: o.Provisioner, isolators: o.Isolators,
		ops: map[containerizer.ContainerID]*operation{}, quit: make(chan struct{}),
	}
	e.journal.folder = filepath.Join(e.state, journalFolder)
	seen := map[string]bool{ownEntries: true, launcherOwner: true}
	for _, iso := range o.Isolators {
		if name := iso.Name(); seen[name] || name == "" || hasControl(name) {
			return nil, fmt.Errorf("make an engine: isolator name %q is taken or unusable: %w", name, containerizer.ErrInvalid)
		}
		seen[iso.Name()] = true
		if f, is := iso.(containerizer.Freezer); is && e.freezer == nil {
			e.freezer = f
		}
		if p, is := iso.(containerizer.ProcessIsolator); is {
			e.barriers = append(e.barriers, barrier{iso.Name(), p})
		}
	}
	return e, nil
}

// Close ends the channels of Events, waits for the operations in progress, as long
// as ctx allows, and refuses new ones. What is cut off then is undone by the next engine. A client that was
// interrupted calls Destroy first, which cancels a launch.
func (e *Engine) Close(ctx context.Context) error {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.quit)
	}
	e.mu.Unlock()
	done := make(chan struct{})
	go func() {
		e.wg.Wait()
		close(done)
	}()
	e.snapshot.close()
	select {
	case <-done:
		return e.journal.close()
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("wait for operations in progress: %w", context.Cause(ctx)), e.journal.close())
	}
}

// step notes that an operation is about to do what is named.
func (e *Engine) step(op *operation, name string) {
	op.stage.Store(&name)
	if e.opts.OnStep != nil {
		e.opts.OnStep(op.id, name)
	}
}
