package engine_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/engine"
	"github.com/berth-dev/berth/containerizer/log"
)

// instant is a launcher whose processes end at once, so that what is measured is
// the engine's own time.
type instant struct{ containerizer.Launcher }

func (instant) Launch(context.Context, containerizer.LaunchRequest) (*containerizer.Launched, error) {
	return &containerizer.Launched{PID: 1, MonitorPID: 1, StartedAt: time.Now()}, nil
}

func (instant) Status(*containerizer.Container) (containerizer.LauncherStatus, error) {
	return containerizer.LauncherStatus{Known: true, Termination: &containerizer.Termination{FinishedAt: time.Now()}}, nil
}

func (instant) Wait(context.Context, *containerizer.Container) (*containerizer.Termination, error) {
	return &containerizer.Termination{FinishedAt: time.Now()}, nil
}

func (instant) Exec(context.Context, containerizer.ExecRequest) (containerizer.ExecProcess, error) {
	return nil, nil
}

func (instant) Cleanup(context.Context, *containerizer.Container) error { return nil }

// running is an instant launcher whose processes live on.
type running struct{ instant }

func (running) Status(*containerizer.Container) (containerizer.LauncherStatus, error) {
	return containerizer.LauncherStatus{Known: true, Running: true, PID: 1, MonitorPID: 1}, nil
}

// acquiring is an isolator that does nothing but use its ledger.
type acquiring string

func (a acquiring) Name() string { return string(a) }

func (acquiring) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	return &containerizer.LaunchInfo{Env: []string{"A=b"}}, c.Ledger.Acquire("kind", "name")
}

func (acquiring) Cleanup(_ context.Context, c *containerizer.Container) error {
	return c.Ledger.Release("kind", "name")
}

// benchEngine is an engine with fifteen isolators and its state in memory, as
// /run is.
func benchEngine(b *testing.B, l containerizer.Launcher) *engine.Engine {
	b.Helper()
	return benchEngineWith(b, engine.Options{Launcher: l})
}

func benchEngineWith(b *testing.B, o engine.Options) *engine.Engine {
	b.Helper()
	state, err := os.MkdirTemp("/dev/shm", "berth-bench-") //nolint:usetesting // in memory, which TempDir is not
	if err != nil {
		b.Skipf("no file system in memory: %v", err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(state) })
	o.Root, o.State, o.Log = b.TempDir(), state, log.Nop()
	for i := range 15 {
		o.Isolators = append(o.Isolators, acquiring(fmt.Sprintf("test/isolator%d", i)))
	}
	e, err := engine.New(o)
	if err != nil {
		b.Fatal(err)
	}
	return e
}

// BenchmarkRun is `run --rm`: launch, wait and remove, with an engine of its own
// each time as the command line has it.
func BenchmarkRun(b *testing.B) {
	for _, name := range []string{"", "named"} {
		b.Run("name="+name, func(b *testing.B) {
			e := benchEngine(b, instant{})
			s := spec("exit 0")
			s.AutoRemove, s.Name = true, name
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				runOnce(b, e, containerizer.ContainerID(fmt.Sprintf("c%d", i)), s)
			}
		})
	}
}

func runOnce(b *testing.B, e *engine.Engine, id containerizer.ContainerID, s *containerizer.Spec) {
	b.Helper()
	ctx := b.Context()
	if _, err := e.Launch(ctx, id, s, containerizer.LaunchOptions{}); err != nil {
		b.Fatal(err)
	}
	if _, err := e.Wait(ctx, id); err != nil {
		b.Fatal(err)
	}
	if err := e.Destroy(ctx, id); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLaunch is the launch alone, of a container that is removed and of one
// that stays.
func BenchmarkLaunch(b *testing.B) {
	for _, remove := range []bool{true, false} {
		b.Run(fmt.Sprintf("autoRemove=%t", remove), func(b *testing.B) {
			e := benchEngine(b, instant{})
			s := spec("exit 0")
			s.AutoRemove = remove
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				id := containerizer.ContainerID(fmt.Sprintf("c%d", i))
				if _, err := e.Launch(b.Context(), id, s, containerizer.LaunchOptions{}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := e.Destroy(b.Context(), id); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkExec is what the engine adds to an exec session.
func BenchmarkExec(b *testing.B) {
	e := benchEngine(b, running{})
	s := spec("exit 0")
	s.AutoRemove = true
	if _, err := e.Launch(b.Context(), "c", s, containerizer.LaunchOptions{}); err != nil {
		b.Fatal(err)
	}
	p := &containerizer.Process{Args: []string{"true"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Exec(b.Context(), "c", p, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkList lists a hundred running containers.
func BenchmarkList(b *testing.B) { benchList(b, 100, benchEngine(b, running{})) }

// BenchmarkListResident lists five thousand of them from a snapshot.
func BenchmarkListResident(b *testing.B) {
	benchList(b, 5000, benchEngineWith(b, engine.Options{Launcher: running{}, Resident: true}))
}

func benchList(b *testing.B, n int, e *engine.Engine) {
	b.Helper()
	s := spec("exit 0")
	s.AutoRemove = true
	for i := range n {
		if _, err := e.Launch(b.Context(), containerizer.ContainerID(fmt.Sprintf("c%d", i)), s, containerizer.LaunchOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := e.List(b.Context(), containerizer.Filter{}); err != nil { // the first reads all
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if all, err := e.List(b.Context(), containerizer.Filter{}); err != nil || len(all) != n {
			b.Fatal(len(all), err)
		}
	}
}
