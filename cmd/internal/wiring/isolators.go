package wiring

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/cgroup"
	"github.com/berth-dev/berth/isolators/cgroup/systemd"
	"github.com/berth-dev/berth/isolators/device"
	"github.com/berth-dev/berth/isolators/filesystem"
	"github.com/berth-dev/berth/isolators/hook"
	"github.com/berth-dev/berth/isolators/namespace"
	"github.com/berth-dev/berth/isolators/network"
	"github.com/berth-dev/berth/isolators/security/apparmor"
	"github.com/berth-dev/berth/isolators/security/capabilities"
	"github.com/berth-dev/berth/isolators/security/nnp"
	"github.com/berth-dev/berth/isolators/security/oomscore"
	"github.com/berth-dev/berth/isolators/security/paths"
	"github.com/berth-dev/berth/isolators/security/rlimits"
	"github.com/berth-dev/berth/isolators/security/seccomp"
	"github.com/berth-dev/berth/isolators/security/selinux"
	"github.com/berth-dev/berth/isolators/volume"
)

// isolators returns the isolators that the configuration selects, in the order in
// which they prepare. This is the one list; each comment is the reason for the
// position.
func (n *Node) isolators(images containerizer.VolumeProvisioner) ([]containerizer.Isolator, error) {
	volumes := volume.All(volume.Options{Volumes: filepath.Join(n.cfg.Root, "volumes"), Images: images})
	volumes = slices.DeleteFunc(volumes, func(i containerizer.Isolator) bool { return !n.selected(i.Name()) })
	caps, err := capabilities.New(capabilities.Options{})
	if err != nil {
		return nil, err
	}
	filter, err := seccomp.New(seccomp.Options{Check: func(p *specs.LinuxSeccomp) error {
		_, err := n.filters.Filter(p) // which the launcher then has at hand
		return err
	}})
	if err != nil {
		return nil, err
	}
	limits, err := rlimits.New(rlimits.Options{})
	if err != nil {
		return nil, err
	}
	armor, err := apparmor.New(n.logger("isolator.apparmor"), apparmor.Options{})
	if err != nil {
		return nil, err
	}
	groups, err := n.cgroups()
	if err != nil {
		return nil, err
	}

	// The namespaces decide what everything below may do and where it is visible.
	list := namespace.All()
	// The default mounts depend on which namespaces are new.
	list = append(list, filesystem.New(filesystem.Options{MountTypes: mountTypes(volumes)}))
	// Volumes take the place of default mounts; filesystem has left those out.
	list = append(list, volumes...)
	// Device rules are for the control groups, which come after.
	list = append(list, device.New(device.Options{CDI: n.parts.CDI != nil}))
	list = append(list, groups)
	// The profile's rules depend on the capabilities.
	list = append(list, caps, filter, nnp.New(nnp.Options{}))
	list = append(list,
		armor,
		selinux.New(n.logger("isolator.selinux"), filepath.Join(n.cfg.State, "selinux"), selinux.Options{}),
		limits,
		oomscore.New(n.logger("isolator.oomscore"), oomscore.Options{}),
		paths.New(paths.Options{}),
	)
	// Hooks are only named here; they run when all of the others have acted.
	list = append(list, hook.New(n.hookDirs()))
	// The network acquires most and acts at the barrier: nothing after it can fail.
	list = append(list, network.New(n.logger("isolator.network"), n.networkOptions()))
	if err := n.checkSelection(list); err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(i containerizer.Isolator) bool { return !n.selected(i.Name()) })
	// Those of a program see what all of the others have made.
	list = append(list, n.parts.Isolators...)
	if n.parts.CDI != nil { // plug-ins may add names of devices
		list = append(list, n.parts.CDI(n.cfg))
	}
	return list, nil
}

// required are isolators that the configuration cannot leave out: without them
// there is no container.
//
//nolint:gochecknoglobals // a constant
var required = []string{"filesystem/linux", "cgroups"}

// selected says whether the configuration wants the isolator called name. An empty
// selection is everything.
func (n *Node) selected(name string) bool {
	return len(n.cfg.Isolation) == 0 || slices.Contains(required, name) || slices.Contains(n.cfg.Isolation, name)
}

// checkSelection refuses names that nobody has.
func (n *Node) checkSelection(list []containerizer.Isolator) error {
	known := cgroup.Names()
	for _, i := range list {
		known = append(known, i.Name())
	}
	for _, name := range []string{"volume/host_path", "volume/sandbox_path", "volume/named", "volume/image", "volume/tmpfs"} {
		if !slices.Contains(known, name) {
			known = append(known, name)
		}
	}
	for i, name := range n.cfg.Isolation {
		if !slices.Contains(known, name) {
			slices.Sort(known)
			return fmt.Errorf("isolation: there is no isolator %q (there are %s): %w", name, strings.Join(known, ", "), containerizer.ErrInvalid)
		}
		if slices.Contains(n.cfg.Isolation[:i], name) {
			return fmt.Errorf("isolation: %q is named twice: %w", name, containerizer.ErrInvalid)
		}
	}
	return nil
}

// cgroups makes the one isolator behind all names that begin with cgroups/.
func (n *Node) cgroups() (*cgroup.Isolator, error) {
	o := cgroup.Options{Driver: cgroup.Driver(n.cfg.Cgroup.Driver), Parent: n.cfg.Cgroup.Parent, Owner: n.cfg.State}
	if o.Driver == cgroup.DriverSystemd {
		o.Units = systemd.New(systemd.Options{})
	}
	for _, name := range n.cfg.Isolation {
		if strings.HasPrefix(name, "cgroups/") {
			o.Isolation = append(o.Isolation, name)
		}
	}
	return cgroup.New(o)
}

func mountTypes(volumes []containerizer.Isolator) []containerizer.MountType {
	types := []containerizer.MountType{}
	for _, v := range volumes {
		types = append(types, v.(*volume.Isolator).Types()...)
	}
	return types
}

// hookDirs are the folders of the node's hooks.
func (n *Node) hookDirs() []string {
	if n.cfg.Containers.HooksDir == nil {
		return hook.DefaultDirs()
	}
	return n.cfg.Containers.HooksDir
}

func (n *Node) networkOptions() network.Options {
	o := network.Options{StateDir: n.cfg.State, RootDir: n.cfg.Root, PluginDirs: n.cfg.Network.PluginDirs, DefaultNetwork: n.cfg.Network.Default}
	if n.cfg.Network.ConfDir != "" {
		o.ConfigDirs = []string{n.cfg.Network.ConfDir}
	}
	return o
}

func (n *Node) logger(name string) *log.Logger { return n.log.Named(name) }
