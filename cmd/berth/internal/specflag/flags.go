package specflag

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// Host is what making a Spec needs to know of the node and its containers.
type Host interface {
	// LookupEnv reads the client's environment.
	LookupEnv(key string) (string, bool)
	// ReadFile reads a file named by a flag.
	ReadFile(path string) ([]byte, error)
	// Abs makes a path of the client absolute.
	Abs(path string) (string, error)
	// Hostname is the node's.
	Hostname() (string, error)
	// LimitsSwap says whether the kernel can bound swap.
	LimitsSwap() bool
	// DeviceNumber returns the numbers of a device node.
	DeviceNumber(path string) (major, minor int64, err error)
	// Container finds a container by name or id.
	Container(nameOrID string) (*containerizer.Status, error)
	// ExposedPorts lists the ports an image declares, such as "80/tcp".
	ExposedPorts(source containerizer.ImageSource) ([]string, error)
	// AnonymousVolume returns the name for a new volume without one.
	AnonymousVolume() string
}

// Flags are the flags of run and create that describe the container.
type Flags struct {
	ResourceFlags

	process    processFlags
	namespaces namespaceFlags
	network    networkFlags
	mounts     mountFlags
	devices    deviceFlags
	security   securityFlags
	log        logFlags
	artifact   artifactFlags

	name         string
	labels       []string
	labelFiles   []string
	annotations  []string
	autoRemove   bool
	platform     string
	pull         string
	rootfs       bool
	readOnly     bool
	cgroupParent string
	runtime      string
	stopSignal   string
	stopTimeout  int
	sysctls      []string

	set *pflag.FlagSet
}

// Register adds the flags to set.
func (f *Flags) Register(set *pflag.FlagSet) {
	f.set = set
	set.StringVar(&f.name, "name", "", "assign a `name` to the container")
	list(set, &f.labels, "label", "l", "set metadata on the container (`KEY=VALUE`)")
	list(set, &f.labelFiles, "label-file", "", "read labels from a `file`, one a line")
	list(set, &f.annotations, "annotation", "", "add an annotation to the container (`KEY=VALUE`)")
	set.BoolVar(&f.autoRemove, "rm", false, "remove the container and its anonymous volumes when it exits")
	set.StringVar(&f.platform, "platform", "", "use the image for this `platform` (os/arch[/variant])")
	set.StringVar(&f.pull, "pull", "missing", "pull the image `when`: always, missing or never")
	set.BoolVar(&f.rootfs, "rootfs", false, "the first argument is a directory to use as the root filesystem, not an image")
	set.BoolVar(&f.readOnly, "read-only", false, "mount the root filesystem read-only")
	set.StringVar(&f.cgroupParent, "cgroup-parent", "", "put the container's cgroup below this `cgroup`")
	set.StringVar(&f.runtime, "runtime", "", "have the container made by this OCI `runtime` of the configuration")
	set.StringVar(&f.stopSignal, "stop-signal", "", "`signal` that stops the container (default: the image's, else SIGTERM)")
	set.IntVar(&f.stopTimeout, "stop-timeout", 10, "`seconds` to wait after the stop signal before SIGKILL")
	list(set, &f.sysctls, "sysctl", "", "set a kernel parameter in the container's namespaces (`NAME=VALUE`)")
	f.process.register(set)
	f.namespaces.register(set)
	f.network.register(set)
	f.mounts.register(set)
	f.devices.register(set)
	f.security.register(set)
	f.log.register(set)
	f.artifact.register(set)
	f.ResourceFlags.Register(set)
}

// list adds a flag that may be given several times; its values are not split.
func list(set *pflag.FlagSet, p *[]string, name, short, usage string) {
	set.VarP((*listValue)(p), name, short, usage)
}

// listValue collects values as they are (pflag's own slices parse CSV).
type listValue []string

// Set implements [pflag.Value].
func (v *listValue) Set(s string) error { *v = append(*v, s); return nil }

// Type implements [pflag.Value].
func (v *listValue) Type() string { return "list" }

// String implements [pflag.Value].
func (v *listValue) String() string { return "" }

// AutoRemove says whether --rm was given.
func (f *Flags) AutoRemove() bool { return f.autoRemove }

// Interactive says whether -i was given, Terminal whether -t.
func (f *Flags) Interactive() bool { return f.process.stdin }

// Terminal says whether -t was given.
func (f *Flags) Terminal() bool { return f.process.terminal }

// Passthrough says whether the process gets the client's own descriptors.
func (f *Flags) Passthrough() bool { return f.log.driver == "passthrough" }

// Spec makes the description of a container from the flags, the image (or
// directory, with --rootfs) and the command.
func (f *Flags) Spec(host Host, image string, command []string) (*containerizer.Spec, error) {
	spec := &containerizer.Spec{
		Name:           f.name,
		AutoRemove:     f.autoRemove,
		ReadonlyRootfs: f.readOnly,
		CgroupParent:   f.cgroupParent,
		Runtime:        f.runtime,
		StopSignal:     f.stopSignal,
	}
	if f.set.Changed("stop-timeout") {
		d := time.Duration(f.stopTimeout) * time.Second
		if f.stopTimeout < 0 { // Docker: wait for ever
			d = 1<<63 - 1
		}
		spec.StopTimeout = &d
	}
	steps := []func(Host, *containerizer.Spec) error{
		func(h Host, s *containerizer.Spec) error { return f.source(h, s, image) },
		f.metadata,
		func(h Host, s *containerizer.Spec) error { return f.process.apply(h, s, command, f.set) },
		f.namespaces.apply,
		f.network.apply,
		f.mounts.apply,
		f.devices.apply,
		f.security.apply,
		f.log.apply,
		f.artifact.apply,
		func(h Host, s *containerizer.Spec) error { return f.Apply(h, &s.Resources) },
		limitSwap,
	}
	for _, step := range steps {
		if err := step(host, spec); err != nil {
			return nil, err
		}
	}
	return spec, nil
}

// source says what the container's root filesystem is.
func (f *Flags) source(host Host, spec *containerizer.Spec, image string) error {
	policy := containerizer.PullPolicy(f.pull)
	switch policy {
	case "missing":
		policy = containerizer.PullMissing
	case containerizer.PullAlways, containerizer.PullNever:
	default:
		return invalidf("--pull %q: always, missing or never", f.pull)
	}
	if !f.rootfs {
		spec.Image = &containerizer.ImageSource{
			Reference: image, Platform: f.platform, Pull: policy,
			Durable: !f.autoRemove, // what is to be started again outlives a power cut
		}
		return nil
	}
	if f.platform != "" || f.set.Changed("pull") {
		return invalidf("--platform and --pull choose an image; with --rootfs there is none")
	}
	path, err := host.Abs(image)
	if err != nil {
		return fmt.Errorf("--rootfs %q: %w", image, err)
	}
	spec.RootfsPath = path
	return nil
}

// metadata sets labels, annotations and sysctls.
func (f *Flags) metadata(host Host, spec *containerizer.Spec) (err error) {
	for _, file := range f.labelFiles {
		lines, err := readLines(host, "--label-file", file)
		if err != nil {
			return err
		}
		if spec.Labels, err = keyValues(spec.Labels, "--label-file "+file, lines); err != nil {
			return err
		}
	}
	if spec.Labels, err = keyValues(spec.Labels, "--label", f.labels); err != nil {
		return err
	}
	if spec.Annotations, err = keyValues(spec.Annotations, "--annotation", f.annotations); err != nil {
		return err
	}
	for _, s := range f.sysctls {
		if err := checkAssignment("--sysctl", s); err != nil {
			return err
		}
	}
	spec.Sysctls, err = keyValues(nil, "--sysctl", f.sysctls)
	return err
}

// invalidf returns an error of class ErrInvalid.
func invalidf(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, containerizer.ErrInvalid)...)
}
