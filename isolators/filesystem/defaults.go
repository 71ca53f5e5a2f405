package filesystem

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

const ttyGID = 5 // Debian and most others; devpts(4)

// defaultMounts are the mounts that the description does not replace.
func (i *Isolator) defaultMounts(c *containerizer.Container) ([]specs.Mount, error) {
	taken := destinations(c)
	shm, err := i.shm(c)
	if err != nil && !taken["/dev/shm"] {
		return nil, err
	}
	all := []specs.Mount{
		proc(),
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: devptsOptions(c)},
		shm,
		i.mqueue(c),
		i.sysfs(c),
	}
	if !taken["/sys"] {
		all = append(all, i.cgroups(c)...)
	}
	return without(all, taken), nil
}

// ownMounts are the mounts of a child in its parent's file tree: what shows a namespace
// has to show the child's.
func (i *Isolator) ownMounts(c *containerizer.Container) []specs.Mount {
	var mounts []specs.Mount
	if isNew(c, specs.PIDNamespace) {
		mounts = append(mounts, proc())
	}
	if isNew(c, specs.IPCNamespace) {
		mounts = append(mounts, i.newShm(), i.mqueue(c))
	}
	if isNew(c, specs.NetworkNamespace) {
		mounts = append(mounts, i.sysfs(c))
		mounts = append(mounts, i.cgroups(c)...)
	}
	return without(mounts, destinations(c))
}

// without leaves out the mounts that the description has its own for.
func without(mounts []specs.Mount, taken map[string]bool) []specs.Mount {
	return slices.DeleteFunc(mounts, func(m specs.Mount) bool {
		return taken[m.Destination] || taken["/sys/fs/cgroup"] && path.Dir(m.Destination) == "/sys/fs/cgroup"
	})
}

// destinations are where the description has mounts.
func destinations(c *containerizer.Container) map[string]bool {
	taken := map[string]bool{}
	for _, m := range c.Spec.Mounts {
		taken[path.Clean(m.Destination)] = true
	}
	return taken
}

func proc() specs.Mount {
	return specs.Mount{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}}
}

// devptsOptions leaves the group out where it has no meaning: a mapping may not
// have it.
func devptsOptions(c *containerizer.Container) []string {
	options := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if c.Launch != nil && len(c.Launch.GIDMappings) > 0 && !hasID(c.Launch.GIDMappings, ttyGID) {
		return options
	}
	return append(options, "gid="+strconv.Itoa(ttyGID))
}

func hasID(mappings []specs.LinuxIDMapping, id uint32) bool {
	for _, m := range mappings {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return true
		}
	}
	return false
}

// shm is /dev/shm: new with a new ipc namespace, otherwise that of whose namespace
// is shared.
func (i *Isolator) shm(c *containerizer.Container) (specs.Mount, error) {
	if isNew(c, specs.IPCNamespace) {
		return i.newShm(), nil
	}
	source, err := sharedShm(c)
	return specs.Mount{Destination: "/dev/shm", Type: "bind", Source: source, Options: []string{"rbind", "nosuid", "noexec", "nodev"}}, err
}

func (i *Isolator) newShm() specs.Mount {
	options := []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(i.shmBytes, 10)}
	return specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: options}
}

// mqueue shows the message queues of the ipc namespace it is mounted in. A user
// namespace may not mount it over somebody else's.
func (i *Isolator) mqueue(c *containerizer.Container) specs.Mount {
	options := []string{"nosuid", "noexec", "nodev"}
	if hasNamespace(c, specs.UserNamespace) && !hasNamespace(c, specs.IPCNamespace) {
		return specs.Mount{Destination: "/dev/mqueue", Type: "bind", Source: "/dev/mqueue", Options: append([]string{"rbind"}, options...)}
	}
	return specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: options}
}

// podShm is the directory, in that of a pod sandbox, that its containers share as
// /dev/shm: a pod sandbox has no mounts of its own.
const podShm = "shm"

// sharedShm is the path of /dev/shm of whoever's ipc namespace is shared: in the
// file tree of its process, in the directory of the pod sandbox, or the host's.
func sharedShm(c *containerizer.Container) (string, error) {
	owner := containerizer.ContainerID("")
	switch n := c.Spec.Namespaces.IPC; {
	case n.Mode == containerizer.NamespaceContainer:
		owner = n.Container
	case c.Parent != nil && (n.Mode == containerizer.NamespaceDefault || n.Mode == containerizer.NamespaceParent):
		if c.Parent.Spec != nil && c.Parent.Spec.Class == containerizer.ClassPodSandbox {
			return filepath.Join(c.Parent.Dir, podShm), nil
		}
		owner = c.Parent.ID
	}
	if owner == "" {
		return "/dev/shm", nil
	}
	ns, err := c.NamespacePath(owner, specs.MountNamespace)
	if err != nil {
		return "", fmt.Errorf("share /dev/shm of %q: %w", owner, err)
	}
	process, ok := strings.CutSuffix(ns, "/ns/mnt")
	if !ok {
		return "", fmt.Errorf("share /dev/shm of %q: it has no process: %w", owner, containerizer.ErrUnsupported)
	}
	return process + "/root/dev/shm", nil
}

// sysfs shows the network namespace it is mounted in. A user namespace may not
// mount it over somebody else's network namespace: there it is the host's.
func (i *Isolator) sysfs(c *containerizer.Container) specs.Mount {
	readonly := !c.Spec.Security.Privileged
	if hasNamespace(c, specs.UserNamespace) && !isNew(c, specs.NetworkNamespace) {
		options := []string{"rbind", "nosuid", "noexec", "nodev"}
		if readonly {
			options = append(options, "rro")
		}
		return specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: options}
	}
	options := []string{"nosuid", "noexec", "nodev"}
	if readonly {
		options = append(options, "ro")
	}
	return specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: options}
}

// cgroups shows the container its own part of the control groups.
func (i *Isolator) cgroups(c *containerizer.Container) []specs.Mount {
	options := []string{"nosuid", "noexec", "nodev", "relatime"}
	if !c.Spec.Security.Privileged {
		options = append(options, "ro")
	}
	if hasNamespace(c, specs.UserNamespace) && !isNew(c, specs.NetworkNamespace) {
		return nil // /sys is the host's, with its control groups
	}
	if i.isUnified() {
		return []specs.Mount{{Destination: "/sys/fs/cgroup", Type: "cgroup2", Source: "cgroup", Options: options}}
	}
	if c.Launch == nil || !isNew(c, specs.CgroupNamespace) {
		return nil
	}
	return i.legacyCgroups(options)
}

// legacyCgroups mounts every version 1 hierarchy of the host under its name.
func (i *Isolator) legacyCgroups(options []string) []specs.Mount {
	entries, err := os.ReadDir(i.cgroupRoot)
	if err != nil || len(entries) == 0 {
		return nil
	}
	mounts := []specs.Mount{{
		Destination: "/sys/fs/cgroup", Type: "tmpfs", Source: "tmpfs", Options: append(slices.Clip(options), "mode=755"),
	}}
	for _, e := range entries {
		data := hierarchyOption(e.Name())
		if !e.IsDir() || data == "" {
			continue
		}
		mounts = append(mounts, specs.Mount{
			Destination: "/sys/fs/cgroup/" + e.Name(), Type: "cgroup", Source: "cgroup",
			Options: append(slices.Clip(options), data),
		})
	}
	return mounts
}

// hierarchyOption is the option that selects the hierarchy which the host has
// mounted in a directory called name (cgroups(7)).
func hierarchyOption(name string) string {
	switch name {
	case "unified":
		return ""
	case "systemd":
		return "name=systemd"
	}
	return name
}
