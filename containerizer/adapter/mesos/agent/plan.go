package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// adapterName marks our containers, as their origin.
const adapterName = "mesos"

// Labels of our containers.
const (
	labelClass = "dev.berth.mesos/class"
	// labelRoot says whose root filesystem a container has: rootHost or rootImage.
	labelRoot = "dev.berth.mesos/root"
	// labelSandbox is where a container sees its sandbox.
	labelSandbox = "dev.berth.mesos/sandbox"

	classStandalone = "standalone"
	classNested     = "nested"
	classDebug      = "debug"

	rootHost  = "host"
	rootImage = "image"
)

// order is a container that is to be launched.
type order struct {
	id        containerizer.ContainerID
	class     string
	command   *mesosv1.CommandInfo
	container *mesosv1.ContainerInfo
	resources []*mesosv1.Resource
	limits    map[string]*mesosv1.Value_Scalar
}

// plan is what an order comes to.
type plan struct {
	id        containerizer.ContainerID
	spec      *containerizer.Spec
	sandbox   sandbox
	owner     containerizer.Owner
	artifacts []containerizer.Artifact
	folders   []folder
}

// plan translates an order. parent is nil for a root. Nothing is done but that the
// container's image is pulled, on whose configuration some of it depends.
func (s *Server) plan(ctx context.Context, o *order, parent *containerizer.Status) (*plan, error) {
	p := &plan{id: o.id, sandbox: s.sandboxOf(o.id), spec: &containerizer.Spec{
		Origin: &containerizer.Origin{Adapter: adapterName}, Labels: map[string]string{labelClass: o.class},
	}}
	if o.container != nil && o.container.GetType() != mesosv1.ContainerInfo_MESOS {
		return nil, unsupported("containers of type %s", o.container.GetType())
	}
	user, err := s.setUser(p, o, parent)
	if err != nil {
		return nil, err
	}
	if o.class == classDebug {
		err = s.planDebug(ctx, p, o, parent)
	} else {
		err = s.planDefault(ctx, p, o, parent)
	}
	if err != nil {
		return nil, err
	}
	user.setUser(&p.spec.Process)
	own, err := variables(o.command)
	if err != nil {
		return nil, err
	}
	p.spec.Process.Env = append(p.spec.Process.Env, own...) // the user's come last, and win
	if p.artifacts, err = artifacts(o.command); err != nil {
		return nil, err
	}
	if tty := o.container.GetTtyInfo(); tty != nil {
		p.spec.Process.Terminal, p.spec.Process.Stdin = true, true
		if size := tty.GetWindowSize(); size != nil {
			p.spec.Process.ConsoleSize = &specs.Box{Height: uint(size.GetRows()), Width: uint(size.GetColumns())}
		}
	}
	p.spec.Log.Driver = containerizer.LogNone
	if o.class != classDebug && !p.spec.Process.Terminal {
		p.spec.Log.Driver = containerizer.LogPassthrough // into the sandbox
	}
	return p, nil
}

// setUser finds who the container runs as: whom the command says, else as the parent.
func (s *Server) setUser(p *plan, o *order, parent *containerizer.Status) (*account, error) {
	a := &account{}
	switch name := o.command.GetUser(); {
	case name != "":
		var err error
		if a, err = lookUp(name); err != nil {
			return nil, err
		}
	case parent != nil:
		a = accountOf(parent.Spec)
	}
	p.owner = a.owner
	return a, nil
}

// planDebug makes a session in all that the parent has. Its control group is one of its
// own below the parent's, so that all of it can be ended.
func (s *Server) planDebug(ctx context.Context, p *plan, o *order, parent *containerizer.Status) error {
	if c := o.container; c.GetMesos().GetImage() != nil || len(c.GetVolumes()) > 0 || c.GetLinuxInfo().GetIpcMode() == mesosv1.LinuxInfo_PRIVATE || len(c.GetNetworkInfos()) > 0 {
		return invalid("a session has what its parent has: no image, volumes, networks or namespaces of its own")
	}
	image, err := s.imageOf(ctx, parent)
	if err != nil {
		return err
	}
	in := containerizer.Namespace{Mode: containerizer.NamespaceParent}
	p.spec.Namespaces = containerizer.Namespaces{Network: in, PID: in, IPC: in, UTS: in, User: in}
	p.spec.Security = parent.Spec.Security
	p.spec.Labels[labelRoot], p.spec.Labels[labelSandbox] = parent.Spec.Labels[labelRoot], parent.Spec.Labels[labelSandbox]
	if image != nil {
		p.spec.Process.Env = slices.Clone(image.Env)
		p.spec.Process.WorkingDir = image.WorkingDir
	}
	p.spec.Process.Env = append(p.spec.Process.Env, parent.Spec.Process.Env...)
	if dir := parent.Spec.Process.WorkingDir; dir != "" {
		p.spec.Process.WorkingDir = dir
	}
	p.spec.Process.Stdin = true
	p.spec.Process.StdinOnce = o.container.GetTtyInfo() == nil // on a terminal the end is typed
	// What is to be masked is, in the file tree of the parent and with its processes.
	p.spec.Security.MaskedPaths, p.spec.Security.ReadonlyPaths = &[]string{}, &[]string{}
	return setCommand(&p.spec.Process, o.command, nil)
}

// imageOf is the configuration of the image that a container has; nil without one.
func (s *Server) imageOf(ctx context.Context, of *containerizer.Status) (*v1.ImageConfig, error) {
	if of.Spec.Image == nil {
		return nil, nil
	}
	image, err := s.Images.Inspect(ctx, of.ImageManifest.String())
	if err != nil {
		return nil, fmt.Errorf("the parent's image: %w", err)
	}
	if image.Configuration == nil {
		return nil, nil
	}
	return &image.Configuration.Config, nil
}

func (s *Server) planDefault(ctx context.Context, p *plan, o *order, parent *containerizer.Status) error {
	c := o.container
	if err := s.setLinux(p.spec, o.id, c.GetLinuxInfo()); err != nil {
		return err
	}
	if err := s.setResources(p.spec, o); err != nil {
		return err
	}
	if err := setNetwork(p.spec, o.id, c); err != nil {
		return err
	}
	if err := setRlimits(&p.spec.Process, c.GetRlimitInfo()); err != nil {
		return err
	}
	image, err := s.setRoot(ctx, p, c, parent)
	if err != nil {
		return err
	}
	seen := p.spec.Labels[labelSandbox]
	p.spec.Process.Env = append(p.spec.Process.Env, "MESOS_SANDBOX="+seen)
	if image == nil || image.WorkingDir == "" {
		p.spec.Process.WorkingDir = seen
	}
	if p.spec.Namespaces.PID.Mode == containerizer.NamespaceParent {
		p.spec.ShareCgroup = false // what it starts has to be found when it ends
	}
	return setCommand(&p.spec.Process, o.command, image)
}

// setResources fills in what the container may use. Only a container with a control
// group of its own can be bounded.
func (s *Server) setResources(spec *containerizer.Spec, o *order) error {
	if len(o.resources) == 0 && len(o.limits) == 0 {
		return nil
	}
	if spec.ShareCgroup {
		return invalid("a container that shares its parent's control group has neither resources nor limits of its own")
	}
	request, err := requested(o.resources)
	if err != nil {
		return err
	}
	limit, err := limited(o.limits, request)
	if err != nil {
		return err
	}
	spec.Resources.Linux, err = s.groups(request, limit)
	return err
}

// setRoot gives the container its root filesystem: of an image, the parent's, or the
// host's. It returns the image's configuration.
func (s *Server) setRoot(ctx context.Context, p *plan, c *mesosv1.ContainerInfo, parent *containerizer.Status) (config *v1.ImageConfig, err error) {
	root, seen := rootHost, p.sandbox.path()
	image := c.GetMesos().GetImage()
	switch {
	case image != nil:
		if config, err = s.setImage(ctx, p.spec, image); err != nil {
			return nil, err
		}
		root, seen = rootImage, s.o.SandboxDirectory
		p.spec.Mounts = append(p.spec.Mounts, p.sandbox.mount(".", seen))
	case parent != nil && parent.Spec.Labels[labelRoot] == rootImage:
		// It is in the parent's mount namespace, where its sandbox is below the parent's.
		root, seen = rootImage, filepath.Join(parent.Spec.Labels[labelSandbox], "containers", p.id.Base())
	}
	p.spec.Labels[labelRoot], p.spec.Labels[labelSandbox] = root, seen
	vs := volumes{id: p.id, own: p.sandbox, parents: s.sandboxOf(p.id.Parent()), seen: seen, root: root}
	for _, v := range c.GetVolumes() {
		if err := vs.add(v); err != nil {
			return nil, err
		}
	}
	p.spec.Mounts, p.folders = append(p.spec.Mounts, vs.mounts...), vs.folders
	switch {
	case image != nil:
	case root == rootHost && (parent == nil || len(p.spec.Mounts) > 0):
		setHostRoot(p.spec, parent)
	case len(p.spec.Mounts) > 0:
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
func (s *Server) setImage(ctx context.Context, spec *containerizer.Spec, image *mesosv1.Image) (*v1.ImageConfig, error) {
	source, err := imageSource(image)
	if err != nil {
		return nil, err
	}
	pulled, err := s.Images.Pull(ctx, *source, containerizer.PullOptions{})
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
