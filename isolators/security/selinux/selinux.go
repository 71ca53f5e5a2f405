package selinux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

var (
	_ containerizer.Isolator  = (*Isolator)(nil)
	_ containerizer.Recoverer = (*Isolator)(nil)
)

// Options configure an [Isolator].
type Options struct {
	// Selinuxfs is where selinuxfs is mounted; "" is /sys/fs/selinux.
	Selinuxfs string
	// Config is the directory of SELinux's configuration; "" is /etc/selinux.
	Config string
}

// Isolator is "linux/selinux".
type Isolator struct {
	log       *log.Logger
	selinuxfs string
	config    string
	levels    levels
}

// New returns the isolator. It reserves levels in the directory dir, which is made
// when first needed.
func New(log *log.Logger, dir string, o Options) *Isolator {
	if o.Selinuxfs == "" {
		o.Selinuxfs = "/sys/fs/selinux"
	}
	if o.Config == "" {
		o.Config = "/etc/selinux"
	}
	return &Isolator{
		log:       log,
		selinuxfs: o.Selinuxfs,
		config:    o.Config,
		levels:    levels{dir: dir},
	}
}

// Name implements [containerizer.Isolator].
func (*Isolator) Name() string { return "linux/selinux" }

// Prepare computes the labels and relabels mounts. Errors: ErrInvalid for parts or
// a label that SELinux does not take, ErrUnsupported for labels without SELinux and
// for mounts that cannot be relabelled, ErrResourceExhausted when all levels are
// taken.
func (i *Isolator) Prepare(ctx context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	parts := c.Spec.Security.SELinux
	if err := checkParts(parts); err != nil {
		return nil, err
	}
	if err := checkRelabel(c.Spec.Mounts); err != nil {
		return nil, err
	}
	_, disabled := parts[partDisable]
	enabled, err := i.enabled()
	switch {
	case err != nil:
		return nil, err
	case !enabled && len(parts) > 0 && !disabled:
		return nil, fmt.Errorf("SELinux labels %s: the kernel runs without SELinux: %w", describe(parts), containerizer.ErrUnsupported)
	case !enabled:
		return nil, nil
	}
	l, err := i.labels(c)
	if err != nil {
		return nil, err
	}
	for _, label := range []label{l.process, l.mount} {
		if err := i.validate(label); err != nil {
			return nil, err
		}
	}
	if err := i.relabel(ctx, c, l.mount); err != nil {
		return nil, err
	}
	if disabled {
		return nil, nil
	}
	return &containerizer.LaunchInfo{SELinuxLabel: l.process.String(), SELinuxMountLabel: l.mount.String()}, nil
}

// Cleanup frees the level of c.
func (i *Isolator) Cleanup(_ context.Context, c *containerizer.Container) error {
	return i.levels.free(c)
}

// Recover implements [containerizer.Recoverer].
func (i *Isolator) Recover(_ context.Context, live []*containerizer.Container) ([]containerizer.ContainerID, error) {
	return i.levels.recover(live)
}

// enabled says whether the kernel has a policy loaded: only then selinuxfs has its
// file "context".
func (i *Isolator) enabled() (bool, error) {
	_, err := os.Stat(filepath.Join(i.selinuxfs, "context"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for SELinux: %w", err)
	}
	return true, nil
}

// validate asks the kernel whether the policy has label.
func (i *Isolator) validate(label label) error {
	file, err := os.OpenFile(filepath.Join(i.selinuxfs, "context"), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("check SELinux label %q: %w", label, err)
	}
	defer file.Close() //nolint:errcheck // selinuxfs answers the write itself
	if _, err := file.WriteString(label.String()); err != nil {
		return fmt.Errorf("SELinux label %q is not one of the loaded policy, which needs a module for containers such as container-selinux (%w): %w",
			label, err, containerizer.ErrInvalid)
	}
	return nil
}
