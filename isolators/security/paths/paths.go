package paths

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

var _ containerizer.Isolator = (*Isolator)(nil)

// maxPaths bounds a list from outside. The kubelet names a path for every
// processor, so hundreds are usual on large machines.
const maxPaths = 8192

// defaultSysfs is where the processors are listed.
const defaultSysfs = "/sys"

// Options configure an [Isolator].
type Options struct {
	// Sysfs is where sysfs is mounted; "" is /sys.
	Sysfs string
}

// Isolator is "linux/paths".
type Isolator struct{ sysfs string }

// New returns the isolator.
func New(o Options) *Isolator {
	if o.Sysfs == "" {
		o.Sysfs = defaultSysfs
	}
	return &Isolator{sysfs: o.Sysfs}
}

// Name implements [containerizer.Isolator].
func (*Isolator) Name() string { return "linux/paths" }

// Prepare implements [containerizer.Isolator]. Errors: ErrInvalid for a path that
// is not absolute and clean.
func (i *Isolator) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	s := &c.Spec.Security
	if err := check("masked", s.MaskedPaths); err != nil {
		return nil, err
	}
	if err := check("read-only", s.ReadonlyPaths); err != nil {
		return nil, err
	}
	if s.Privileged {
		return nil, nil
	}
	info := &containerizer.LaunchInfo{}
	if s.MaskedPaths != nil {
		info.MaskedPaths = *s.MaskedPaths
	} else {
		info.MaskedPaths = append(Masked(), i.thermalThrottle()...)
	}
	if s.ReadonlyPaths != nil {
		info.ReadonlyPaths = *s.ReadonlyPaths
	} else {
		info.ReadonlyPaths = Readonly()
	}
	return info, nil
}

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (*Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }

func check(kind string, list *[]string) error {
	if list == nil {
		return nil
	}
	if len(*list) > maxPaths {
		return fmt.Errorf("%d %s paths are more than %d: %w", len(*list), kind, maxPaths, containerizer.ErrInvalid)
	}
	for _, p := range *list {
		switch {
		case !path.IsAbs(p) || path.Clean(p) != p:
			return fmt.Errorf("%s path %q is not an absolute path in its shortest form: %w", kind, p, containerizer.ErrInvalid)
		case p == "/":
			return fmt.Errorf("%s path %q is the root filesystem itself: %w", kind, p, containerizer.ErrInvalid)
		case strings.ContainsRune(p, 0):
			return fmt.Errorf("%s path %q holds a NUL: %w", kind, p, containerizer.ErrInvalid)
		}
	}
	return nil
}
