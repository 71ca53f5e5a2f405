package specflag

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// Without mappings of his own, a user of --userns=private gets this range of the
// node's ids: it is above those that useradd and /etc/subuid hand out by default.
const (
	privateUserFirst = 1 << 31
	privateUserSize  = 1 << 16
)

// namespaceFlags choose namespaces, the network's apart.
type namespaceFlags struct {
	pid, ipc, uts, cgroup, user string
	uidMap, gidMap              []string
}

func (f *namespaceFlags) register(set *pflag.FlagSet) {
	set.StringVar(&f.pid, "pid", "", "process `namespace`: private, host or container:NAME")
	set.StringVar(&f.ipc, "ipc", "", "IPC `namespace`: private, shareable, host or container:NAME")
	set.StringVar(&f.uts, "uts", "", "host name `namespace`: private, host or container:NAME")
	set.StringVar(&f.cgroup, "cgroupns", "", "cgroup `namespace`: private or host")
	set.StringVar(&f.user, "userns", "", "user `namespace`: host, private or container:NAME")
	list(set, &f.uidMap, "uidmap", "", "map users of a private user namespace (`CONTAINER:HOST:SIZE`)")
	list(set, &f.gidMap, "gidmap", "", "map groups of a private user namespace (`CONTAINER:HOST:SIZE`)")
}

func (f *namespaceFlags) apply(host Host, spec *containerizer.Spec) error {
	ns := &spec.Namespaces
	for _, c := range []struct {
		flag, value string
		out         *containerizer.Namespace
	}{
		{"--pid", f.pid, &ns.PID},
		{"--ipc", f.ipc, &ns.IPC},
		{"--uts", f.uts, &ns.UTS},
		{"--cgroupns", f.cgroup, &ns.Cgroup},
		{"--userns", f.user, &ns.User},
	} {
		n, err := namespace(host, c.flag, c.value)
		if err != nil {
			return err
		}
		*c.out = n
	}
	return f.mappings(ns)
}

// namespace parses one choice.
func namespace(host Host, flag, value string) (containerizer.Namespace, error) {
	kind, rest, _ := strings.Cut(value, ":")
	switch kind {
	case "":
		if value == "" {
			return containerizer.Namespace{}, nil
		}
	case "private":
		return containerizer.Namespace{Mode: containerizer.NamespacePrivate}, nil
	case "shareable":
		if flag == "--ipc" { // every namespace of berth can be joined
			return containerizer.Namespace{Mode: containerizer.NamespacePrivate}, nil
		}
	case "host":
		return containerizer.Namespace{Mode: containerizer.NamespaceHost}, nil
	case "ns":
		if strings.HasPrefix(rest, "/") {
			return containerizer.Namespace{Mode: containerizer.NamespacePath, Path: rest}, nil
		}
	case "container":
		if rest == "" {
			return containerizer.Namespace{}, invalidf("%s %q names no container", flag, value)
		}
		c, err := host.Container(rest)
		if err != nil {
			return containerizer.Namespace{}, err
		}
		return containerizer.Namespace{Mode: containerizer.NamespaceContainer, Container: c.ID}, nil
	}
	return containerizer.Namespace{}, invalidf("%s %q: private, host, container:NAME or ns:PATH is possible", flag, value)
}

// mappings sets the id mappings; giving any asks for a private user namespace.
func (f *namespaceFlags) mappings(ns *containerizer.Namespaces) (err error) {
	if ns.UIDMappings, err = idMappings("--uidmap", f.uidMap); err != nil {
		return err
	}
	if ns.GIDMappings, err = idMappings("--gidmap", f.gidMap); err != nil {
		return err
	}
	given := len(f.uidMap) > 0 || len(f.gidMap) > 0
	switch ns.User.Mode {
	case containerizer.NamespaceDefault:
		if !given {
			return nil
		}
		ns.User.Mode = containerizer.NamespacePrivate
	case containerizer.NamespacePrivate:
	default:
		if given {
			return invalidf("--uidmap and --gidmap are for a private user namespace, not --userns %s", f.user)
		}
		return nil
	}
	switch {
	case !given:
		all := []specs.LinuxIDMapping{{HostID: privateUserFirst, Size: privateUserSize}}
		ns.UIDMappings, ns.GIDMappings = all, all
	case len(f.uidMap) == 0: // Podman: one list serves for both
		ns.UIDMappings = ns.GIDMappings
	case len(f.gidMap) == 0:
		ns.GIDMappings = ns.UIDMappings
	}
	return nil
}

// idMappings parses "CONTAINER:HOST[:SIZE]".
func idMappings(flag string, values []string) ([]specs.LinuxIDMapping, error) {
	var out []specs.LinuxIDMapping
	for _, v := range values {
		parts := strings.Split(v, ":")
		if len(parts) == 2 {
			parts = append(parts, "1")
		}
		if len(parts) != 3 {
			return nil, invalidf("%s %q is not CONTAINER:HOST:SIZE", flag, v)
		}
		var n [3]uint32
		for i, p := range parts {
			u, err := strconv.ParseUint(p, 10, 32)
			if err != nil {
				return nil, invalidf("%s %q: %q is not an id", flag, v, p)
			}
			n[i] = uint32(u)
		}
		if n[2] == 0 || uint64(n[0])+uint64(n[2]) > 1<<32 || uint64(n[1])+uint64(n[2]) > 1<<32 {
			return nil, invalidf("%s %q: the range does not fit into the ids that exist", flag, v)
		}
		out = append(out, specs.LinuxIDMapping{ContainerID: n[0], HostID: n[1], Size: n[2]})
	}
	return out, nil
}
