package launcher

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
	"github.com/berth-dev/berth/containerizer/launch/inputs"
	"github.com/berth-dev/berth/containerizer/monitor/client"
	"github.com/berth-dev/berth/containerizer/monitor/record"
)

// Exec implements [containerizer.Launcher].
func (l *Launcher) Exec(ctx context.Context, r containerizer.ExecRequest) (containerizer.ExecProcess, error) {
	m, done, err := l.monitor(r.Container)
	if err != nil {
		return nil, err
	}
	f, err := foreignOf(r.Container)
	p := (*client.Process)(nil)
	switch {
	case err != nil:
	case f != nil:
		p, err = l.execForeign(ctx, m, f, &r)
	default:
		p, err = l.exec(ctx, m, &r, nil)
	}
	if err != nil {
		done()
		return nil, err
	}
	return &execProcess{process: p, client: m, name: r.ID.String(), done: done}, nil
}

// exec makes a process in the container; amend, unless it is nil, changes what was
// resolved before it is compiled.
func (l *Launcher) exec(ctx context.Context, m *client.Client, r *containerizer.ExecRequest, amend func(*launch.Config)) (*client.Process, error) {
	b, err := l.buildExec(r, amend)
	if err != nil {
		return nil, err
	}
	defer b.close()
	request := execRequest(b, r)
	if err := b.stdio(request, r.Process, &containerizer.LogConfig{Driver: containerizer.LogNone}, r.IO); err != nil {
		return nil, err
	}
	for _, f := range b.files {
		request.Files = append(request.Files, int(f.Fd()))
	}
	p, err := m.Launch(ctx, request)
	if err != nil {
		return nil, b.explain(err)
	}
	return p, nil
}

func execRequest(b *built, r *containerizer.ExecRequest) *client.LaunchRequest {
	return &client.LaunchRequest{
		Name: r.ID.String(), Program: int(b.memfd.Fd()), ProgramSize: len(b.program.Block), Exec: true,
		UID: &b.owner[0], GID: &b.owner[1],
	}
}

func (l *Launcher) buildExec(r *containerizer.ExecRequest, amend func(*launch.Config)) (*built, error) {
	b := &built{}
	if err := l.fillExec(b, r, amend); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (l *Launcher) fillExec(b *built, r *containerizer.ExecRequest, amend func(*launch.Config)) error {
	target, err := openProcess(r.Container)
	if err != nil {
		return err
	}
	b.log = target // closed with the rest
	rec, err := readProcess(r.Container.Dir)
	if err != nil {
		return err
	}
	if b.root, err = openDir(fmt.Sprintf("/proc/%d/root", rec.PID)); err != nil {
		return err
	}
	info, err := execInfo(r.Info, rec.PID)
	if err != nil {
		return err
	}
	cfg, who, err := l.resolve(r.Container, info, r.Process, b.root)
	if err != nil {
		return err
	}
	b.who = who
	if r.Process.Privileged {
		if err := privileged(cfg); err != nil {
			return err
		}
	}
	if amend != nil {
		amend(cfg)
	}
	if b.program, err = launch.CompileExec(cfg, joined(r.Info)); err != nil {
		return err
	}
	b.options = inputs.Options{PidFD: target, IDMap: &b.idmap}
	if b.files, err = inputs.Open(b.program.Inputs, b.options); err != nil {
		return err
	}
	b.owner = [2]uint32{hostID(r.Info.UIDMappings, who.uid), hostID(r.Info.GIDMappings, who.gid)}
	b.memfd, err = memfd(b.program.Block)
	return err
}

// execInfo is info with the version 2 cgroup that the container's process is in
// now: once the container has children, it is a leaf below the one it began in,
// which takes no process any more.
func execInfo(info *containerizer.LaunchInfo, pid uint64) (*containerizer.LaunchInfo, error) {
	if info.Cgroup == nil || info.Cgroup.Unified == "" {
		return info, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, fmt.Errorf("find the cgroup of the container: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok || !strings.HasPrefix(path, "/") {
			continue
		}
		out := *info
		out.Cgroup = &containerizer.CgroupAttachment{Unified: filepath.Join(cgroupRoot, path)}
		return &out, nil
	}
	return nil, fmt.Errorf("the container's process is in no version 2 cgroup: %w", containerizer.ErrFailedPrecondition)
}

// cgroupRoot is where the version 2 hierarchy is mounted (cgroups(7)).
const cgroupRoot = "/sys/fs/cgroup"

// privileged gives an exec session everything that berth has.
func privileged(cfg *launch.Config) error {
	own, err := ownCapabilities()
	if err != nil {
		return err
	}
	all := launch.CapabilityNames(own)
	cfg.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	cfg.Process.NoNewPrivileges = false
	cfg.Filter = nil
	return nil
}

// joined are the CLONE_NEW flags of the namespaces that the container does not
// share with the host.
func joined(info *containerizer.LaunchInfo) uint64 {
	var flags uint64
	for _, n := range info.Namespaces {
		flags |= launch.CloneFlag(n.Type)
	}
	return flags
}

// execProcess implements [containerizer.ExecProcess].
type execProcess struct {
	process *client.Process
	client  *client.Client
	name    string
	done    func()
}

// PID implements [containerizer.ExecProcess].
func (p *execProcess) PID() int { return p.process.PID }

// Session implements [containerizer.ExecProcess].
func (p *execProcess) Session() containerizer.Session {
	s := p.process.Session()
	if s == nil {
		return nil // a nil *Session is no nil Session
	}
	return s
}

// Wait implements [containerizer.ExecProcess].
func (p *execProcess) Wait(ctx context.Context) (*containerizer.Termination, error) {
	e, err := p.process.Wait(ctx)
	if err != nil {
		return nil, err
	}
	return termination(record.Exit{WaitStatus: uint64(e.Status), FinishedAt: uint64(e.FinishedAt.UnixNano())}), nil
}

// Signal implements [containerizer.ExecProcess].
func (p *execProcess) Signal(ctx context.Context, sig int) error {
	return p.client.Signal(ctx, p.name, syscall.Signal(sig))
}

// Close implements [containerizer.ExecProcess].
func (p *execProcess) Close() error {
	p.done()
	return nil
}
