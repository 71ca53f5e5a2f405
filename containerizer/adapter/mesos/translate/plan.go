package translate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// Labels of our containers.
const (
	LabelClass = "dev.berth.mesos/class"
	// LabelRoot says whose root filesystem a container has: RootHost or RootImage.
	LabelRoot = "dev.berth.mesos/root"
	// LabelSandbox is where a container sees its sandbox.
	LabelSandbox = "dev.berth.mesos/sandbox"
)

// What the labels say.
const (
	ClassStandalone = "standalone"
	ClassNested     = "nested"
	ClassDebug      = "debug"

	RootHost  = "host"
	RootImage = "image"
)

// Options are settings. The zero value works but for Adapter.
type Options struct {
	// Adapter marks the containers, as their origin.
	Adapter string
	// SandboxDirectory is where a container with an image finds its sandbox; "" is
	// /mnt/mesos/sandbox.
	SandboxDirectory string
	// SeccompDir has the profiles that containers may name; "" is none.
	SeccompDir string
	// EnableCFS bounds processor time by requests as well as limits.
	EnableCFS bool
	// Docker takes containers of type DOCKER, which are no different then.
	Docker bool
	// Secrets takes variables that are secrets, which whoever launches has to keep out of
	// the description.
	Secrets bool
	// Reserved takes resources that are reserved, as those of frameworks are.
	Reserved bool
}

// Translator turns what Mesos says of containers into the vocabulary. It is safe for
// concurrent use.
type Translator struct {
	images    containerizer.Images
	sandboxes func(containerizer.ContainerID) Sandbox
	o         Options
}

// New returns a translator for containers whose sandboxes are where sandboxes says.
func New(images containerizer.Images, sandboxes func(containerizer.ContainerID) Sandbox, o Options) *Translator {
	if o.SandboxDirectory == "" {
		o.SandboxDirectory = "/mnt/mesos/sandbox"
	}
	return &Translator{images: images, sandboxes: sandboxes, o: o}
}

// Order is a container that is to be launched. Command and Container may be nil.
type Order struct {
	ID        containerizer.ContainerID
	Class     string
	Command   *mesosv1.CommandInfo
	Container *mesosv1.ContainerInfo
	Resources []*mesosv1.Resource
	Limits    map[string]*mesosv1.Value_Scalar
	// Env are variables below those of Command, as KEY=VALUE.
	Env []string
}

// Plan is what an order comes to. Spec may be changed before it is used.
type Plan struct {
	ID      containerizer.ContainerID
	Spec    *containerizer.Spec
	Sandbox Sandbox
	Owner   containerizer.Owner
	// SecretEnv are for LaunchOptions.
	SecretEnv []string

	artifacts []containerizer.Artifact
	folders   []folder
}

// Plan translates an order. parent is nil for a root. Nothing is done but that the
// container's image is pulled, on whose configuration some of it depends.
func (t *Translator) Plan(ctx context.Context, o *Order, parent *containerizer.Status) (*Plan, error) {
	if t.o.Docker && o.Container != nil && o.Container.GetType() == mesosv1.ContainerInfo_DOCKER {
		same := *o
		var err error
		if same.Container, err = fromDocker(o.Container); err != nil {
			return nil, err
		}
		o = &same
	}
	p := &Plan{ID: o.ID, Sandbox: t.sandboxes(o.ID), Spec: &containerizer.Spec{
		Origin: &containerizer.Origin{Adapter: t.o.Adapter}, Labels: map[string]string{LabelClass: o.Class},
	}}
	if o.Container != nil && o.Container.GetType() != mesosv1.ContainerInfo_MESOS {
		return nil, unsupported("containers of type %s", o.Container.GetType())
	}
	user, err := t.setUser(p, o, parent)
	if err != nil {
		return nil, err
	}
	if o.Class == ClassDebug {
		err = t.planDebug(ctx, p, o, parent)
	} else {
		err = t.planDefault(ctx, p, o, parent)
	}
	if err != nil {
		return nil, err
	}
	user.setUser(&p.Spec.Process)
	own, secret, err := variables(o.Command)
	if err != nil {
		return nil, err
	}
	if len(secret) > 0 && !t.o.Secrets {
		return nil, unsupported("secrets would be recorded in clear")
	}
	p.SecretEnv = secret
	p.Spec.Process.Env = append(append(p.Spec.Process.Env, o.Env...), own...) // the user's come last, and win
	if p.artifacts, err = artifacts(o.Command); err != nil {
		return nil, err
	}
	if tty := o.Container.GetTtyInfo(); tty != nil {
		p.Spec.Process.Terminal, p.Spec.Process.Stdin = true, true
		if size := tty.GetWindowSize(); size != nil {
			p.Spec.Process.ConsoleSize = &specs.Box{Height: uint(size.GetRows()), Width: uint(size.GetColumns())}
		}
	}
	p.Spec.Log.Driver = containerizer.LogNone
	if o.Class != ClassDebug && !p.Spec.Process.Terminal {
		p.Spec.Log.Driver = containerizer.LogPassthrough // into the sandbox
	}
	return p, nil
}

// setUser finds who the container runs as: whom the command says, else as the parent.
func (t *Translator) setUser(p *Plan, o *Order, parent *containerizer.Status) (*account, error) {
	a := &account{}
	switch name := o.Command.GetUser(); {
	case name != "":
		var err error
		if a, err = lookUp(name); err != nil {
			return nil, err
		}
	case parent != nil:
		a = accountOf(parent.Spec)
	}
	p.Owner = a.owner
	return a, nil
}

// planDebug makes a session in all that the parent has. Its control group is one of its
// own below the parent's, so that all of it can be ended.
func (t *Translator) planDebug(ctx context.Context, p *Plan, o *Order, parent *containerizer.Status) error {
	if c := o.Container; c.GetMesos().GetImage() != nil || len(c.GetVolumes()) > 0 || c.GetLinuxInfo().GetIpcMode() == mesosv1.LinuxInfo_PRIVATE || len(c.GetNetworkInfos()) > 0 {
		return invalid("a session has what its parent has: no image, volumes, networks or namespaces of its own")
	}
	image, err := t.imageOf(ctx, parent)
	if err != nil {
		return err
	}
	in := containerizer.Namespace{Mode: containerizer.NamespaceParent}
	p.Spec.Namespaces = containerizer.Namespaces{Network: in, PID: in, IPC: in, UTS: in, User: in}
	p.Spec.Security = parent.Spec.Security
	p.Spec.Labels[LabelRoot], p.Spec.Labels[LabelSandbox] = parent.Spec.Labels[LabelRoot], parent.Spec.Labels[LabelSandbox]
	if image != nil {
		p.Spec.Process.Env = slices.Clone(image.Env)
		p.Spec.Process.WorkingDir = image.WorkingDir
	}
	p.Spec.Process.Env = append(p.Spec.Process.Env, parent.Spec.Process.Env...)
	if dir := parent.Spec.Process.WorkingDir; dir != "" {
		p.Spec.Process.WorkingDir = dir
	}
	p.Spec.Process.Stdin = true
	p.Spec.Process.StdinOnce = o.Container.GetTtyInfo() == nil // on a terminal the end is typed
	// What is to be masked is, in the file tree of the parent and with its processes.
	p.Spec.Security.MaskedPaths, p.Spec.Security.ReadonlyPaths = &[]string{}, &[]string{}
	return setCommand(&p.Spec.Process, o.Command, nil)
}

// imageOf is the configuration of the image that a container has; nil without one.
func (t *Translator) imageOf(ctx context.Context, of *containerizer.Status) (*v1.ImageConfig, error) {
	if of.Spec.Image == nil {
		return nil, nil
	}
	image, err := t.images.Inspect(ctx, of.ImageManifest.String())
	if err != nil {
		return nil, fmt.Errorf("the parent's image: %w", err)
	}
	if image.Configuration == nil {
		return nil, nil
	}
	return &image.Configuration.Config, nil
}

func (t *Translator) planDefault(ctx context.Context, p *Plan, o *Order, parent *containerizer.Status) error {
	c := o.Container
	if err := t.setLinux(p.Spec, o.ID, c.GetLinuxInfo()); err != nil {
		return err
	}
	if err := t.setResources(p.Spec, o); err != nil {
		return err
	}
	if err := setNetwork(p.Spec, o.ID, c); err != nil {
		return err
	}
	if err := setRlimits(&p.Spec.Process, c.GetRlimitInfo()); err != nil {
		return err
	}
	image, err := t.setRoot(ctx, p, c, parent)
	if err != nil {
		return err
	}
	seen := p.Spec.Labels[LabelSandbox]
	p.Spec.Process.Env = append(p.Spec.Process.Env, "MESOS_SANDBOX="+seen)
	if image == nil || image.WorkingDir == "" {
		p.Spec.Process.WorkingDir = seen
	}
	if p.Spec.Namespaces.PID.Mode == containerizer.NamespaceParent {
		p.Spec.ShareCgroup = false // what it starts has to be found when it ends
	}
	return setCommand(&p.Spec.Process, o.Command, image)
}

// setResources fills in what the container may use. Only a container with a control
// group of its own can be bounded.
func (t *Translator) setResources(spec *containerizer.Spec, o *Order) error {
	if len(o.Resources) == 0 && len(o.Limits) == 0 {
		return nil
	}
	if spec.ShareCgroup {
		return invalid("a container that shares its parent's control group has neither resources nor limits of its own")
	}
	request, err := t.requested(o.Resources)
	if err != nil {
		return err
	}
	limit, err := limited(o.Limits, request)
	if err != nil {
		return err
	}
	spec.Resources.Linux, err = t.groups(request, limit)
	return err
}

// setRoot gives the container its root filesystem: of an image, the parent's, or the
// host's. It returns the image's configuration.
func (t *Translator) setRoot(ctx context.Context, p *Plan, c *mesosv1.ContainerInfo, parent *containerizer.Status) (config *v1.ImageConfig, err error) {
	root, seen := RootHost, p.Sandbox.Path()
	image := c.GetMesos().GetImage()
	switch {
	case image != nil:
		if config, err = t.setImage(ctx, p.Spec, image); err != nil {
			return nil, err
		}
		root, seen = RootImage, t.o.SandboxDirectory
		p.Spec.Mounts = append(p.Spec.Mounts, p.Sandbox.mount(".", seen))
	case parent != nil && parent.Spec.Labels[LabelRoot] == RootImage:
		// It is in the parent's mount namespace, where its sandbox is below the parent's.
		root, seen = RootImage, filepath.Join(parent.Spec.Labels[LabelSandbox], "containers", p.ID.Base())
	}
	p.Spec.Labels[LabelRoot], p.Spec.Labels[LabelSandbox] = root, seen
	vs := volumes{id: p.ID, own: p.Sandbox, parents: t.sandboxes(p.ID.Parent()), seen: seen, root: root}
	for _, v := range c.GetVolumes() {
		if err := vs.add(v); err != nil {
			return nil, err
		}
	}
	p.Spec.Mounts, p.folders = append(p.Spec.Mounts, vs.mounts...), vs.folders
	switch {
	case image != nil:
	case root == RootHost && (parent == nil || parent.Spec.Class == containerizer.ClassPodSandbox || len(p.Spec.Mounts) > 0):
		setHostRoot(p.Spec, parent)
	case len(p.Spec.Mounts) > 0:
		return nil, unsupported("a container in the root filesystem of its parent's image has no volumes or /dev/shm of its own; name the image")
	}
	return config, nil
}

// setHostRoot gives the container the host's root filesystem, with mounts of its own.
func setHostRoot(spec *containerizer.Spec, parent *containerizer.Status) {
	spec.RootfsPath = "/"
	spec.Network.NoHosts, spec.Network.NoResolvConf, spec.Network.NoHostname = true, true, true
	// The kernel refuses to mount a filesystem over itself: what is the host's is bound.
	if spec.Namespaces.Network.Mode != containerizer.NamespacePrivate {
		spec.Mounts = append(spec.Mounts, containerizer.Mount{Type: containerizer.MountBind, Source: "/sys", Destination: "/sys", Options: []string{"rbind", "ro"}})
	}
	pid := spec.Namespaces.PID.Mode
	if pid == containerizer.NamespaceParent && parent != nil {
		pid = parent.Spec.Namespaces.PID.Mode
	}
	if pid == containerizer.NamespaceHost {
		spec.Mounts = append(spec.Mounts, containerizer.Mount{Type: containerizer.MountBind, Source: "/proc", Destination: "/proc", Options: []string{"rbind"}})
	}
}

// setImage gives the container a root filesystem of an image, which is pulled.
func (t *Translator) setImage(ctx context.Context, spec *containerizer.Spec, image *mesosv1.Image) (*v1.ImageConfig, error) {
	source, err := imageSource(image)
	if err != nil {
		return nil, err
	}
	pulled, err := t.images.Pull(ctx, *source, containerizer.PullOptions{})
	if err != nil {
		return nil, fmt.Errorf("image %.200q: %w", source.Reference, err)
	}
	source.Pull = containerizer.PullMissing // it was just looked for
	spec.Image = source
	if pulled.Configuration == nil {
		return &v1.ImageConfig{}, nil
	}
	return &pulled.Configuration.Config, nil
}

// PrepareSandbox makes the sandbox and the folders in it that volumes need.
func (p *Plan) PrepareSandbox() error {
	if err := p.Sandbox.Create(p.Owner); err != nil {
		return err
	}
	for _, f := range p.folders {
		if err := f.in.makeFolder(f.rel, p.Owner); err != nil {
			return err
		}
	}
	return nil
}

// Fetch brings the artifacts into the sandbox.
func (p *Plan) Fetch(ctx context.Context, fetcher containerizer.ArtifactFetcher) error {
	if len(p.artifacts) == 0 {
		return nil
	}
	return p.Sandbox.Within(func(root *os.Root) error {
		dir, err := root.Open(p.Sandbox.rel)
		if err != nil {
			return fmt.Errorf("open the sandbox: %w", err)
		}
		defer dir.Close() //nolint:errcheck // it was only looked into
		// By descriptor: containers may have moved what leads there.
		path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), dir.Fd())
		_, err = fetcher.Fetch(ctx, path, p.artifacts, containerizer.FetchOptions{Owner: &p.Owner})
		return err
	})
}
