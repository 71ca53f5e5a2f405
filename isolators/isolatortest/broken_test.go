package isolatortest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

const brokenEnv = "BERTH_ISOLATORTEST_BROKEN"

var errBroken = errors.New("broken")

// broken is folders with one promise broken.
type broken struct {
	folders
	prepare func(f *folders, c *containerizer.Container) (*containerizer.LaunchInfo, error)
	cleanup func(f *folders, c *containerizer.Container) error
	recover func(f *folders, live []*containerizer.Container) ([]containerizer.ContainerID, error)
}

func (b *broken) Prepare(ctx context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	if b.prepare != nil {
		return b.prepare(&b.folders, c)
	}
	return b.folders.Prepare(ctx, c)
}

func (b *broken) Cleanup(ctx context.Context, c *containerizer.Container) error {
	if b.cleanup != nil {
		return b.cleanup(&b.folders, c)
	}
	return b.folders.Cleanup(ctx, c)
}

func (b *broken) Recover(ctx context.Context, live []*containerizer.Container) ([]containerizer.ContainerID, error) {
	if b.recover != nil {
		return b.recover(&b.folders, live)
	}
	return b.folders.Recover(ctx, live)
}

// breakages are broken promises, and the checks that must notice.
func breakages(ctx context.Context) map[string]struct {
	isolator *broken
	fails    string
} {
	prepared := func(f *folders, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
		return f.Prepare(ctx, c)
	}
	return map[string]struct {
		isolator *broken
		fails    string
	}{
		"cleanup fails the second time": {&broken{cleanup: func(f *folders, c *containerizer.Container) error {
			if len(c.Ledger.Held("folder")) == 0 {
				return errBroken
			}
			return f.Cleanup(ctx, c)
		}}, "prepare_and_cleanup"},
		"cleanup leaves things": {&broken{cleanup: func(_ *folders, c *containerizer.Container) error {
			for _, p := range c.Ledger.Held("folder") {
				if err := c.Ledger.Release("folder", p); err != nil {
					return err
				}
			}
			return nil
		}}, "prepare_and_cleanup"},
		"cleanup releases nothing": {&broken{cleanup: func(_ *folders, c *containerizer.Container) error {
			for _, p := range c.Ledger.Held("folder") {
				if err := os.RemoveAll(p); err != nil {
					return err
				}
			}
			return nil
		}}, "prepare_and_cleanup"},
		"cleanup needs the spec": {&broken{cleanup: func(f *folders, c *containerizer.Container) error {
			if c.Spec == nil {
				return errBroken
			}
			return f.Cleanup(ctx, c)
		}}, "cleanup_after_damage_by_another_process"},
		"cleanup takes everything": {&broken{cleanup: func(f *folders, c *containerizer.Container) error {
			found, err := os.ReadDir(f.root)
			for _, e := range found {
				err = errors.Join(err, os.RemoveAll(f.root+"/"+e.Name()))
			}
			return errors.Join(err, f.Cleanup(ctx, c))
		}}, "cleanup_of_a_stranger"},
		"prepare records nothing": {&broken{prepare: func(f *folders, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
			for _, p := range f.paths(c.ID) {
				if err := os.MkdirAll(p, 0o700); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}}, "prepare_and_cleanup"},
		"prepare records too late": {&broken{prepare: func(f *folders, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
			for _, p := range f.paths(c.ID) {
				if err := os.Mkdir(p, 0o700); err != nil {
					return nil, err
				}
				if err := c.Ledger.Acquire("folder", p); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}}, "cleanup_after_a_failing_prepare"},
		"prepare changes the spec": {&broken{prepare: func(f *folders, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
			c.Spec.Process.Env = append(c.Spec.Process.Env, "A=b")
			return prepared(f, c)
		}}, "prepare_leaves_its_arguments_alone"},
		"prepare contradicts itself": {&broken{prepare: func(f *folders, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
			info, err := prepared(f, c)
			if info != nil {
				info.Mounts = []specs.Mount{{Destination: "/a"}, {Destination: "/a/"}}
			}
			return info, err
		}}, "prepare_and_cleanup"},
		"prepare takes what it cannot do": {&broken{prepare: func(f *folders, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
			c.Spec = &containerizer.Spec{}
			return prepared(f, c)
		}}, "refused_specs"},
		"prepare leaks a descriptor": {&broken{prepare: func(f *folders, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
			file, err := os.Open("/dev/null")
			if err != nil {
				return nil, err
			}
			leaked = append(leaked, file)
			return prepared(f, c)
		}}, "no_growth"},
		"recover takes the living": {&broken{recover: func(f *folders, _ []*containerizer.Container) ([]containerizer.ContainerID, error) {
			return f.Recover(ctx, nil)
		}}, "recover"},
		"recover finds nothing": {&broken{recover: func(*folders, []*containerizer.Container) ([]containerizer.ContainerID, error) {
			return nil, nil
		}}, "recover"},
	}
}

var leaked []*os.File // by a broken isolator, on purpose

// TestBrokenChild runs the suite over one broken isolator.
func TestBrokenChild(t *testing.T) {
	name := os.Getenv(brokenEnv)
	if name == "" {
		return // only TestBroken starts it
	}
	root := t.TempDir()
	isolatortest.Run(t, config(root, func() containerizer.Isolator {
		b := *breakages(t.Context())[name].isolator
		b.root = root
		return &b
	}))
}

// TestBroken checks that the suite notices each broken promise.
func TestBroken(t *testing.T) {
	for name, c := range breakages(t.Context()) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestBrokenChild$")
			cmd.Env = append(os.Environ(), brokenEnv+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestBrokenChild/"+c.fails) {
				t.Errorf("the suite says %v, want %q to fail:\n%s", err, c.fails, out)
			}
		})
	}
}
