package engine_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/engine"
	"github.com/berth-dev/berth/containerizer/enginetest"
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

func newNode(t testing.TB) *node {
	t.Helper()
	return nodeAt(t, t.TempDir())
}

// nodeAt is the node below dir, which may be another process's, too.
func nodeAt(t testing.TB, dir string) *node {
	t.Helper()
	n := &node{
		root: filepath.Join(dir, "root"), state: filepath.Join(dir, "state"),
		launcher:    &enginetest.Launcher{},
		provisioner: &enginetest.Provisioner{Root: filepath.Join(dir, "images")},
		first:       &enginetest.Isolator{Label: "test/first", Root: filepath.Join(dir, "first")},
		last:        &enginetest.Isolator{Label: "test/last", Root: filepath.Join(dir, "last"), Info: &containerizer.LaunchInfo{Hostname: "test"}},
	}
	for _, d := range []string{n.provisioner.Root, n.first.Root, n.last.Root} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	n.opts = engine.Options{
		Root: n.root, State: n.state, Launcher: n.launcher, Provisioner: n.provisioner,
		Isolators:      []containerizer.Isolator{n.first, enginetest.Freezer{}, n.last},
		CleanupTimeout: 20 * time.Second,
	}
	return n
}

func (n *node) engine(t testing.TB) *engine.Engine {
	t.Helper()
	o := n.opts
	if o.Log == nil {
		o.Log = zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	}
	e, err := engine.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return e
}

// leftovers lists everything that containers may leave on the node.
func (n *node) leftovers(t testing.TB) []string {
	t.Helper()
	var left []string
	for _, d := range []string{
		n.first.Root, n.last.Root, n.provisioner.Root,
		filepath.Join(n.state, "containers"), filepath.Join(n.state, "names"), filepath.Join(n.root, "records"),
	} {
		found, err := os.ReadDir(d)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
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

func TestConformance(t *testing.T) {
	n := newNode(t)
	enginetest.Run(t, enginetest.Config{
		New:  func(t *testing.T) containerizer.Engine { return n.engine(t) },
		Spec: spec,
		Child: func(script string) *containerizer.Spec {
			return &containerizer.Spec{Process: containerizer.Process{Args: []string{"/bin/sh", "-c", script}}}
		},
		Reap: func(t *testing.T, id containerizer.ContainerID) {
			e := n.engine(t)
			if _, err := e.Wait(t.Context(), id); err != nil {
				t.Error(err)
			}
		},
		Freezes:   true,
		Leftovers: func(t *testing.T) []string { return n.leftovers(t) },
	})
}
