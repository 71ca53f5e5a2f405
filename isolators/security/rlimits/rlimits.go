package rlimits

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/security/internal/hostcap"
)

var _ containerizer.Isolator = (*Isolator)(nil)

// names are the limits by number (asm-generic/resource.h).
//
//nolint:gochecknoglobals // a constant table
var names = [...]string{
	"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC",
	"RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE",
	"RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
}

// Options configure an [Isolator].
type Options struct {
	// Default are the limits of containers that do not set them.
	Default []specs.POSIXRlimit
}

// Isolator is "posix/rlimits".
type Isolator struct{ initial []specs.POSIXRlimit }

// New returns the isolator. Errors: ErrInvalid for a wrong limit in o.
func New(o Options) (*Isolator, error) {
	if err := check(o.Default); err != nil {
		return nil, fmt.Errorf("default %w", err)
	}
	return &Isolator{initial: slices.Clone(o.Default)}, nil
}

// Name implements [containerizer.Isolator].
func (*Isolator) Name() string { return "posix/rlimits" }

// Prepare checks and hands on the limits. Errors: ErrInvalid for an unknown or
// repeated name, a soft limit above the hard one or one that the kernel never
// allows, ErrPermission for a hard limit
// that berth may not set.
func (i *Isolator) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	asked := c.Spec.Process.Rlimits
	if err := check(asked); err != nil {
		return nil, err
	}
	limits := slices.Clone(asked)
	for _, d := range i.initial {
		if !slices.ContainsFunc(asked, func(r specs.POSIXRlimit) bool { return r.Type == d.Type }) {
			limits = append(limits, d)
		}
	}
	if len(limits) == 0 {
		return nil, nil
	}
	if err := checkOpenFiles(limits); err != nil {
		return nil, err
	}
	if err := checkPermission(limits); err != nil {
		return nil, err
	}
	return &containerizer.LaunchInfo{Rlimits: limits}, nil
}

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (*Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }

func check(limits []specs.POSIXRlimit) error {
	var seen [len(names)]bool
	for _, r := range limits {
		n := slices.Index(names[:], r.Type)
		switch {
		case n < 0:
			return fmt.Errorf("resource limit %q is unknown (%s): %w", r.Type, strings.Join(names[:], ", "), containerizer.ErrInvalid)
		case seen[n]:
			return fmt.Errorf("resource limit %s is set twice: %w", r.Type, containerizer.ErrInvalid)
		case r.Soft > r.Hard:
			return fmt.Errorf("resource limit %s: the soft limit %s is above the hard limit %s: %w",
				r.Type, text(r.Soft), text(r.Hard), containerizer.ErrInvalid)
		}
		seen[n] = true
	}
	return nil
}

// checkOpenFiles finds a limit of open files above the kernel's own, which nobody
// may set, root neither (setrlimit(2), EPERM).
func checkOpenFiles(limits []specs.POSIXRlimit) error {
	for _, r := range limits {
		if r.Type != "RLIMIT_NOFILE" {
			continue
		}
		data, err := os.ReadFile("/proc/sys/fs/nr_open")
		if err != nil {
			return fmt.Errorf("read the kernel's limit of open files: %w", err)
		}
		most, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
		if err != nil {
			return fmt.Errorf("read the kernel's limit of open files: %w", err)
		}
		if r.Hard > most {
			return fmt.Errorf("resource limit %s: the hard limit %s is above the kernel's sysctl fs.nr_open of %d: %w",
				r.Type, text(r.Hard), most, containerizer.ErrInvalid)
		}
	}
	return nil
}

// checkPermission finds limits that setrlimit(2) would refuse with EPERM.
func checkPermission(limits []specs.POSIXRlimit) error {
	own, err := hostcap.Permitted()
	if err != nil {
		return err
	}
	if hostcap.Has(own, unix.CAP_SYS_RESOURCE) {
		return nil
	}
	for _, r := range limits {
		var current unix.Rlimit
		if err := unix.Prlimit(0, slices.Index(names[:], r.Type), nil, &current); err != nil {
			return fmt.Errorf("read berth's own %s: %w", r.Type, err)
		}
		if r.Hard > current.Max {
			return fmt.Errorf("resource limit %s: the hard limit %s is above berth's own of %s, and berth lacks CAP_SYS_RESOURCE to raise it: %w",
				r.Type, text(r.Hard), text(current.Max), containerizer.ErrPermission)
		}
	}
	return nil
}

func text(v uint64) string {
	if v == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return fmt.Sprint(v)
}
