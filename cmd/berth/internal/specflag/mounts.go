package specflag

import (
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// AnonymousVolumes is the annotation that lists, comma separated, the volumes a
// container was given without a name; they go with it.
const AnonymousVolumes = containerizer.AnnotationAnonymousVolumes

// mountFlags describe what is mounted.
type mountFlags struct {
	volumes []string
	mounts  []string
	tmpfs   []string
	from    []string
	shmSize bytesValue
}

func (f *mountFlags) register(set *pflag.FlagSet) {
	list(set, &f.volumes, "volume", "v", "mount a directory, file or volume (`[SOURCE:]TARGET[:OPTIONS]`)")
	list(set, &f.mounts, "mount", "", "mount something (`type=bind|volume|tmpfs|image,source=…,target=…`)")
	list(set, &f.tmpfs, "tmpfs", "", "mount a tmpfs (`TARGET[:OPTIONS]`)")
	list(set, &f.from, "volumes-from", "", "mount what another `container` has mounted (NAME[:ro|rw])")
	set.Var(&f.shmSize, "shm-size", "size of /dev/shm (64m)")
}

func (f *mountFlags) apply(host Host, spec *containerizer.Spec) error {
	var own []containerizer.Mount
	for _, v := range f.volumes {
		m, err := parseVolume(host, v)
		if err != nil {
			return err
		}
		own = append(own, m)
	}
	for _, v := range f.mounts {
		m, err := parseMount(host, v)
		if err != nil {
			return err
		}
		own = append(own, m)
	}
	for _, v := range f.tmpfs {
		m, err := parseTmpfs(v)
		if err != nil {
			return err
		}
		own = append(own, m)
	}
	if f.shmSize != 0 {
		m, err := f.shm(spec)
		if err != nil {
			return err
		}
		own = append(own, m)
	}
	if err := checkDestinations(own); err != nil {
		return err
	}
	nameAnonymous(host, spec, own)
	if spec.Namespaces.User.Mode == containerizer.NamespacePrivate {
		mapVolumes(own)
	}
	inherited, err := f.inherited(host, own)
	if err != nil {
		return err
	}
	spec.Mounts = append(inherited, own...)
	return nil
}

// shm replaces the default mount of /dev/shm.
func (f *mountFlags) shm(spec *containerizer.Spec) (containerizer.Mount, error) {
	if f.shmSize < 0 {
		return containerizer.Mount{}, invalidf("--shm-size is a size of at least 1 byte")
	}
	if m := spec.Namespaces.IPC.Mode; m != containerizer.NamespaceDefault && m != containerizer.NamespacePrivate {
		return containerizer.Mount{}, invalidf("--shm-size: with --ipc %s /dev/shm is the other's", m)
	}
	return containerizer.Mount{
		Type:        containerizer.MountTmpfs,
		Destination: "/dev/shm",
		Options:     []string{"mode=1777", "size=" + f.shmSize.String()},
	}, nil
}

// checkDestinations refuses two mounts on one place.
func checkDestinations(mounts []containerizer.Mount) error {
	seen := map[string]bool{}
	for _, m := range mounts {
		if seen[m.Destination] {
			return invalidf("two mounts have the target %q", m.Destination)
		}
		seen[m.Destination] = true
	}
	return nil
}

// mapVolumes lets the ids of files in volumes be those that the container sees,
// whatever its user namespace maps them to. Files of the host stay the host's.
func mapVolumes(mounts []containerizer.Mount) {
	for i := range mounts {
		if m := &mounts[i]; m.Type == containerizer.MountVolume && !slices.Contains(m.Options, "idmap") {
			m.Options = append(m.Options, "idmap")
		}
	}
}

// nameAnonymous names the volumes without a name and notes them.
func nameAnonymous(host Host, spec *containerizer.Spec, mounts []containerizer.Mount) {
	var names []string
	for i := range mounts {
		if m := &mounts[i]; m.Type == containerizer.MountVolume && m.Source == "" {
			m.Source = host.AnonymousVolume()
			names = append(names, m.Source)
		}
	}
	if len(names) == 0 {
		return
	}
	if spec.Annotations == nil {
		spec.Annotations = map[string]string{}
	}
	spec.Annotations[AnonymousVolumes] = strings.Join(names, ",")
}

// inherited lists the mounts of --volumes-from whose places are still free.
func (f *mountFlags) inherited(host Host, own []containerizer.Mount) ([]containerizer.Mount, error) {
	var out []containerizer.Mount
	for _, v := range f.from {
		name, mode, _ := strings.Cut(v, ":")
		if mode != "" && mode != "ro" && mode != "rw" {
			return nil, invalidf("--volumes-from %q: %q is not ro or rw", v, mode)
		}
		from, err := host.Container(name)
		if err != nil {
			return nil, err
		}
		if from.Spec == nil {
			continue
		}
		for _, m := range from.Spec.Mounts {
			taken := func(o containerizer.Mount) bool { return o.Destination == m.Destination }
			shared := m.Type == containerizer.MountBind || m.Type == containerizer.MountVolume
			if !shared || slices.ContainsFunc(own, taken) || slices.ContainsFunc(out, taken) {
				continue
			}
			if mode == "ro" && !readOnly(m.Options) {
				m.Options = append(slices.Clone(m.Options), "rro")
			}
			out = append(out, m)
		}
	}
	return out, nil
}

func readOnly(options []string) bool {
	return slices.Contains(options, "ro") || slices.Contains(options, "rro")
}

// destination checks the target of a mount.
func destination(flag, value, target string) (string, error) {
	switch {
	case target == "":
		return "", invalidf("%s %q has no target", flag, value)
	case target[0] != '/':
		return "", invalidf("%s %q: the target %q is not an absolute path", flag, value, target)
	case strings.ContainsRune(target, 0):
		return "", invalidf("%s %q: the target holds a NUL byte", flag, value)
	}
	target = path.Clean(target)
	if target == "/" {
		return "", invalidf("%s %q: nothing can be mounted on /", flag, value)
	}
	return target, nil
}
