package enginetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// Config describes the engine under test.
type Config struct {
	// New returns an engine over the same folders each time, as the next process
	// of berth would make it. It is closed by the test's end.
	New func(t *testing.T) containerizer.Engine
	// Spec describes a container that runs `/bin/sh -c script`, with the most
	// isolation the engine is configured for; a new value at each call.
	Spec func(script string) *containerizer.Spec
	// Child describes the same for a child.
	Child func(script string) *containerizer.Spec
	// Reap does what the monitor's exit command does on this node, once id has
	// exited; nil when that happens by itself.
	Reap func(t *testing.T, id containerizer.ContainerID)
	// Freezes says that an isolator is a Freezer, so that Pause works.
	Freezes bool
	// Leftovers lists what any container left on the node; called with none there.
	Leftovers func(t *testing.T) []string
}

// callTimeout bounds each test; an engine that needs longer hangs.
const callTimeout = time.Minute

// Run checks the engine of cfg against the contract.
func Run(t *testing.T, cfg Config) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*env)
	}{
		{"exit codes", testExitCodes},
		{"output", testOutput},
		{"input", testInput},
		{"prepare and start", testPrepareStart},
		{"start again", testRestart},
		{"command not found", testCommandNotFound},
		{"kill", testKill},
		{"stop", testStop},
		{"stop kills", testStopKills},
		{"destroy", testDestroy},
		{"destroy together", testDestroyTogether},
		{"auto remove", testAutoRemove},
		{"children", testChildren},
		{"children need a parent", testOrphanChild},
		{"children end with their parent", testParentExit},
		{"pod sandbox", testSandbox},
		{"names", testNames},
		{"rename", testRename},
		{"resolve", testResolve},
		{"launch twice", testLaunchTwice},
		{"launch together", testLaunchTogether},
		{"given up call", testGivenUp},
		{"invalid specs", testInvalid},
		{"pause", testPause},
		{"exec", testExec},
		{"attach", testAttach},
		{"update", testUpdate},
		{"states refuse", testStatesRefuse},
		{"list", testList},
		{"measures", testMeasures},
		{"events", testEvents},
		{"next engine", testNextEngine},
		{"parallel", testParallel},
		{"recover finds nothing", testRecoverNothing},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
			defer cancel()
			e := &env{T: t, cfg: cfg, ctx: ctx, Engine: cfg.New(t)}
			e.goroutines = runtime.NumGoroutine()
			defer e.clean() // also after a Fatal
			c.run(e)
		})
	}
}

// env is one test: an engine, and the containers made.
type env struct {
	*testing.T
	containerizer.Engine
	cfg Config
	ctx context.Context //nolint:containedctx // the test's own

	mu  sync.Mutex
	ids []containerizer.ContainerID

	goroutines int // that are not the test's
}

// another returns one more engine over the same folders.
func (e *env) another() containerizer.Engine {
	e.Helper()
	before := runtime.NumGoroutine()
	other := e.cfg.New(e.T)
	e.goroutines += max(0, runtime.NumGoroutine()-before) // such as those of a connection
	return other
}

// id returns a new id that is destroyed at the end.
func (e *env) id() containerizer.ContainerID {
	id := containerizer.ContainerID("enginetest-" + strings.ToLower(rand.Text()))
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ids = append(e.ids, id)
	return id
}

// clean destroys what the test made and looks for what stays.
func (e *env) clean() {
	e.Helper()
	for _, id := range e.ids {
		if err := e.Destroy(e.ctx, id); err != nil {
			e.Errorf("Destroy(%s) at the end = %v", id, err)
		}
		if _, err := e.Status(e.ctx, id); !errors.Is(err, containerizer.ErrNotFound) {
			e.Errorf("Status(%s) after Destroy = %v, want ErrNotFound", id, err)
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for e.cfg.Leftovers != nil { // another process may be at the end of a removal
		left := e.cfg.Leftovers(e.T)
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			e.Errorf("left on the node: %q", left)
			break
		}
		time.Sleep(time.Millisecond) // polling, with a deadline
	}
	for runtime.NumGoroutine() > e.goroutines && !e.Failed() {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			e.Errorf("%d goroutines at the begin, %d at the end:\n%s", e.goroutines, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
			return
		}
		time.Sleep(time.Millisecond) // polling, with a deadline
	}
}

func (e *env) launch(id containerizer.ContainerID, spec *containerizer.Spec) {
	e.Helper()
	if _, err := e.Launch(e.ctx, id, spec, containerizer.LaunchOptions{}); err != nil {
		e.Fatalf("Launch(%s) = %v", id, err)
	}
}

// run launches a container of script and returns its id.
func (e *env) run(script string) containerizer.ContainerID {
	e.Helper()
	id := e.id()
	e.launch(id, e.cfg.Spec(script))
	return id
}

func (e *env) wait(id containerizer.ContainerID) *containerizer.Termination {
	e.Helper()
	t, err := e.Wait(e.ctx, id)
	if err != nil {
		e.Fatalf("Wait(%s) = %v", id, err)
	}
	if t == nil {
		e.Fatalf("Wait(%s) = nil, nil", id)
	}
	return t
}

func (e *env) status(id containerizer.ContainerID) *containerizer.Status {
	e.Helper()
	s, err := e.Status(e.ctx, id)
	if err != nil {
		e.Fatalf("Status(%s) = %v", id, err)
	}
	return s
}

func (e *env) wantState(id containerizer.ContainerID, want containerizer.State) *containerizer.Status {
	e.Helper()
	s := e.status(id)
	if s.State != want {
		e.Fatalf("%s is %s, want %s", id, s.State, want)
	}
	if s.Interrupted {
		e.Errorf("%s is %s and called interrupted", id, s.State)
	}
	return s
}

func (e *env) wantErr(what string, err, want error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Errorf("%s = %v, want an error of class %q", what, err, want)
	}
}

func (e *env) must(what string, err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("%s = %v", what, err)
	}
}

// eventually waits for what only another process can bring about.
func (e *env) eventually(what string, ok func() bool) {
	e.Helper()
	for !ok() {
		if e.ctx.Err() != nil {
			e.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond) // polling, with a deadline
	}
}

// forever is a script that runs until it is killed, and ends at SIGTERM.
const forever = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; kill $!; done"

// buffer is a writer that may be read meanwhile.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
