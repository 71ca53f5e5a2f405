package enginetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// Isolator keeps one folder a container below Root, recorded in the ledger.
type Isolator struct {
	// Label is the isolator's name.
	Label string
	Root  string
	// Info is what Prepare returns; nil is nothing.
	Info *containerizer.LaunchInfo
	// On, when set, is called at the begin of each call, by the method's name; its
	// error is the call's.
	On func(ctx context.Context, call string, c *containerizer.Container) error
}

var (
	_ containerizer.Isolator        = (*Isolator)(nil)
	_ containerizer.ProcessIsolator = (*Isolator)(nil)
	_ containerizer.Updater         = (*Isolator)(nil)
	_ containerizer.UsageReporter   = (*Isolator)(nil)
	_ containerizer.StatusReporter  = (*Isolator)(nil)
	_ containerizer.ExitReporter    = (*Isolator)(nil)
	_ containerizer.Recoverer       = (*Isolator)(nil)
)

const kindFolder = "folder"

func (i *Isolator) on(ctx context.Context, call string, c *containerizer.Container) error {
	if i.On == nil {
		return nil
	}
	return i.On(ctx, call, c)
}

func (i *Isolator) path(id containerizer.ContainerID) string {
	return filepath.Join(i.Root, string(id))
}

// Name implements [containerizer.Isolator].
func (i *Isolator) Name() string { return i.Label }

// Prepare implements [containerizer.Isolator].
func (i *Isolator) Prepare(ctx context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	if err := i.on(ctx, "Prepare", c); err != nil {
		return nil, err
	}
	if err := c.Ledger.Acquire(kindFolder, i.path(c.ID)); err != nil {
		return nil, err
	}
	if err := os.Mkdir(i.path(c.ID), 0o700); err != nil {
		return nil, err
	}
	return i.Info, nil
}

// Cleanup implements [containerizer.Isolator].
func (i *Isolator) Cleanup(ctx context.Context, c *containerizer.Container) error {
	if err := i.on(ctx, "Cleanup", c); err != nil {
		return err
	}
	for _, p := range c.Ledger.Held(kindFolder) {
		if err := os.RemoveAll(p); err != nil {
			return err
		}
		if err := c.Ledger.Release(kindFolder, p); err != nil {
			return err
		}
	}
	return nil
}

// Isolate implements [containerizer.ProcessIsolator].
func (i *Isolator) Isolate(ctx context.Context, c *containerizer.Container, pid int) error {
	if pid <= 0 {
		return fmt.Errorf("isolate process %d: %w", pid, containerizer.ErrInvalid)
	}
	return i.on(ctx, "Isolate", c)
}

// Adjust implements [containerizer.Adjuster]: it changes nothing.
func (i *Isolator) Adjust(ctx context.Context, c *containerizer.Container) (*containerizer.Spec, error) {
	return c.Spec, i.on(ctx, "Adjust", c)
}

// AdjustUpdate implements [containerizer.Adjuster].
func (i *Isolator) AdjustUpdate(ctx context.Context, c *containerizer.Container, r *containerizer.Resources) (*containerizer.Resources, error) {
	return r, i.on(ctx, "AdjustUpdate", c)
}

// BeforeStart implements [containerizer.Starter].
func (i *Isolator) BeforeStart(ctx context.Context, c *containerizer.Container) error {
	return i.on(ctx, "BeforeStart", c)
}

// Update implements [containerizer.Updater]: it writes the disk limit down.
func (i *Isolator) Update(ctx context.Context, c *containerizer.Container, r *containerizer.Resources) error {
	if err := i.on(ctx, "Update", c); err != nil {
		return err
	}
	if r.Linux.Memory == nil || r.Linux.Memory.Limit == nil {
		return nil
	}
	return os.WriteFile(filepath.Join(i.path(c.ID), "memory"), fmt.Append(nil, *r.Linux.Memory.Limit), 0o600)
}

// Usage implements [containerizer.UsageReporter].
func (i *Isolator) Usage(ctx context.Context, c *containerizer.Container, u *containerizer.Usage) error {
	if err := i.on(ctx, "Usage", c); err != nil {
		return err
	}
	u.PIDs = &containerizer.PIDsUsage{Current: 1}
	return nil
}

// Status implements [containerizer.StatusReporter].
func (i *Isolator) Status(ctx context.Context, c *containerizer.Container, s *containerizer.Status) error {
	if err := i.on(ctx, "Status", c); err != nil {
		return err
	}
	s.Networks = append(s.Networks, containerizer.NetworkStatus{Name: i.Label, Interface: "test0"})
	return nil
}

// ReportExit implements [containerizer.ExitReporter]: a file called oom in the
// container's folder is an OOM kill.
func (i *Isolator) ReportExit(ctx context.Context, c *containerizer.Container, t *containerizer.Termination) error {
	if err := i.on(ctx, "ReportExit", c); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(i.path(c.ID), "oom")); err == nil {
		t.OOMKilled = true
	}
	return nil
}

// Recover implements [containerizer.Recoverer].
func (i *Isolator) Recover(ctx context.Context, live []*containerizer.Container) ([]containerizer.ContainerID, error) {
	if err := i.on(ctx, "Recover", nil); err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, c := range live {
		known[string(c.ID)] = true
	}
	found, err := os.ReadDir(i.Root)
	if err != nil {
		return nil, err
	}
	var orphans []containerizer.ContainerID
	var errs []error
	for _, f := range found {
		if known[f.Name()] || strings.HasPrefix(f.Name(), ".") {
			continue
		}
		orphans = append(orphans, containerizer.ContainerID(f.Name()))
		errs = append(errs, os.RemoveAll(filepath.Join(i.Root, f.Name())))
	}
	return orphans, errors.Join(errs...)
}
