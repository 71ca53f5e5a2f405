package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/cmd/berth/internal/specflag"
	"github.com/berth-dev/berth/containerizer"
)

// host is the specflag.Host of a command: this machine and its engine.
type host struct {
	ctx  context.Context //nolint:containedctx // lives as long as the parsing of one command line
	app  *App
	pull func(containerizer.ImageSource) (*containerizer.Image, error)
}

var _ specflag.Host = host{}

// LookupEnv implements [specflag.Host].
func (host) LookupEnv(key string) (string, bool) { return os.LookupEnv(key) }

// ReadFile implements [specflag.Host].
func (host) ReadFile(path string) ([]byte, error) { return os.ReadFile(path) }

// Abs implements [specflag.Host].
func (host) Abs(path string) (string, error) { return filepath.Abs(path) }

// Hostname implements [specflag.Host].
func (host) Hostname() (string, error) { return os.Hostname() }

// LimitsSwap implements [specflag.Host]: version 2 of control groups can, version 1
// where the kernel was started with swap accounting.
func (host) LimitsSwap() bool {
	_, err := os.Stat("/sys/fs/cgroup/memory/memory.limit_in_bytes")
	if err != nil {
		return true
	}
	_, err = os.Stat("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
	return err == nil
}

// DeviceNumber implements [specflag.Host].
func (host) DeviceNumber(path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, fmt.Errorf("stat %q: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK && st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return 0, 0, fmt.Errorf("%q is not a device", path)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

// Container implements [specflag.Host].
func (h host) Container(nameOrID string) (*containerizer.Status, error) {
	engine, err := h.app.engine(h.ctx)
	if err != nil {
		return nil, err
	}
	id, err := resolve(h.ctx, engine, nameOrID)
	if err != nil {
		return nil, err
	}
	return engine.Status(h.ctx, id)
}

// ExposedPorts implements [specflag.Host].
func (h host) ExposedPorts(source containerizer.ImageSource) ([]string, error) {
	image, err := h.pull(source)
	if err != nil {
		return nil, err
	}
	if image.Configuration == nil {
		return nil, nil
	}
	return slices.Sorted(maps.Keys(image.Configuration.Config.ExposedPorts)), nil
}

// AnonymousVolume implements [specflag.Host].
func (host) AnonymousVolume() string { return containerizer.NewContainerID().String() }

// resolve finds a container, and says what was looked for when there is none.
func resolve(ctx context.Context, engine containerizer.Engine, nameOrID string) (containerizer.ContainerID, error) {
	id, err := engine.ResolveID(ctx, nameOrID)
	if errors.Is(err, containerizer.ErrNotFound) {
		return "", sentencef(containerizer.ErrNotFound, "no container %q", nameOrID)
	}
	return id, err
}
