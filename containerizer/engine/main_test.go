package engine_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/engine"
	"github.com/berth-dev/berth/containerizer/enginetest"
	"github.com/berth-dev/berth/containerizer/log"
)

func TestMain(m *testing.M) {
	enginetest.Main()
	os.Exit(m.Run())
}

// node is a place for engines: folders and collaborators.
type node struct {
	root, state string
	launcher    *enginetest.Launcher
	provisioner *enginetest.Provisioner
	first, last *enginetest.Isolator
	opts        engine.Options
}

func newNode(tb testing.TB) *node {
	tb.Helper()
	return nodeAt(tb, tb.TempDir())
}

// nodeAt is the node below dir, which may be another process's, too.
func nodeAt(tb testing.TB, dir string) *node {
	tb.Helper()
	n := &node{
		root: filepath.Join(dir, "root"), state: filepath.Join(dir, "state"),
		launcher:    &enginetest.Launcher{},
		provisioner: &enginetest.Provisioner{Root: filepath.Join(dir, "images")},
		first:       &enginetest.Isolator{Label: "test/first", Root: filepath.Join(dir, "first")},
		last:        &enginetest.Isolator{Label: "test/last", Root: filepath.Join(dir, "last"), Info: &containerizer.LaunchInfo{Hostname: "test"}},
	}
	for _, d := range []string{n.provisioner.Root, n.first.Root, n.last.Root} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			tb.Fatal(err)
		}
	}
	n.opts = engine.Options{
		Root: n.root, State: n.state, Launcher: n.launcher, Provisioner: n.provisioner,
		Isolators:      []containerizer.Isolator{n.first, enginetest.Freezer{}, n.last},
		CleanupTimeout: 20 * time.Second,
	}
	return n
}

func (n *node) engine(tb testing.TB) *engine.Engine {
	tb.Helper()
	o := n.opts
	if o.Log == nil {
		o.Log = log.New(zaptest.NewLogger(tb, zaptest.Level(zapcore.WarnLevel)).Core())
	}
	e, err := engine.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(tb.Context()); err != nil && tb.Context().Err() == nil {
			tb.Error(err)
		}
	})
	return e
}

// leftovers lists everything that containers may leave on the node.
func (n *node) leftovers(tb testing.TB) []string {
	tb.Helper()
	var left []string
	for _, d := range []string{
		n.first.Root, n.last.Root, n.provisioner.Root,
		filepath.Join(n.state, "containers"), filepath.Join(n.state, "names"), filepath.Join(n.root, "records"), filepath.Join(n.root, "sandboxes"),
	} {
		found, err := os.ReadDir(d)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			tb.Fatal(err)
		}
		for _, f := range found {
			if f.Name() != ".lock" {
				left = append(left, filepath.Join(d, f.Name()))
			}
		}
	}
	return left
}

// spec is a container that runs script.
func spec(script string) *containerizer.Spec {
	return &containerizer.Spec{
		RootfsPath: "/", Process: containerizer.Process{Args: []string{"/bin/sh", "-c", script}},
	}
}

func TestConformance(t *testing.T) { conformance(t, newNode(t)) }

// TestConformanceResident is the same for engines that list from a snapshot.
func TestConformanceResident(t *testing.T) {
	n := newNode(t)
	n.opts.Resident = true
	conformance(t, n)
}

func conformance(t *testing.T, n *node) {
	t.Helper()
	enginetest.Run(t, enginetest.Config{
		New: func(t *testing.T) containerizer.Engine {
			t.Helper()
			return n.engine(t)
		},
		Spec: spec,
		Child: func(script string) *containerizer.Spec {
			return &containerizer.Spec{Process: containerizer.Process{Args: []string{"/bin/sh", "-c", script}}}
		},
		Reap: func(t *testing.T, id containerizer.ContainerID) {
			t.Helper()
			e := n.engine(t)
			if _, err := e.Wait(t.Context(), id); err != nil {
				t.Error(err)
			}
		},
		Freezes: true,
		Leftovers: func(t *testing.T) []string {
			t.Helper()
			return n.leftovers(t)
		},
	})
}
