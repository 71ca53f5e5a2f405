package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
	"github.com/berth-dev/berth/containerizer/launch/inputs"
	"github.com/berth-dev/berth/containerizer/launch/program"
	"github.com/berth-dev/berth/containerizer/monitor/client"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// Launch implements [containerizer.Launcher].
func (l *Launcher) Launch(ctx context.Context, r containerizer.LaunchRequest) (*containerizer.Launched, error) {
	c := r.Container
	if c.ID.IsRoot() {
		defer time.AfterFunc(refillPause, l.refill)
	}
	if c.Spec.Class == containerizer.ClassPodSandbox && !c.Spec.Process.Init && len(c.Spec.Process.Args)+len(c.Spec.Process.Entrypoint) == 0 {
		return l.launchSandbox(ctx, r)
	}
	_, end := containerizer.Span(ctx, l.opts.Tracer, c.ID, "monitor", "")
	m, done, err := l.monitorFor(c)
	end(err)
	if err != nil {
		return nil, err
	}
	by := l.launch
	if isForeign(c) {
		by = l.launchForeign
	}
	launched, err := by(ctx, m, r)
	if err != nil {
		done()
		return nil, err
	}
	if launched.Session != nil {
		launched.Session = &session{launched.Session.(*client.Session), done}
	} else {
		done()
	}
	return launched, nil
}

// monitorFor starts the monitor of a root, or finds that of a child's root.
func (l *Launcher) monitorFor(c *containerizer.Container) (*client.Client, func(), error) {
	if !c.ID.IsRoot() {
		return l.monitor(c)
	}
	m, err := l.start(c)
	return m, func() {}, err
}

func (l *Launcher) launch(ctx context.Context, m *client.Client, r containerizer.LaunchRequest) (*containerizer.Launched, error) {
	_, end := containerizer.Span(ctx, l.opts.Tracer, r.Container.ID, "compile", "")
	b, err := l.build(r)
	end(err)
	if err != nil {
		return nil, err
	}
	defer b.close()
	request, err := l.request(b, r)
	if err != nil {
		return nil, err
	}
	hooks := l.hooksOf(r.Container, r.Info)
	if err := hooks.record(b.oci); err != nil {
		return nil, err
	}
	inner, end := containerizer.Span(ctx, l.opts.Tracer, r.Container.ID, "program", "")
	p, err := m.Launch(inner, request)
	end(err)
	if err != nil {
		return nil, b.explain(err)
	}
	launched := &containerizer.Launched{}
	if s := p.Session(); s != nil { // a nil *Session is no nil Session
		launched.Session = s
	}
	if p.State == wire.StateBarrier {
		if p, err = l.passBarrier(ctx, m, r, hooks, p.PID); err != nil {
			return nil, b.explain(err)
		}
	}
	if !r.Hold {
		if p, err = l.passHooks(ctx, m, r, hooks, p); err != nil {
			return nil, b.explain(err)
		}
	}
	launched.PID, launched.StartedAt = p.PID, p.StartedAt
	launched.MonitorPID, err = l.monitorPID(ctx, m, r.Container)
	return launched, err
}

// passBarrier lets the isolators act on the process, then the hooks, and the process
// go on.
func (l *Launcher) passBarrier(ctx context.Context, m *client.Client, r containerizer.LaunchRequest, hooks *hookSet, pid int) (*client.Process, error) {
	err := error(nil)
	if r.Isolate != nil && r.Info.Barrier {
		err = r.Isolate(ctx, pid)
	}
	if err == nil {
		err = hooks.create(ctx, pid)
	}
	if err != nil {
		return nil, killed(ctx, m, r, err)
	}
	return m.Release(ctx, r.Container.ID.String(), r.IO != nil)
}

// passHooks runs the hooks around the beginning of the command, for which the process
// waits if it must.
func (l *Launcher) passHooks(ctx context.Context, m *client.Client, r containerizer.LaunchRequest, hooks *hookSet, p *client.Process) (_ *client.Process, err error) {
	if hooks.starts() {
		if err := hooks.start(ctx, p.PID); err != nil {
			return nil, killed(ctx, m, r, err)
		}
		if p, err = m.Release(ctx, r.Container.ID.String(), r.IO != nil); err != nil {
			return nil, err
		}
	}
	if err := hooks.started(ctx, p.PID); err != nil {
		return nil, killed(ctx, m, r, err)
	}
	return p, nil
}

// killed ends the process of a launch that failed by err.
func killed(ctx context.Context, m *client.Client, r containerizer.LaunchRequest, err error) error {
	killErr := m.Signal(context.WithoutCancel(ctx), r.Container.ID.String(), syscall.SIGKILL)
	if errors.Is(killErr, containerizer.ErrNotFound) || errors.Is(killErr, containerizer.ErrFailedPrecondition) {
		killErr = nil
	}
	return errors.Join(err, killErr)
}

func (l *Launcher) monitorPID(ctx context.Context, m *client.Client, c *containerizer.Container) (int, error) {
	if c.ID.IsRoot() {
		return m.MonitorPID(ctx)
	}
	rec, err := readProcess(c.Dir)
	return int(rec.MonitorPID), err
}

// built is a program with everything it needs, open.
type built struct {
	program *launch.Program
	oci     *specs.Spec // for hooks; nil without
	memfd   *os.File
	files   []*os.File
	options inputs.Options
	idmap   inputs.IDMapper
	root    *os.File
	who     *identity
	owner   [2]uint32 // of pipes, as ids of the host
	log     *os.File
	record  *os.File
}

// build resolves and compiles a launch and opens its inputs.
func (l *Launcher) build(r containerizer.LaunchRequest) (*built, error) {
	b := &built{}
	if err := l.fill(b, r); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (l *Launcher) fill(b *built, r containerizer.LaunchRequest) error {
	c, info := r.Container, r.Info
	b.options = inputs.Options{UIDMappings: info.UIDMappings, GIDMappings: info.GIDMappings, IDMap: &b.idmap}
	if err := b.openRoot(info); err != nil {
		return err
	}
	cfg, who, err := l.resolve(c, info, &c.Spec.Process, b.root)
	if err != nil {
		return err
	}
	cfg.Hold = r.Hold
	b.who = who
	if info.Hooks != nil {
		b.oci = ociConfig(c, cfg)
	}
	cfg.Process.Env = override(cfg.Process.Env, r.SecretEnv) // behind the bundle's record
	if b.program, err = launch.Compile(cfg); err != nil {
		return err
	}
	if b.files, err = inputs.Open(b.program.Inputs, b.options); err != nil {
		return err
	}
	b.owner = [2]uint32{hostID(info.UIDMappings, who.uid), hostID(info.GIDMappings, who.gid)}
	b.memfd, err = memfd(b.program.Block)
	return err
}

// openRoot opens the root filesystem: a new mount, or that of the process whose
// mount namespace is shared.
func (b *built) openRoot(info *containerizer.LaunchInfo) error {
	if info.Rootfs != nil {
		root, err := inputs.MountRootfs(info.Rootfs, info.UIDMappings, info.GIDMappings, &b.idmap)
		b.root, b.options.Rootfs = root, root
		return err
	}
	path := "/"
	for _, n := range info.Namespaces {
		if n.Type == specs.MountNamespace && n.Path != "" {
			path = filepath.Join(filepath.Dir(filepath.Dir(n.Path)), "root")
		}
	}
	root, err := openDir(path)
	b.root = root
	return err
}

func (b *built) close() {
	inputs.Close(b.files, b.options)
	for _, f := range []*os.File{b.memfd, b.root, b.log, b.record} {
		if f != nil {
			_ = f.Close() // nothing was written that could be lost
		}
	}
	b.idmap.Close()
}

// explain turns the failure of the program into its meaning.
func (b *built) explain(err error) error {
	var failed *client.ProgramError
	if !errors.As(err, &failed) {
		return err
	}
	return b.program.Explain(program.Failure{Op: failed.Op, Errno: failed.Errno})
}

// request is what the monitor is asked for.
func (l *Launcher) request(b *built, r containerizer.LaunchRequest) (*client.LaunchRequest, error) {
	c := r.Container
	request := &client.LaunchRequest{
		Name: c.ID.String(), Program: int(b.memfd.Fd()), ProgramSize: len(b.program.Block),
		Hold: r.Hold || l.hooksOf(c, r.Info).starts(), TearDown: r.IO != nil, UID: &b.owner[0], GID: &b.owner[1],
	}
	if err := b.stdio(request, &c.Spec.Process, &c.Spec.Log, r.IO); err != nil {
		return nil, err
	}
	for _, f := range b.files {
		request.Files = append(request.Files, int(f.Fd()))
	}
	var err error
	if b.record, err = openDir(c.Dir); err != nil {
		return nil, err
	}
	fd := int(b.record.Fd())
	request.Record = &fd
	return request, b.logTo(request, &c.Spec.Log)
}

// stdio chooses where descriptors 0, 1 and 2 go.
func (b *built) stdio(request *client.LaunchRequest, p *containerizer.Process, log *containerizer.LogConfig, io *containerizer.IO) error {
	passthrough := log.Driver == containerizer.LogPassthrough
	switch {
	case io != nil && io.Files != nil && p.Terminal:
		return fmt.Errorf("descriptors cannot be handed to a process with a terminal of its own: %w", containerizer.ErrInvalid)
	case passthrough && (io == nil || io.Files == nil):
		return fmt.Errorf("log driver %q needs descriptors to hand over: %w", containerizer.LogPassthrough, containerizer.ErrInvalid)
	case io != nil && io.Files != nil:
		request.Stdio = wire.StdioPassthrough
		for _, f := range io.Files {
			request.Files = append(request.Files, int(f.Fd()))
		}
		return nil
	case p.Terminal:
		request.Stdio = wire.StdioPty
	}
	request.IO = io
	switch {
	case p.Stdin && p.StdinOnce:
		request.Stdin = wire.StdinOnce
	case p.Stdin:
		request.Stdin = wire.StdinOpen
	}
	return nil
}

func (b *built) logTo(request *client.LaunchRequest, log *containerizer.LogConfig) error {
	if log.Driver != containerizer.LogFile || log.Path == "" || request.Stdio == wire.StdioPassthrough {
		return nil
	}
	dir, name := filepath.Split(log.Path)
	var err error
	if b.log, err = openDir(dir); err != nil {
		return fmt.Errorf("log file %q: %w", log.Path, err)
	}
	request.Log = &client.Log{Dir: int(b.log.Fd()), Name: name, MaxBytes: log.MaxSizeBytes, MaxFiles: log.MaxFiles}
	return nil
}

func openDir(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// memfd puts a program where the monitor can map it.
func memfd(block []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("launch program", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "launch program")
	if _, err := f.Write(block); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write the launch program: %w", err)
	}
	return f, nil
}

// hostID is the host's id for a container's.
func hostID(mappings []specs.LinuxIDMapping, id uint32) uint32 {
	for _, m := range mappings {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + (id - m.ContainerID)
		}
	}
	return id
}
