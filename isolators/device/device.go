package device

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// maxDevices bounds what a directory of devices may bring along.
const maxDevices = 4096

// Options configure the isolator.
type Options struct {
	// CDI says that another isolator resolves Spec.CDIDevices (isolators/cdi). Without one
	// they are refused.
	CDI bool
}

// Isolator contributes device nodes and rules.
type Isolator struct {
	opts Options
	// Root is the directory of the host's devices.
	root string
}

var _ containerizer.Isolator = (*Isolator)(nil)

// New returns the isolator.
func New(o Options) *Isolator { return &Isolator{o, "/dev"} }

// Name implements [containerizer.Isolator].
func (i *Isolator) Name() string { return "linux/devices" }

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (i *Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }

// defaults are the devices of runtime-linux.md, "Default Devices".
//
//nolint:gochecknoglobals // a constant table
var defaults = [...]struct {
	name         string
	major, minor int64
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

// Prepare implements [containerizer.Isolator].
func (i *Isolator) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	if len(c.Spec.CDIDevices) > 0 && !i.opts.CDI {
		return nil, fmt.Errorf("device %q: this program resolves no names of the Container Device Interface; give the device's path: %w", c.Spec.CDIDevices[0], containerizer.ErrUnsupported)
	}
	if slices.ContainsFunc(c.Spec.Mounts, func(m containerizer.Mount) bool { return filepath.Clean(m.Destination) == "/dev" }) {
		return i.rulesOnly(c)
	}
	if c.Rootfs == nil {
		return i.rulesOnly(c) // /dev is the parent's
	}
	info := &containerizer.LaunchInfo{}
	for _, d := range defaults {
		info.Devices = append(info.Devices, specs.LinuxDevice{Path: "/dev/" + d.name, Type: "c", Major: d.major, Minor: d.minor})
	}
	if c.Spec.Security.Privileged {
		if err := i.addAll(info); err != nil {
			return nil, err
		}
	}
	return info, addDevices(c.Spec.Devices, info)
}

// rulesOnly is for a /dev that is not ours to fill.
func (i *Isolator) rulesOnly(c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	info := &containerizer.LaunchInfo{}
	if err := addDevices(c.Spec.Devices, info); err != nil {
		return nil, err
	}
	info.Devices = nil
	return info, nil
}

// addDevices adds the devices that a description names.
func addDevices(devices []containerizer.Device, info *containerizer.LaunchInfo) error {
	for _, d := range devices {
		permissions := d.Permissions
		if permissions == "" {
			permissions = "rwm"
		}
		if strings.Trim(permissions, "rwm") != "" {
			return fmt.Errorf("device %q: permissions %q are not letters of rwm: %w", d.HostPath, d.Permissions, containerizer.ErrInvalid)
		}
		if !filepath.IsAbs(d.HostPath) || d.ContainerPath != "" && !filepath.IsAbs(d.ContainerPath) {
			return fmt.Errorf("device %q:%q: paths are absolute: %w", d.HostPath, d.ContainerPath, containerizer.ErrInvalid)
		}
		nodes, err := resolve(d)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			setDevice(info, n)
			info.DeviceRules = append(info.DeviceRules, specs.LinuxDeviceCgroup{
				Allow: true, Type: n.Type, Major: &n.Major, Minor: &n.Minor, Access: permissions,
			})
		}
	}
	return nil
}

// setDevice adds a node, in place of one on the same path.
func setDevice(info *containerizer.LaunchInfo, n specs.LinuxDevice) {
	for i := range info.Devices {
		if info.Devices[i].Path == n.Path {
			info.Devices[i] = n
			return
		}
	}
	info.Devices = append(info.Devices, n)
}

// resolve finds the nodes of one entry: a device, or all devices of a directory.
func resolve(d containerizer.Device) ([]specs.LinuxDevice, error) {
	target := d.ContainerPath
	if target == "" {
		target = d.HostPath
	}
	host, err := filepath.EvalSymlinks(d.HostPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("device %q does not exist on the host: %w", d.HostPath, containerizer.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("device %q: %w", d.HostPath, err)
	}
	st, err := os.Stat(host)
	if err != nil {
		return nil, fmt.Errorf("device %q: %w", d.HostPath, err)
	}
	if st.IsDir() {
		nodes, err := walk(host, target, nil)
		if err == nil && len(nodes) == 0 {
			err = fmt.Errorf("directory %q has no devices: %w", d.HostPath, containerizer.ErrInvalid)
		}
		return nodes, err
	}
	n, ok := node(st, target)
	if !ok {
		return nil, fmt.Errorf("%q is no device: %w", d.HostPath, containerizer.ErrInvalid)
	}
	return []specs.LinuxDevice{n}, nil
}

// walk collects the devices below a directory, but for the names in skip.
func walk(dir, target string, skip []string) ([]specs.LinuxDevice, error) {
	var nodes []specs.LinuxDevice
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if slices.Contains(skip, rel) {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if e.Type()&fs.ModeDevice == 0 {
			return nil
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // unplugged meanwhile
		}
		if err != nil {
			return err
		}
		if n, ok := node(st, filepath.Join(target, rel)); ok {
			nodes = append(nodes, n)
		}
		if len(nodes) > maxDevices {
			return fmt.Errorf("more than %d devices below %q: %w", maxDevices, dir, containerizer.ErrInvalid)
		}
		return nil
	})
	return nodes, err
}

// node describes the device that st is of.
func node(st fs.FileInfo, path string) (specs.LinuxDevice, bool) {
	raw, ok := st.Sys().(*syscall.Stat_t)
	if !ok || st.Mode()&fs.ModeDevice == 0 {
		return specs.LinuxDevice{}, false
	}
	kind := "b"
	if st.Mode()&fs.ModeCharDevice != 0 {
		kind = "c"
	}
	mode, uid, gid := st.Mode().Perm(), raw.Uid, raw.Gid
	return specs.LinuxDevice{
		Path: path, Type: kind, FileMode: &mode, UID: &uid, GID: &gid,
		Major: int64(unix.Major(raw.Rdev)), Minor: int64(unix.Minor(raw.Rdev)),
	}, true
}

// ownDevices are what a container has of its own in /dev.
//
//nolint:gochecknoglobals // a constant
var ownDevices = []string{"pts", "shm", "mqueue", "fd", "console", "ptmx", "core", "stdin", "stdout", "stderr", ".lxc", ".lxd-mounts", ".udev"}

// addAll adds every device of the host, for a privileged container. Its rules are
// open (isolators/cgroup).
func (i *Isolator) addAll(info *containerizer.LaunchInfo) error {
	nodes, err := walk(i.root, "/dev", ownDevices)
	if err != nil {
		return fmt.Errorf("devices of the host: %w", err)
	}
	for _, n := range nodes {
		setDevice(info, n)
	}
	return nil
}
