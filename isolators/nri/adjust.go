package nri

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// adjusted is the description in c with what plug-ins want of it. Nothing of c.Spec is
// written to.
func adjusted(c *containerizer.Container, a *api.ContainerAdjustment) (*containerizer.Spec, error) {
	spec := *c.Spec
	if a == nil {
		return &spec, nil
	}
	spec.Annotations = adjustMap(spec.Annotations, a.GetAnnotations())
	spec.Process.Env = adjustEnv(spec.Process.Env, a.GetEnv())
	if args := a.GetArgs(); len(args) > 0 {
		spec.Process.Entrypoint, spec.Process.Args = []string{}, slices.Clone(args)
	}
	spec.Hooks = adjustHooks(spec.Hooks, a.GetHooks())
	spec.Process.Rlimits = adjustRlimits(spec.Process.Rlimits, a.GetRlimits())
	spec.CDIDevices = slices.Clone(spec.CDIDevices)
	for _, d := range a.GetCDIDevices() {
		spec.CDIDevices = append(spec.CDIDevices, d.GetName())
	}
	var err error
	if spec.Mounts, err = adjustMounts(spec.Mounts, a.GetMounts()); err != nil {
		return nil, err
	}
	if l := a.GetLinux(); l != nil {
		if err := adjustLinux(c, &spec, l); err != nil {
			return nil, err
		}
	}
	return &spec, nil
}

// adjustLinux applies what only Linux has.
func adjustLinux(c *containerizer.Container, spec *containerizer.Spec, l *api.LinuxContainerAdjustment) error {
	switch {
	case l.GetCgroupsPath() != "":
		return fmt.Errorf("cgroups path %q: where a container's control group is, is berth's choice: %w", l.GetCgroupsPath(), containerizer.ErrUnsupported)
	case len(l.GetNetDevices()) > 0:
		return fmt.Errorf("network devices: %w", containerizer.ErrUnsupported)
	case l.GetRdt().GetClosId() != nil, l.GetRdt().GetSchemata() != nil, l.GetRdt().GetEnableMonitoring() != nil: // to remove what is not there is done
		return fmt.Errorf("RDT: %w", containerizer.ErrUnsupported)
	case l.GetMemoryPolicy() != nil:
		return fmt.Errorf("a memory policy: %w", containerizer.ErrUnsupported)
	}
	if score := l.GetOomScoreAdj(); score != nil {
		n := int(score.GetValue())
		spec.Process.OOMScoreAdj = &n
	}
	if p := l.GetIoPriority(); p != nil {
		spec.Process.IOPriority = p.ToOCI()
	}
	if s := l.GetScheduler(); s != nil {
		spec.Process.Scheduler = s.ToOCI()
	}
	spec.Sysctls = adjustMap(spec.Sysctls, l.GetSysctl())
	if err := adjustNamespaces(&spec.Namespaces, l.GetNamespaces()); err != nil {
		return err
	}
	if err := overlay(&spec.Resources.Linux, l.GetResources()); err != nil {
		return err
	}
	var err error
	if spec.Devices, err = adjustDevices(spec.Devices, l.GetDevices()); err != nil {
		return err
	}
	if p := l.GetSeccompPolicy(); p != nil {
		spec.Security.Seccomp, err = writeProfile(c, p)
	}
	return err
}

// adjustMap sets what is given, and removes what is marked so.
func adjustMap(old, change map[string]string) map[string]string {
	if len(change) == 0 {
		return old
	}
	out := maps.Clone(old)
	if out == nil {
		out = map[string]string{}
	}
	for key := range change {
		if name, marked := api.IsMarkedForRemoval(key); marked {
			delete(out, name)
		}
	}
	for key, value := range change {
		if _, marked := api.IsMarkedForRemoval(key); !marked {
			out[key] = value
		}
	}
	return out
}

// adjustEnv replaces variables where they stand, and adds others.
func adjustEnv(old []string, change []*api.KeyValue) []string {
	out := slices.Clone(old)
	index := func(key string) int {
		return slices.IndexFunc(out, func(kv string) bool { return strings.HasPrefix(kv, key+"=") })
	}
	for _, e := range change {
		if name, marked := e.IsMarkedForRemoval(); marked {
			if n := index(name); n >= 0 {
				out = slices.Delete(out, n, n+1)
			}
		}
	}
	for _, e := range change {
		if _, marked := e.IsMarkedForRemoval(); marked {
			continue
		}
		if n := index(e.GetKey()); n >= 0 {
			out[n] = e.ToOCI()
		} else {
			out = append(out, e.ToOCI())
		}
	}
	return out
}

func adjustHooks(old *specs.Hooks, change *api.Hooks) *specs.Hooks {
	if change.Hooks() == nil {
		return old
	}
	var out specs.Hooks
	if old != nil {
		out = *old
	}
	add := func(to *[]specs.Hook, more []*api.Hook) {
		*to = slices.Clone(*to)
		for _, h := range more {
			*to = append(*to, h.ToOCI())
		}
	}
	add(&out.Prestart, change.GetPrestart()) //nolint:staticcheck // deprecated, and in use
	add(&out.CreateRuntime, change.GetCreateRuntime())
	add(&out.CreateContainer, change.GetCreateContainer())
	add(&out.StartContainer, change.GetStartContainer())
	add(&out.Poststart, change.GetPoststart())
	add(&out.Poststop, change.GetPoststop())
	return &out
}

func adjustRlimits(old []specs.POSIXRlimit, change []*api.POSIXRlimit) []specs.POSIXRlimit {
	out := slices.Clone(old)
	for _, r := range change {
		out = slices.DeleteFunc(out, func(o specs.POSIXRlimit) bool { return o.Type == r.GetType() })
		out = append(out, specs.POSIXRlimit{Type: r.GetType(), Hard: r.GetHard(), Soft: r.GetSoft()})
	}
	return out
}

// adjustMounts replaces mounts on the same destination, and adds others.
func adjustMounts(old []containerizer.Mount, change []*api.Mount) ([]containerizer.Mount, error) {
	out := slices.Clone(old)
	for _, m := range change {
		destination, marked := m.IsMarkedForRemoval()
		if !marked {
			destination = m.GetDestination()
		}
		destination = filepath.Clean(destination)
		out = slices.DeleteFunc(out, func(o containerizer.Mount) bool { return filepath.Clean(o.Destination) == destination })
		if marked {
			continue
		}
		mount := containerizer.Mount{Type: containerizer.MountFilesystem, FSType: m.GetType(), Source: m.GetSource(), Destination: destination, Options: slices.Clone(m.GetOptions())}
		switch {
		case m.GetType() == "bind", slices.Contains(mount.Options, "bind"), slices.Contains(mount.Options, "rbind"):
			mount.Type, mount.FSType = containerizer.MountBind, ""
			if !filepath.IsAbs(mount.Source) {
				return nil, fmt.Errorf("mount of %q on %q: the source is not an absolute path: %w", mount.Source, destination, containerizer.ErrInvalid)
			}
		case m.GetType() == "tmpfs":
			mount.Type, mount.FSType, mount.Source = containerizer.MountTmpfs, "", ""
		case m.GetType() == "":
			return nil, fmt.Errorf("mount on %q: it has no type: %w", destination, containerizer.ErrInvalid)
		}
		out = append(out, mount)
	}
	return out, nil
}

func adjustNamespaces(n *containerizer.Namespaces, change []*api.LinuxNamespace) error {
	for _, ns := range change {
		kind, marked := ns.IsMarkedForRemoval()
		all := choices(n)
		at := slices.IndexFunc(all, func(c choice) bool { return string(c.kind) == kind })
		if at < 0 {
			return fmt.Errorf("%s namespace: it cannot be chosen: %w", kind, containerizer.ErrUnsupported)
		}
		switch {
		case marked:
			*all[at].at = containerizer.Namespace{Mode: containerizer.NamespaceHost}
		case ns.GetPath() == "":
			*all[at].at = containerizer.Namespace{Mode: containerizer.NamespacePrivate}
		default:
			*all[at].at = containerizer.Namespace{Mode: containerizer.NamespacePath, Path: ns.GetPath()}
		}
	}
	return nil
}

// adjustDevices finds the nodes of the host for devices, which are known by number.
func adjustDevices(old []containerizer.Device, change []*api.LinuxDevice) ([]containerizer.Device, error) {
	out := slices.Clone(old)
	for _, d := range change {
		path, marked := d.IsMarkedForRemoval()
		out = slices.DeleteFunc(out, func(o containerizer.Device) bool {
			return o.ContainerPath == path || o.ContainerPath == "" && o.HostPath == path
		})
		if marked {
			continue
		}
		host, err := hostDevice(d)
		if err != nil {
			return nil, fmt.Errorf("device %q: %w", d.GetPath(), err)
		}
		out = append(out, containerizer.Device{HostPath: host, ContainerPath: d.GetPath()})
	}
	return out, nil
}

// hostDevice is the path of the node that has a device's numbers and, if they are
// given, its mode and owner.
func hostDevice(d *api.LinuxDevice) (string, error) {
	folder := map[string]string{"c": "char", "u": "char", "b": "block"}[d.GetType()]
	if folder == "" {
		return "", fmt.Errorf("type %q: %w", d.GetType(), containerizer.ErrUnsupported)
	}
	uevent, err := os.ReadFile(fmt.Sprintf("/sys/dev/%s/%d:%d/uevent", folder, d.GetMajor(), d.GetMinor()))
	if err != nil {
		return "", fmt.Errorf("the node has no such device: %w: %w", err, containerizer.ErrInvalid)
	}
	for line := range strings.Lines(string(uevent)) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME=")
		if !ok {
			continue
		}
		path := filepath.Join("/dev", filepath.Join("/", name))
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return "", fmt.Errorf("%q: %w: %w", path, err, containerizer.ErrInvalid)
		}
		same := unix.Major(st.Rdev) == uint32(d.GetMajor()) && unix.Minor(st.Rdev) == uint32(d.GetMinor())
		if m := d.GetFileMode(); m != nil {
			same = same && fs.FileMode(m.GetValue()).Perm() == fs.FileMode(st.Mode&^syscall.S_IFMT).Perm()
		}
		if u := d.GetUid(); u != nil {
			same = same && u.GetValue() == st.Uid
		}
		if g := d.GetGid(); g != nil {
			same = same && g.GetValue() == st.Gid
		}
		if !same {
			return "", fmt.Errorf("mode or owner other than those of %q: %w", path, containerizer.ErrUnsupported)
		}
		return path, nil
	}
	return "", fmt.Errorf("there is no node of it in /dev: %w", containerizer.ErrUnsupported)
}

// writeProfile puts a seccomp profile where the isolator for it finds it.
func writeProfile(c *containerizer.Container, p *api.LinuxSeccomp) (string, error) {
	profile := specs.LinuxSeccomp{
		DefaultAction: specs.LinuxSeccompAction(p.GetDefaultAction()), ListenerPath: p.GetListenerPath(), ListenerMetadata: p.GetListenerMetadata(),
		Syscalls: api.ToOCILinuxSyscalls(p.GetSyscalls()),
	}
	if e := p.GetDefaultErrno(); e != nil {
		n := uint(e.GetValue())
		profile.DefaultErrnoRet = &n
	}
	for _, a := range p.GetArchitectures() {
		profile.Architectures = append(profile.Architectures, specs.Arch(a))
	}
	for _, f := range p.GetFlags() {
		profile.Flags = append(profile.Flags, specs.LinuxSeccompFlag(f))
	}
	text, err := json.Marshal(profile)
	if err != nil {
		return "", fmt.Errorf("seccomp policy: %w", err)
	}
	dir := filepath.Join(c.Dir, Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("seccomp policy: %w", err)
	}
	path := filepath.Join(dir, "seccomp.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("seccomp policy: %w", err)
	}
	return path, nil
}
