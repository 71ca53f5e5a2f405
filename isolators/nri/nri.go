package nri

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	nrilog "github.com/containerd/nri/pkg/log"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

// Name is the isolator's name.
const Name = "nri"

// Options say where plug-ins are and how long they may take. Zero values are those of
// the field.
type Options struct {
	// Socket is where plug-ins connect.
	Socket string
	// PluginDir holds plug-ins to be started, ConfigDir their configurations.
	PluginDir, ConfigDir string
	// RegistrationTimeout and RequestTimeout bound a plug-in's answers. Who is later is
	// disconnected.
	RegistrationTimeout, RequestTimeout time.Duration
	// NoConnections leaves the socket out: only plug-ins of PluginDir.
	NoConnections bool
	// Version is what plug-ins are told of berth.
	Version string
}

// Isolator speaks with plug-ins while Run runs.
type Isolator struct {
	o   Options
	log *log.Logger
	// started is closed once plug-ins were started; adaptation and engine are set before.
	started    chan struct{}
	adaptation *adaptation.Adaptation
	engine     containerizer.Engine

	mu    sync.Mutex
	shown map[containerizer.ContainerID]*shown
}

// shown is what plug-ins know of a container.
type shown struct {
	pod       *api.PodSandbox
	container *api.Container // nil for a pod sandbox
	stopped   bool
}

var (
	_ containerizer.Isolator        = (*Isolator)(nil)
	_ containerizer.Adjuster        = (*Isolator)(nil)
	_ containerizer.Starter         = (*Isolator)(nil)
	_ containerizer.ProcessIsolator = (*Isolator)(nil)
)

// New returns the isolator. Nothing starts before Run, and until then launches wait.
func New(logger *log.Logger, o Options) *Isolator {
	if o.Socket == "" {
		o.Socket = adaptation.DefaultSocketPath
	}
	if o.PluginDir == "" {
		o.PluginDir = adaptation.DefaultPluginPath
	}
	if o.ConfigDir == "" {
		o.ConfigDir = adaptation.DefaultPluginConfigPath
	}
	if o.RegistrationTimeout == 0 {
		o.RegistrationTimeout = adaptation.DefaultPluginRegistrationTimeout
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = adaptation.DefaultPluginRequestTimeout
	}
	return &Isolator{o: o, log: logger, started: make(chan struct{}), shown: map[containerizer.ContainerID]*shown{}}
}

// Name implements [containerizer.Isolator].
func (i *Isolator) Name() string { return Name }

// Prepare implements [containerizer.Isolator]: a pod sandbox is shown while it waits.
func (i *Isolator) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	if c.Spec.Class != containerizer.ClassPodSandbox {
		return nil, nil
	}
	return &containerizer.LaunchInfo{Barrier: true}, nil
}

// Cleanup implements [containerizer.Isolator]; the event of the end is what plug-ins are
// told of.
func (i *Isolator) Cleanup(context.Context, *containerizer.Container) error { return nil }

// Isolate implements [containerizer.ProcessIsolator]: it shows a pod sandbox, with its
// network, to plug-ins.
func (i *Isolator) Isolate(ctx context.Context, c *containerizer.Container, pid int) error {
	if c.Spec.Class != containerizer.ClassPodSandbox {
		return nil
	}
	if err := i.await(ctx); err != nil {
		return err
	}
	block := i.adaptation.BlockPluginSync()
	defer block.Unblock()
	pod := podOf(c.ID, c.Spec, pid)
	i.show(c.ID, &shown{pod: pod})
	if err := i.adaptation.RunPodSandbox(ctx, &api.RunPodSandboxRequest{Pod: pod}); err != nil {
		return refused("pod sandbox", err)
	}
	return nil
}

// await waits until plug-ins are there.
func (i *Isolator) await(ctx context.Context) error {
	select {
	case <-i.started:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for NRI plug-ins to start: %w", context.Cause(ctx))
	}
}

// refused is the error of a plug-in about a container.
func refused(what string, err error) error {
	return fmt.Errorf("an NRI plug-in refuses the %s: %w: %w", what, err, containerizer.ErrFailedPrecondition)
}

// Adjust implements [containerizer.Adjuster].
func (i *Isolator) Adjust(ctx context.Context, c *containerizer.Container) (*containerizer.Spec, error) {
	if err := i.await(ctx); err != nil {
		return nil, err
	}
	if c.Spec.Class == containerizer.ClassPodSandbox {
		return c.Spec, nil // Isolate shows it
	}
	block := i.adaptation.BlockPluginSync()
	defer block.Unblock()
	if old := i.take(c.ID); old != nil { // it is started again
		i.gone(ctx, c.ID, old)
	}
	s := &shown{pod: i.podFor(c), container: containerOf(c.ID, c.Spec)}
	i.show(c.ID, s)
	if c.Parent == nil {
		if err := i.adaptation.RunPodSandbox(ctx, &api.RunPodSandboxRequest{Pod: s.pod}); err != nil {
			return nil, refused("container", err)
		}
	}
	answer, err := i.adaptation.CreateContainer(ctx, &api.CreateContainerRequest{Pod: s.pod, Container: containerOf(c.ID, c.Spec)})
	if err != nil {
		return nil, refused("container", err)
	}
	spec, err := adjusted(c, answer.GetAdjust())
	if err != nil {
		return nil, fmt.Errorf("what NRI plug-ins ask for: %w", err)
	}
	i.show(c.ID, &shown{pod: s.pod, container: containerOf(c.ID, spec)})
	i.applyOthers(ctx, c.ID, answer.GetUpdate())
	return spec, nil
}

// AdjustUpdate implements [containerizer.Adjuster].
func (i *Isolator) AdjustUpdate(ctx context.Context, c *containerizer.Container, r *containerizer.Resources) (*containerizer.Resources, error) {
	if ctx.Value(unsolicited{}) != nil { // a plug-in's own wish
		return r, nil
	}
	if err := i.await(ctx); err != nil {
		return nil, err
	}
	s := i.find(c.ID)
	if s == nil || s.container == nil {
		return r, nil
	}
	answer, err := i.adaptation.UpdateContainer(ctx, &api.UpdateContainerRequest{
		Pod: s.pod, Container: s.container, LinuxResources: api.FromOCILinuxResources(&r.Linux, nil),
	})
	if err != nil {
		return nil, refused("update", err)
	}
	changed := r
	for _, u := range answer.GetUpdate() {
		if u.GetContainerId() != c.ID.String() {
			continue
		}
		own := *r
		if err := overlay(&own.Linux, u.GetLinux().GetResources()); err != nil {
			return nil, fmt.Errorf("what NRI plug-ins ask for: %w", err)
		}
		changed = &own
	}
	i.applyOthers(ctx, c.ID, answer.GetUpdate())
	return changed, nil
}

// BeforeStart implements [containerizer.Starter].
func (i *Isolator) BeforeStart(ctx context.Context, c *containerizer.Container) error {
	if err := i.await(ctx); err != nil {
		return err
	}
	s := i.find(c.ID)
	if s == nil || s.container == nil {
		return nil
	}
	if err := i.adaptation.PostCreateContainer(ctx, &api.PostCreateContainerRequest{Pod: s.pod, Container: s.container}); err != nil {
		return refused("container", err)
	}
	if err := i.adaptation.StartContainer(ctx, &api.StartContainerRequest{Pod: s.pod, Container: s.container}); err != nil {
		return refused("start", err)
	}
	return nil
}

func (i *Isolator) show(id containerizer.ContainerID, s *shown) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.shown[id] = s
}

func (i *Isolator) find(id containerizer.ContainerID) *shown {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.shown[id]
}

// take forgets a container.
func (i *Isolator) take(id containerizer.ContainerID) *shown {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.shown[id]
	delete(i.shown, id)
	return s
}

// podFor is the pod of a container: its root, or one of its own.
func (i *Isolator) podFor(c *containerizer.Container) *api.PodSandbox {
	root := c
	for root.Parent != nil {
		root = root.Parent
	}
	if root != c {
		if s := i.find(root.ID); s != nil {
			return s.pod
		}
	}
	return podOf(root.ID, root.Spec, 0)
}

// listening says whether somebody else serves the socket.
func listening(ctx context.Context, path string) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said
	return true
}

// logger passes what the library says on.
type logger struct{ log *log.Logger }

var _ nrilog.Logger = logger{}

// Debugf implements the library's logger.
func (l logger) Debugf(_ context.Context, format string, args ...any) {
	l.log.Debug(text(format, args))
}

// Infof implements it: what is news to a plug-in is none to the node.
func (l logger) Infof(_ context.Context, format string, args ...any) {
	l.log.Debug(text(format, args))
}

// Warnf implements it.
func (l logger) Warnf(_ context.Context, format string, args ...any) {
	l.log.Warn(text(format, args))
}

// Errorf implements it.
func (l logger) Errorf(_ context.Context, format string, args ...any) {
	l.log.Error(text(format, args))
}

func text(format string, args []any) string { return fmt.Sprintf(format, args...) }
