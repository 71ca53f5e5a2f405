package isolatortest_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

// folders is an isolator that does as the contract says: it keeps two folders a
// container below root.
type folders struct{ root string }

var (
	_ containerizer.Isolator  = (*folders)(nil)
	_ containerizer.Recoverer = (*folders)(nil)
)

func (*folders) Name() string { return "test/folders" }

func (f *folders) paths(id containerizer.ContainerID) []string {
	return []string{filepath.Join(f.root, id.String()+"+a"), filepath.Join(f.root, id.String()+"+b")}
}

func (f *folders) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	if c.Spec.Sysctls["bad"] != "" {
		return nil, containerizer.ErrInvalid
	}
	for _, p := range f.paths(c.ID) {
		if err := c.Ledger.Acquire("folder", p); err != nil {
			return nil, err
		}
		if err := os.Mkdir(p, 0o700); err != nil {
			return nil, err
		}
	}
	return &containerizer.LaunchInfo{Hostname: "x"}, nil
}

func (*folders) Cleanup(_ context.Context, c *containerizer.Container) error {
	for _, p := range c.Ledger.Held("folder") {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
		if err := c.Ledger.Release("folder", p); err != nil {
			return err
		}
	}
	return nil
}

func (f *folders) Recover(_ context.Context, live []*containerizer.Container) (orphans []containerizer.ContainerID, err error) {
	keep := map[string]bool{}
	for _, c := range live {
		for _, p := range f.paths(c.ID) {
			keep[p] = true
		}
	}
	found, err := filepath.Glob(filepath.Join(f.root, "*+a"))
	for _, p := range found {
		if keep[p] {
			continue
		}
		id := containerizer.ContainerID(filepath.Base(p[:len(p)-2]))
		for _, p := range f.paths(id) {
			if err := os.RemoveAll(p); err != nil {
				return orphans, err
			}
		}
		orphans = append(orphans, id)
	}
	return orphans, err
}

func TestRun(t *testing.T) {
	root := t.TempDir()
	isolatortest.Run(t, config(root, func() containerizer.Isolator { return &folders{root: root} }))
}

func config(root string, newIsolator func() containerizer.Isolator) isolatortest.Config {
	return isolatortest.Config{
		New:       func(*testing.T) containerizer.Isolator { return newIsolator() },
		Spec:      func() *containerizer.Spec { return &containerizer.Spec{} },
		ChildSpec: func() *containerizer.Spec { return &containerizer.Spec{} },
		Refused: map[string]func() *containerizer.Spec{
			"bad sysctl": func() *containerizer.Spec {
				return &containerizer.Spec{Sysctls: map[string]string{"bad": "1"}}
			},
		},
		Leftovers: func(t *testing.T, id containerizer.ContainerID) []string {
			t.Helper()
			found, err := filepath.Glob(filepath.Join(root, id.String()+"+*"))
			if err != nil {
				t.Fatal(err)
			}
			return found
		},
		Acquires: true,
	}
}

func TestLedger(t *testing.T) {
	var l isolatortest.Ledger
	for _, n := range []string{"a", "b", "a", "c"} {
		if err := l.Acquire("k", n); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Release("k", "b"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "c"}, l.Held("k")); diff != "" {
		t.Errorf("Held (-want +got):\n%s", diff)
	}
	if err := l.Acquire("k", "new\nline"); err == nil {
		t.Error("Acquire took a control character")
	}
	l.FailAt(2, isolatortest.FaultRefuse)
	if err := l.Acquire("k", "d"); err != nil {
		t.Fatal(err)
	}
	if err := l.Acquire("k", "e"); err == nil {
		t.Error("the second acquisition did not fail")
	}
	if diff := cmp.Diff([]string{"k a", "k c", "k d"}, l.All()); diff != "" {
		t.Errorf("All (-want +got):\n%s", diff)
	}
}
