package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
	"github.com/berth-dev/berth/containerizer/launch/inputs"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/containerizer/monitor/client"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// A container whose Spec.Runtime has a name is made by an OCI runtime of the node, such
// as crun or runc, from a bundle with the same launch information. The monitor executes
// `RUNTIME create`, whose child becomes its own (monitor, "adopt"): streams, log, attach,
// records and the end of the process are as of any other. The root filesystem is
// mounted for the runtime only (launch.CompileForeign). The control groups are those
// that isolators have made.
//
// What is needed to go on with such a container, or to end it, is in its directory
// before the runtime is started for the first time.

// Runtime is an OCI runtime: a program with the command line of runc.
type Runtime struct {
	// Path of the program, absolute.
	Path string
	// Options come before the command.
	Options []string
}

const (
	// foreignDir is the folder of a runtime's container in the container's directory.
	foreignDir = "oci"
	// foreignRecordFile in it is a foreign in JSON.
	foreignRecordFile = "runtime.json"
	// foreignState in it is the runtime's own --root.
	foreignState = "state"
	// foreignLog in it is what the last command of the runtime has logged.
	foreignLog = "log.json"
	// foreignConsole is the socket to which the runtime sends a terminal.
	foreignConsole = "console.sock"
)

// foreign is a container of a runtime.
type foreign struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"`
	Options []string `json:"options,omitempty"`
	// ID is the container's for the runtime.
	ID string `json:"id"`
	// Cgroup is its path in every hierarchy.
	Cgroup string `json:"cgroup,omitempty"`

	dir string // foreignDir
}

// CheckRuntime implements [containerizer.RuntimeChecker].
func (l *Launcher) CheckRuntime(name string) error {
	_, err := l.runtime(name)
	return err
}

func (l *Launcher) runtime(name string) (Runtime, error) {
	r, ok := l.opts.Runtimes[name]
	if !ok {
		return r, fmt.Errorf("there is no OCI runtime %q: it has to be in the configuration, under [runtimes.%s]: %w", name, name, containerizer.ErrNotFound)
	}
	return r, nil
}

// isForeign says whether c is a runtime's. Pod sandboxes are always the monitor's.
func isForeign(c *containerizer.Container) bool {
	return c.Spec != nil && c.Spec.Runtime != "" && c.Spec.Class != containerizer.ClassPodSandbox
}

// foreignOf reads how c was launched; nil for one that is no runtime's.
func foreignOf(c *containerizer.Container) (*foreign, error) {
	if c.Spec != nil && !isForeign(c) {
		return nil, nil
	}
	dir := filepath.Join(c.Dir, foreignDir)
	text, err := os.ReadFile(filepath.Join(dir, foreignRecordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	f := &foreign{dir: dir}
	if err == nil {
		err = json.Unmarshal(text, f)
	}
	if err != nil {
		return nil, fmt.Errorf("read which OCI runtime container %q has: %w: %w", c.ID, err, containerizer.ErrDataCorrupt)
	}
	return f, nil
}

// newForeign makes the folder for a container of a runtime.
func (l *Launcher) newForeign(r containerizer.LaunchRequest) (*foreign, error) {
	c := r.Container
	runtime, err := l.runtime(c.Spec.Runtime)
	if err != nil {
		return nil, err
	}
	if err := checkForeign(r); err != nil {
		return nil, fmt.Errorf("OCI runtime %q: %w", c.Spec.Runtime, err)
	}
	f := &foreign{Name: c.Spec.Runtime, Path: runtime.Path, Options: runtime.Options, ID: c.ID.Base(), dir: filepath.Join(c.Dir, foreignDir)}
	if f.Cgroup, err = cgroupsPath(r.Info.Cgroup); err != nil {
		return nil, err
	}
	for _, dir := range []string{f.dir, f.rootfs()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the bundle: %w", err)
		}
	}
	return f, writeJSON(filepath.Join(f.dir, foreignRecordFile), f)
}

func (f *foreign) rootfs() string { return filepath.Join(f.dir, bundleRootfs) }

// launchForeign makes c's process by its runtime.
func (l *Launcher) launchForeign(ctx context.Context, m *client.Client, r containerizer.LaunchRequest) (*containerizer.Launched, error) {
	f, err := l.newForeign(r)
	if err != nil {
		return nil, err
	}
	b := &built{}
	defer b.close()
	if err := l.fillForeign(b, f, r); err != nil {
		return nil, err
	}
	request, err := l.request(b, r)
	if err != nil {
		return nil, err
	}
	request.Hold = true
	place, err := f.place(f.dir, request)
	if err != nil {
		return nil, err
	}
	defer place.close()
	inner, end := containerizer.Span(ctx, l.opts.Tracer, r.Container.ID, "runtime", f.Name)
	p, err := m.Launch(inner, request)
	if err != nil {
		err = f.explain(f.dir, b.explain(err))
	}
	end(err)
	if err != nil {
		return nil, err
	}
	launched := &containerizer.Launched{PID: p.PID}
	if s := p.Session(); s != nil { // a nil *Session is no nil Session
		launched.Session = s
	}
	if r.Isolate != nil && r.Info.Barrier {
		if err := r.Isolate(ctx, p.PID); err != nil {
			return nil, killed(ctx, m, r, err)
		}
	}
	if !r.Hold {
		if p, err = f.start(ctx, m, r.Container.ID.String(), client.TearDown(r.IO != nil)); err != nil {
			return nil, killed(ctx, m, r, err)
		}
		launched.StartedAt = p.StartedAt
	}
	launched.MonitorPID, err = l.monitorPID(ctx, m, r.Container)
	return launched, err
}

// fillForeign writes the bundle, and makes the program that executes the runtime in
// sight of it.
func (l *Launcher) fillForeign(b *built, f *foreign, r containerizer.LaunchRequest) error {
	c, info := r.Container, r.Info
	b.options.IDMap = &b.idmap
	if err := b.openRoot(info); err != nil {
		return err
	}
	cfg, who, err := l.resolve(c, info, &c.Spec.Process, b.root)
	if err != nil {
		return err
	}
	if len(cfg.Process.Args) == 0 || cfg.Process.Args[0] == "" {
		return fmt.Errorf("no command given, neither by the image nor by the user: %w", containerizer.ErrInvalid)
	}
	config, layers, err := f.config(c, cfg)
	if err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(f.dir, "config.json"), config); err != nil {
		return err
	}
	args := []string{"create", "--bundle", f.dir, "--pid-file", filepath.Join(f.dir, wire.AdoptFile)}
	host := f.program(c, append(f.console(args, &c.Spec.Process), f.ID), f.dir)
	host.Info.Rootfs, host.Info.LayerMounts = info.Rootfs, layers
	b.who = who
	b.owner = [2]uint32{who.uid, who.gid}
	return b.compileForeign(host)
}

// compileForeign makes the program that executes a runtime.
func (b *built) compileForeign(host *launch.Config) (err error) {
	if b.program, err = launch.CompileForeign(host); err != nil {
		return err
	}
	if b.files, err = inputs.Open(b.program.Inputs, b.options); err != nil {
		return err
	}
	b.memfd, err = memfd(b.program.Block)
	return err
}

// start lets c's process, which the runtime has created, execute its command. The
// monitor is told before: the process may end at once.
func (f *foreign) start(ctx context.Context, m *client.Client, name string, tearDown client.TearDown) (*client.Process, error) {
	p, err := m.Release(ctx, name, tearDown)
	if err != nil {
		return nil, err
	}
	return p, f.command(ctx, "start", f.ID)
}

// stopped takes away what the runtime has of a container that has no process any more.
func (f *foreign) stopped(ctx context.Context, logger *log.Logger) error {
	if known, _ := os.ReadDir(filepath.Join(f.dir, foreignState)); len(known) > 0 { // else it was never made
		err := f.command(ctx, "delete", "--force", f.ID)
		if err != nil && f.command(ctx, "state", f.ID) == nil {
			return err
		}
		if err != nil { // cut off while it was made or deleted: only files are left
			logger.Warn("an OCI runtime does not know what it was making", log.String("container_id", f.ID), log.Error(err))
		}
	}
	if err := removeGroups(f.Cgroup); err != nil {
		return err
	}
	if err := os.RemoveAll(f.dir); err != nil {
		return fmt.Errorf("remove the bundle: %w", err)
	}
	return nil
}

// checkForeign refuses what is not handed to runtimes.
func checkForeign(r containerizer.LaunchRequest) error {
	refuse := func(what string) error {
		return fmt.Errorf("%s: berth hands that to no OCI runtime: %w", what, containerizer.ErrUnsupported)
	}
	switch {
	case r.Info.Rootfs == nil:
		return refuse("a container without a root filesystem of its own")
	case r.Container.Spec.Process.Init:
		return refuse("the mini-init")
	case len(r.SecretEnv) > 0: // config.json is a file
		return refuse("a variable that is to be written down nowhere")
	case joinsUser(r.Info):
		return refuse("a user namespace")
	}
	if flag, ok := launch.Propagation(r.Info.RootfsPropagation); ok && shared(flag) {
		return refuse(fmt.Sprintf("propagation %q of the root filesystem", r.Info.RootfsPropagation))
	}
	for _, m := range r.Info.Mounts {
		options, err := launch.ParseMountOptions(m.Options)
		if err != nil {
			return fmt.Errorf("mount on %q: %w", m.Destination, err)
		}
		// Its mount namespace is a slave of the host's.
		if shared(options.Propagation) {
			return refuse(fmt.Sprintf("the mount on %q, which is to propagate to the host", m.Destination))
		}
		if options.IDMap {
			return refuse(fmt.Sprintf("the mount on %q with mapped ids", m.Destination))
		}
	}
	return nil
}

// execForeign runs an additional process by the container's runtime.
func (l *Launcher) execForeign(ctx context.Context, m *client.Client, f *foreign, r *containerizer.ExecRequest) (*client.Process, error) {
	dir, err := os.MkdirTemp(f.dir, "exec-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the exec session: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // it goes with the container at last
	b := &built{}
	defer b.close()
	target, err := openProcess(r.Container)
	if err != nil {
		return nil, err
	}
	b.log = target // closed with the rest
	if err := l.fillForeignExec(b, f, r, dir); err != nil {
		return nil, err
	}
	request := execRequest(b, r)
	if err := b.stdio(request, r.Process, &containerizer.LogConfig{Driver: containerizer.LogNone}, r.IO); err != nil {
		return nil, err
	}
	for _, file := range b.files {
		request.Files = append(request.Files, int(file.Fd()))
	}
	place, err := f.place(dir, request)
	if err != nil {
		return nil, err
	}
	defer place.close()
	p, err := m.Launch(ctx, request)
	if err != nil {
		return nil, f.explain(dir, b.explain(err))
	}
	return p, nil
}

func (l *Launcher) fillForeignExec(b *built, f *foreign, r *containerizer.ExecRequest, dir string) error {
	rec, err := readProcess(r.Container.Dir)
	if err != nil {
		return err
	}
	if b.root, err = openDir(fmt.Sprintf("/proc/%d/root", rec.PID)); err != nil {
		return err
	}
	cfg, who, err := l.resolve(r.Container, r.Info, r.Process, b.root)
	if err != nil {
		return err
	}
	if r.Process.Privileged {
		if err := privileged(cfg); err != nil {
			return err
		}
	}
	process, err := foreignProcess(cfg)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "process.json")
	if err := writeJSON(file, process); err != nil {
		return err
	}
	args := []string{"exec", "--detach", "--process", file, "--pid-file", filepath.Join(dir, wire.AdoptFile)}
	b.owner = [2]uint32{who.uid, who.gid}
	return b.compileForeign(f.program(r.Container, append(f.console(args, r.Process), f.ID), dir))
}

// dryForeign returns the bundle's configuration, and makes nothing.
func (l *Launcher) dryForeign(r containerizer.LaunchRequest) (*specs.Spec, error) {
	f, err := l.newForeign(r) // goes with the dry run's folder
	if err != nil {
		return nil, err
	}
	b := &built{}
	defer b.close()
	b.options.IDMap = &b.idmap
	if err := b.openRoot(r.Info); err != nil {
		return nil, err
	}
	cfg, _, err := l.resolve(r.Container, r.Info, &r.Container.Spec.Process, b.root)
	if err != nil {
		return nil, err
	}
	config, _, err := f.config(r.Container, cfg)
	return config, err
}
