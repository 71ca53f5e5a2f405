package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/engine"
	"github.com/berth-dev/berth/containerizer/enginetest"
)

// The crash test runs each scenario in a process of its own once to learn the
// steps it takes, then again for each step, killing the process there.

const (
	scenarioEnv = "BERTH_ENGINE_SCENARIO" // name of the scenario
	crashDirEnv = "BERTH_ENGINE_DIR"      // folder of its node
	crashAtEnv  = "BERTH_ENGINE_CRASH_AT" // index of the step to die at; -1 for none
)

// lives is a script that ends only when it is killed. The crash test looks for
// its number among the processes of the node.
func lives(dir string) string { return "while :; do sleep 1000; done # " + dir }

type scenario func(ctx context.Context, n *node, e *engine.Engine, dir string) error

func scenarios() map[string]scenario {
	const id = containerizer.ContainerID("crash")
	named := func(dir, script string) *containerizer.Spec {
		return &containerizer.Spec{
			Name: "crash-name", Image: &containerizer.ImageSource{Reference: enginetest.Image},
			Process: containerizer.Process{Args: []string{"/bin/sh", "-c", script + " # " + dir}},
		}
	}
	launch := func(ctx context.Context, e *engine.Engine, id containerizer.ContainerID, s *containerizer.Spec) error {
		_, err := e.Launch(ctx, id, s, containerizer.LaunchOptions{})
		return err
	}
	return map[string]scenario{
		"launch": func(ctx context.Context, _ *node, e *engine.Engine, dir string) error {
			return launch(ctx, e, id, named(dir, lives(dir)))
		},
		"launch with barrier": func(ctx context.Context, n *node, e *engine.Engine, dir string) error {
			n.last.Info.Barrier = true
			return launch(ctx, e, id, named(dir, lives(dir)))
		},
		"prepare and start": func(ctx context.Context, _ *node, e *engine.Engine, dir string) error {
			if err := e.Prepare(ctx, id, named(dir, lives(dir))); err != nil {
				return err
			}
			_, err := e.Start(ctx, id, containerizer.LaunchOptions{})
			return err
		},
		"run and remove": func(ctx context.Context, _ *node, e *engine.Engine, dir string) error {
			s := named(dir, "exit 0")
			s.AutoRemove = true
			err := launch(ctx, e, id, s)
			_, werr := e.Wait(ctx, id)
			return errors.Join(err, werr, e.Close(ctx))
		},
		"artifacts": func(ctx context.Context, n *node, _ *engine.Engine, dir string) error {
			n.opts.Artifacts = &artifacts{}
			e, err := engine.New(n.opts)
			if err != nil {
				return err
			}
			s := named(dir, lives(dir))
			s.Artifacts = []containerizer.Artifact{{URI: "file:///x"}}
			child := &containerizer.Spec{Process: containerizer.Process{Args: []string{"/bin/sh", "-c", lives(dir)}}, Artifacts: s.Artifacts}
			return errors.Join(launch(ctx, e, id, s), launch(ctx, e, id.Child("a"), child), e.Destroy(ctx, id), e.Close(ctx))
		},
		"exit and start again": func(ctx context.Context, _ *node, e *engine.Engine, dir string) error {
			err := launch(ctx, e, id, named(dir, "exit 0"))
			_, werr := e.Wait(ctx, id)
			_, serr := e.Start(ctx, id, containerizer.LaunchOptions{})
			_, werr2 := e.Wait(ctx, id)
			return errors.Join(err, werr, serr, werr2, e.Close(ctx))
		},
		"children": func(ctx context.Context, _ *node, e *engine.Engine, dir string) error {
			return errors.Join(
				launch(ctx, e, id, named(dir, lives(dir))),
				launch(ctx, e, id.Child("a"), &containerizer.Spec{Process: containerizer.Process{Args: []string{"/bin/sh", "-c", lives(dir)}}}),
				launch(ctx, e, id.Child("b"), &containerizer.Spec{Process: containerizer.Process{Args: []string{"/bin/sh", "-c", lives(dir)}}}),
				e.Destroy(ctx, id))
		},
		"changes": func(ctx context.Context, _ *node, e *engine.Engine, dir string) error {
			limit := int64(64 << 20)
			return errors.Join(
				launch(ctx, e, id, named(dir, lives(dir))),
				e.Pause(ctx, id), e.Resume(ctx, id), e.Rename(ctx, id, "crash-other"),
				e.Update(ctx, id, &containerizer.Resources{Linux: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}}),
				e.Stop(ctx, id, new(time.Duration)))
		},
		"recover": func(ctx context.Context, n *node, e *engine.Engine, dir string) error {
			if err := launch(ctx, e, id, named(dir, "exit 0")); err != nil {
				return err
			}
			l := &enginetest.Launcher{}
			if _, err := l.Wait(ctx, &containerizer.Container{ID: id, Dir: filepath.Join(n.state, "containers", string(id))}); err != nil {
				return err
			}
			_, err := e.Recover(ctx, true)
			return err
		},
	}
}

// TestScenarioChild is the process that dies.
func TestScenarioChild(t *testing.T) {
	name := os.Getenv(scenarioEnv)
	if name == "" {
		return // only the crash test starts it
	}
	at, err := strconv.Atoi(os.Getenv(crashAtEnv))
	if err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv(crashDirEnv)
	n := nodeAt(t, dir)
	step := make(chan int, 1)
	step <- 0
	n.opts.OnStep = func(_ containerizer.ContainerID, name string) {
		i := <-step
		if i == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it arrives
		}
		fmt.Println("step", name)
		step <- i + 1
	}
	if err := scenarios()[name](t.Context(), n, n.engine(t), dir); err != nil {
		t.Fatal(err)
	}
}

// runScenario runs a scenario in a process, and returns the steps it took.
func runScenario(t *testing.T, name, dir string, crashAt int) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestScenarioChild$", "-test.v")
	cmd.Env = append(os.Environ(), scenarioEnv+"="+name, crashDirEnv+"="+dir, crashAtEnv+"="+strconv.Itoa(crashAt))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if (crashAt < 0 && err != nil) || (crashAt >= 0 && !killed) {
		t.Fatalf("scenario %q, crash at %d: %v\n%s", name, crashAt, err, out)
	}
	var steps []string
	for line := range bytes.Lines(out) {
		if s, is := bytes.CutPrefix(bytes.TrimSpace(line), []byte("step ")); is {
			steps = append(steps, string(s))
		}
	}
	return steps
}

// TestCrash kills a process of berth at every step of every scenario. The next
// one must see truthfully what is left, and remove it completely.
func TestCrash(t *testing.T) {
	mu := make(chan map[string]bool, 1)
	mu <- map[string]bool{}
	t.Run("scenarios", func(t *testing.T) {
		for name := range scenarios() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				steps := runScenario(t, name, dir, -1)
				if len(steps) == 0 {
					t.Fatal("the scenario takes no step")
				}
				seen := <-mu
				for _, s := range steps {
					seen[s] = true
				}
				mu <- seen
				checkRemoved(t, nodeAt(t, dir), dir)
				for at, step := range steps {
					if testing.Short() && at%5 != 0 {
						continue
					}
					crashAt(t, name, at, step)
				}
			})
		}
	})
	seen := <-mu
	for _, step := range stepsInCode(t) {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(s string) bool {
			return s == step || strings.HasPrefix(step, "*") && strings.HasSuffix(s, step[1:]) || strings.HasSuffix(step, "*") && strings.HasPrefix(s, step[:len(step)-1])
		}) {
			t.Errorf("no scenario passes step %q", step)
		}
	}
}

func crashAt(t *testing.T, name string, at int, step string) {
	t.Helper()
	dir := t.TempDir()
	runScenario(t, name, dir, at)
	where := fmt.Sprintf("killed at step %d, %q", at, step)
	n := nodeAt(t, dir)
	e := n.engine(t)
	checkTruth(t, e, where)
	if at%2 == 0 { // half of them are recovered first, half are just removed
		checkRecover(t, e, where)
	}
	checkRemoved(t, n, dir)
	if t.Failed() {
		t.Fatal(where)
	}
}

// checkTruth looks for containers that claim to be in the middle of something.
func checkTruth(t *testing.T, e *engine.Engine, where string) {
	t.Helper()
	all, err := e.List(t.Context(), containerizer.Filter{})
	if err != nil {
		t.Fatalf("%s: List = %v", where, err)
	}
	for _, s := range all {
		transient := s.State == containerizer.StatePreparing || s.State == containerizer.StateDestroying
		if transient && !s.Interrupted {
			t.Errorf("%s: %s is %s, and not called interrupted", where, s.ID, s.State)
		}
		if s.State == containerizer.StateRunning && syscall.Kill(s.PID, 0) != nil {
			t.Errorf("%s: %s is running, but process %d is not", where, s.ID, s.PID)
		}
		if s.State == containerizer.StateExited && s.Termination == nil {
			t.Errorf("%s: %s has exited, and nobody knows how", where, s.ID)
		}
	}
}

func checkRecover(t *testing.T, e *engine.Engine, where string) {
	t.Helper()
	if _, err := e.Recover(t.Context(), false); err != nil {
		t.Fatalf("%s: Recover without repair = %v", where, err)
	}
	r, err := e.Recover(t.Context(), true)
	if err != nil || len(r.Owed) > 0 {
		t.Fatalf("%s: Recover = %+v, %v", where, r, err)
	}
	all, err := e.List(t.Context(), containerizer.Filter{})
	if err != nil {
		t.Fatalf("%s: List = %v", where, err)
	}
	for _, s := range all {
		if s.Interrupted || len(s.Owed) > 0 {
			t.Errorf("%s: after Recover %s is %s, interrupted %t, owes %q", where, s.ID, s.State, s.Interrupted, s.Owed)
		}
	}
	if r, err := e.Recover(t.Context(), true); err != nil || len(r.Repaired)+len(r.Owed) > 0 {
		t.Errorf("%s: a second Recover found %+v, %v", where, r, err)
	}
}

// checkRemoved removes everything and looks for what stays.
func checkRemoved(t *testing.T, n *node, dir string) {
	t.Helper()
	e := n.engine(t)
	all, err := e.List(t.Context(), containerizer.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if err := e.Destroy(t.Context(), s.ID); err != nil {
			t.Errorf("Destroy(%s) = %v", s.ID, err)
		}
	}
	if r, err := e.Recover(t.Context(), true); err != nil || len(r.Owed) > 0 {
		t.Errorf("Recover = %+v, %v", r, err)
	}
	if left := n.leftovers(t); len(left) > 0 {
		t.Errorf("left on the node: %q", left)
	}
	for deadline := time.Now().Add(10 * time.Second); ; { // a monitor may be at its very end
		left := processesOf(t, dir)
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("processes left: %q", left)
			break
		}
		time.Sleep(time.Millisecond) // polling, with a deadline
	}
}

// processesOf lists command lines on the node that mention dir.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	var left []string
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		line, _ := os.ReadFile(f)                                        // gone meanwhile
		env, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "environ")) // the same
		if bytes.Contains(line, []byte(dir)) || bytes.Contains(env, []byte(dir)) {
			left = append(left, f+": "+string(line))
		}
	}
	return left
}

// stepsInCode lists the names given to Engine.step in this package; '*' stands
// for what is not a literal.
func stepsInCode(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is || len(call.Args) != 2 {
				return true
			}
			if sel, is := call.Fun.(*ast.SelectorExpr); is && sel.Sel.Name == "step" {
				steps = append(steps, stepName(call.Args[1]))
			}
			return true
		})
	}
	if len(steps) < 20 {
		t.Fatalf("found only the steps %q", steps)
	}
	return steps
}

func stepName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, _ := strconv.Unquote(e.Value) // it compiles
		return s
	case *ast.BinaryExpr:
		return stepName(e.X) + stepName(e.Y)
	}
	return "*"
}
