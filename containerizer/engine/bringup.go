package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// launcherOwner owns the launcher's entries in the ledger.
const launcherOwner = "launcher"

// bringUp takes a placed container to created (opPrepare) or running.
//
// Preconditions: h is l's; its ledger has launchEntries.
func (e *Engine) bringUp(ctx context.Context, op *operation, h *held, l *loaded, o containerizer.LaunchOptions) error {
	e.step(op, "launch.name")
	for _, name := range l.names() {
		if err := e.claimName(h.ledger, name, l.id); err != nil {
			return err
		}
	}
	c := e.container(l)
	c.Ledger, c.NamespacePath = ownedLedger{h.ledger, launcherOwner}, (&namespaces{e: e}).path
	if p, is := e.launcher.(containerizer.Preparer); is {
		e.step(op, "launch.hint")
		p.Prepare(ctx, c)
	}
	e.step(op, "launch.record")
	if err := e.makeRecordDir(l); err != nil {
		return err
	}
	img, err := e.provision(ctx, op, l, c)
	if err != nil {
		return err
	}
	spec, err := e.effectiveSpec(l, img)
	if err != nil {
		return err
	}
	c.Spec, c.ImageConfig = spec, img
	if c.Parent, err = e.parentOf(l.id); err != nil {
		return err
	}
	if spec, err = e.adjust(ctx, op, h, l, c); err != nil {
		return err
	}
	if err := e.fetchArtifacts(ctx, op, c, o.Artifacts); err != nil {
		return err
	}
	info, err := e.isolate(ctx, op, h, c)
	if err != nil {
		return err
	}
	c.Launch = info
	if op.kind != opPrepare {
		if err := e.beforeStart(ctx, op, h, c); err != nil {
			return err
		}
	}

	// Written while the process starts; nobody reads it before the state changes.
	e.parents.drop(l.id)
	e.execBases.drop(l.id)
	written := make(chan error, 1)
	go func() {
		_, err := writeNew(filepath.Join(l.dir, launchFile), &launchRecord{Spec: spec, ImageConfig: img, Info: info})
		written <- err
	}()
	e.step(op, "launch.process")
	inner, end := containerizer.Span(ctx, e.opts.Tracer, l.id, "process", "")
	launched, err := e.launcher.Launch(inner, containerizer.LaunchRequest{
		Container: c, Info: info, IO: o.Attach, SecretEnv: o.SecretEnv, Hold: op.kind == opPrepare,
		Isolate: func(ctx context.Context, pid int) error { return e.atBarrier(ctx, op, h, c, pid) },
	})
	end(err)
	if werr := <-written; err == nil {
		err = werr
	}
	if err != nil {
		return err
	}
	op.session = launched.Session
	return e.recordLaunched(ctx, op, h, l, c, launched)
}

// recordLaunched notes what runs now.
func (e *Engine) recordLaunched(ctx context.Context, op *operation, h *held, l *loaded, c *containerizer.Container, launched *containerizer.Launched) error {
	e.step(op, "launch.state")
	next, events := containerizer.StateRunning, []containerizer.EventType{containerizer.EventCreated, containerizer.EventStarted}
	if op.kind == opPrepare {
		next, events = containerizer.StateCreated, events[:1]
	}
	if err := ctx.Err(); err != nil { // destroyed while it was launched
		return err
	}
	if err := l.become(next); err != nil {
		return err
	}
	l.st.PID, l.st.MonitorPID = launched.PID, launched.MonitorPID
	if next == containerizer.StateRunning {
		l.st.StartedAt = launched.StartedAt
	}
	l.st.Termination, l.st.Released, l.st.Owed = nil, false, nil
	l.st.Process, l.st.StopSignal, l.st.LogPath = &c.Spec.Process, c.Spec.StopSignal, c.Spec.Log.Path
	l.st.Rootfs = c.Launch.Rootfs
	e.reportStatus(ctx, h, l, c)
	if err := e.saveAll(l); err != nil {
		return err
	}
	e.event(l.id, nil, events...)
	return nil
}

// provision makes the root filesystem in c, and returns the image's configuration.
func (e *Engine) provision(ctx context.Context, op *operation, l *loaded, c *containerizer.Container) (*v1.ImageConfig, error) {
	switch {
	case l.spec.RootfsPath != "":
		if err := checkRootfs(l.spec.RootfsPath); err != nil {
			return nil, err
		}
		c.Rootfs = &containerizer.Rootfs{Path: l.spec.RootfsPath}
		return nil, nil
	case l.spec.Image == nil:
		return nil, nil
	case e.provisioner == nil:
		return nil, fmt.Errorf("image %q: this engine has no provisioner: %w", l.spec.Image.Reference, containerizer.ErrUnsupported)
	}
	e.step(op, "launch.provision")
	inner, end := containerizer.Span(ctx, e.opts.Tracer, l.id, "provision", l.spec.Image.Reference)
	p, err := e.provisioner.Provision(inner, l.id, *l.spec.Image)
	end(err)
	if err != nil {
		return nil, fmt.Errorf("provision image %q: %w", l.spec.Image.Reference, err)
	}
	c.Rootfs = p.Rootfs
	l.st.ImageManifest, l.st.ImageReference = p.Manifest, p.Reference
	return p.Config, nil
}

// checkRootfs refuses what is no directory before anything is acquired for it.
func checkRootfs(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("root filesystem %q: no such directory: %w", path, containerizer.ErrNotFound)
	case err != nil:
		return fmt.Errorf("root filesystem: %w", err)
	case !info.IsDir():
		return fmt.Errorf("root filesystem %q is not a directory: %w", path, containerizer.ErrInvalid)
	}
	return nil
}

// isolate lets every isolator prepare, in order, and merges what they say.
func (e *Engine) isolate(ctx context.Context, op *operation, h *held, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	var merger containerizer.Merger
	for _, iso := range e.isolators {
		e.step(op, "launch.isolator")
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		mine := forIsolator(c, h, iso.Name())
		var err error
		if mine.Launch, err = merger.Merged(); err != nil {
			return nil, err
		}
		inner, end := containerizer.Span(ctx, e.opts.Tracer, c.ID, "isolator", iso.Name())
		info, err := iso.Prepare(inner, mine)
		end(err)
		if err != nil {
			return nil, fmt.Errorf("isolator %q: %w", iso.Name(), err)
		}
		merger.Add(containerizer.Contribution{Isolator: iso.Name(), Info: info})
	}
	info, err := merger.Merged()
	if err != nil {
		return nil, err
	}
	if info.Rootfs == nil { // no isolator has an opinion
		info.Rootfs = c.Rootfs
	}
	return info, nil
}

// atBarrier lets the isolators act on the process that waits at the barrier.
func (e *Engine) atBarrier(ctx context.Context, op *operation, h *held, c *containerizer.Container, pid int) error {
	for _, b := range e.barriers {
		e.step(op, "launch.barrier")
		inner, end := containerizer.Span(ctx, e.opts.Tracer, c.ID, "barrier", b.name)
		err := b.Isolate(inner, forIsolator(c, h, b.name), pid)
		end(err)
		if err != nil {
			return fmt.Errorf("isolator %q: %w", b.name, err)
		}
	}
	return nil
}

// reportStatus keeps what isolators have for Status, so that reading asks nobody.
func (e *Engine) reportStatus(ctx context.Context, h *held, l *loaded, c *containerizer.Container) {
	var s containerizer.Status
	for _, iso := range e.isolators {
		r, is := iso.(containerizer.StatusReporter)
		if !is {
			continue
		}
		if err := r.Status(ctx, forIsolator(c, h, iso.Name()), &s); err != nil {
			e.log.Warn("the status of an isolator is missing", fieldID(l.id), fieldIsolator(iso.Name()), fieldError(err))
		}
	}
	l.st.Networks, l.st.Ports = s.Networks, s.Ports
}

// container is what others are told of l outside of a launch. Its ledger answers,
// and records nothing.
func (e *Engine) container(l *loaded) *containerizer.Container {
	return &containerizer.Container{
		ID: l.id, Spec: l.spec, Rootfs: l.st.Rootfs, Dir: l.dir,
		Ledger:        readerLedger{filepath.Join(l.dir, ledgerFile), launcherOwner},
		NamespacePath: e.namespacePath,
	}
}

// forIsolator is c as the isolator called name sees it, with a ledger that
// records when h is given. The ledgers of the ancestors answer for it, too.
func forIsolator(c *containerizer.Container, h *held, name string) *containerizer.Container {
	mine := *c
	if h != nil {
		mine.Ledger = ownedLedger{h.ledger, name}
	} else {
		mine.Ledger = readerLedger{filepath.Join(c.Dir, ledgerFile), name}
	}
	if c.Parent != nil {
		mine.Parent = forIsolator(c.Parent, nil, name)
	}
	return &mine
}

// parentOf loads the ancestors of id; nil for a root.
func (e *Engine) parentOf(id containerizer.ContainerID) (*containerizer.Container, error) {
	if id.IsRoot() {
		return nil, nil
	}
	l, err := e.load(id.Parent())
	if err != nil {
		return nil, err
	}
	rec, err := e.loadParent(l)
	if err != nil {
		return nil, err
	}
	c := e.container(l)
	c.Spec, c.ImageConfig, c.Launch = rec.Spec, rec.ImageConfig, rec.Info
	c.Parent, err = e.parentOf(l.id)
	return c, err
}

// loadParent is loadLaunch for who changes nothing of it.
func (e *Engine) loadParent(l *loaded) (*launchRecord, error) {
	return e.parents.read(l.id, filepath.Join(l.dir, launchFile), func() (*launchRecord, error) { return e.loadLaunch(l) })
}

// loadLaunch reads what l's process was made from.
func (e *Engine) loadLaunch(l *loaded) (*launchRecord, error) {
	var rec launchRecord
	if err := readJSON(filepath.Join(l.dir, launchFile), &rec); err != nil {
		return nil, fmt.Errorf("container %q: %w", l.id, err)
	}
	if rec.Spec == nil || rec.Info == nil {
		return nil, fmt.Errorf("container %q: %s is incomplete: %w", l.id, launchFile, containerizer.ErrDataCorrupt)
	}
	return &rec, nil
}

// namespaceFiles are the names in /proc/PID/ns (namespaces(7)).
func namespaceFile(t specs.LinuxNamespaceType) (string, error) {
	switch t {
	case specs.NetworkNamespace:
		return "net", nil
	case specs.MountNamespace:
		return "mnt", nil
	case specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace:
		return string(t), nil
	}
	return "", fmt.Errorf("namespace type %q is unknown: %w", t, containerizer.ErrInvalid)
}

// namespacePath implements Container.NamespacePath.
func (e *Engine) namespacePath(id containerizer.ContainerID, t specs.LinuxNamespaceType) (string, error) {
	return (&namespaces{e: e}).path(id, t)
}

// namespaces is Container.NamespacePath for one launch, whose isolators ask for several
// kinds of the same container: its state is looked at once.
type namespaces struct {
	e *Engine

	mu    sync.Mutex
	alive map[containerizer.ContainerID]*loaded
}

func (n *namespaces) path(id containerizer.ContainerID, t specs.LinuxNamespaceType) (string, error) {
	file, err := namespaceFile(t)
	if err != nil {
		return "", err
	}
	l, err := n.load(id)
	if err != nil {
		return "", fmt.Errorf("%s namespace of container %q: %w", file, id, err)
	}
	if h, is := n.e.launcher.(containerizer.NamespaceHolder); is {
		return h.NamespacePath(n.e.container(l), t)
	}
	if l.st.PID == 0 {
		return "", fmt.Errorf("%s namespace of container %q: it has no process: %w", file, id, containerizer.ErrFailedPrecondition)
	}
	return fmt.Sprintf("/proc/%d/ns/%s", l.st.PID, file), nil
}

// load returns a container that is alive.
func (n *namespaces) load(id containerizer.ContainerID) (*loaded, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l, ok := n.alive[id]; ok {
		return l, nil
	}
	l, err := n.e.load(id)
	if err != nil {
		return nil, err
	}
	if !l.st.State.Alive() || n.e.ended(l) != nil {
		return nil, fmt.Errorf("it is %s or has ended: %w", l.st.State, containerizer.ErrFailedPrecondition)
	}
	if n.alive == nil {
		n.alive = map[containerizer.ContainerID]*loaded{}
	}
	n.alive[id] = l
	return l, nil
}

// NamespacePath returns a path that opens a namespace of a container that is alive. It
// waits for nothing.
func (e *Engine) NamespacePath(ctx context.Context, id containerizer.ContainerID, t specs.LinuxNamespaceType) (string, error) {
	if err := e.ready(ctx); err != nil {
		return "", err
	}
	return e.namespacePath(id, t)
}
