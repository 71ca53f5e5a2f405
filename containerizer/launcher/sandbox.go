package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/internal/rawfile"
	"github.com/berth-dev/berth/containerizer/launch"
	"github.com/berth-dev/berth/containerizer/launch/inputs"
	"github.com/berth-dev/berth/containerizer/monitor/client"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// namespacesFile tells where the monitor of a pod sandbox without process holds
// its namespaces: lines "TYPE PATH".
const namespacesFile = "namespaces"

// launchSandbox makes the namespaces of a pod sandbox by a process that ends once
// the monitor holds them.
func (l *Launcher) launchSandbox(ctx context.Context, r containerizer.LaunchRequest) (*containerizer.Launched, error) {
	c := r.Container
	if !c.ID.IsRoot() {
		return nil, fmt.Errorf("a pod sandbox is a root container: %w", containerizer.ErrInvalid)
	}
	if r.Info.Hooks != nil {
		return nil, fmt.Errorf("hooks of a pod sandbox without a process: %w", containerizer.ErrUnsupported)
	}
	m, err := l.start(c)
	if err != nil {
		return nil, err
	}
	cfg := &launch.Config{ID: c.ID, Info: r.Info, PivotDir: c.Dir, Process: launch.Process{Args: []string{"pod sandbox"}}}
	b := &built{}
	defer b.close()
	if b.program, err = launch.CompileSandbox(cfg); err != nil {
		return nil, err
	}
	b.options.IDMap = &b.idmap
	if b.files, err = inputs.Open(b.program.Inputs, b.options); err != nil {
		return nil, err
	}
	if b.memfd, err = memfd(b.program.Block); err != nil {
		return nil, err
	}
	request := &client.LaunchRequest{
		Name: c.ID.String(), Program: int(b.memfd.Fd()), ProgramSize: len(b.program.Block), Stdio: wire.StdioNull, Hold: true,
	}
	for _, f := range b.files {
		request.Files = append(request.Files, int(f.Fd()))
	}
	if b.record, err = openDir(c.Dir); err != nil {
		return nil, err
	}
	fd := int(b.record.Fd())
	request.Record = &fd
	p, err := m.Launch(ctx, request)
	if err == nil && p.State == wire.StateBarrier {
		p, err = l.passBarrier(ctx, m, r, nil, p.PID)
	}
	if err != nil {
		return nil, b.explain(err)
	}
	monitor, err := m.MonitorPID(ctx)
	if err != nil {
		return nil, err
	}
	held, err := m.HoldNamespaces(ctx, c.ID.String(), joined(r.Info), true)
	if err != nil {
		return nil, fmt.Errorf("hold the namespaces of the pod sandbox: %w", err)
	}
	if err := writeNamespaces(c.Dir, monitor, held); err != nil {
		return nil, err
	}
	return &containerizer.Launched{MonitorPID: monitor, StartedAt: p.StartedAt}, nil
}

// namespaceTypes are the kinds of namespaces by their CLONE_NEW flags.
//
//nolint:gochecknoglobals // a constant table
var namespaceTypes = [...]specs.LinuxNamespaceType{
	specs.MountNamespace, specs.UTSNamespace, specs.IPCNamespace, specs.PIDNamespace,
	specs.NetworkNamespace, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace,
}

func writeNamespaces(dir string, monitor int, held []client.Namespace) error {
	var text strings.Builder
	for _, h := range held {
		for _, t := range namespaceTypes {
			if launch.CloneFlag(t) == h.Kind {
				fmt.Fprintf(&text, "%s /proc/%d/fd/%d\n", t, monitor, h.FD)
			}
		}
	}
	path := filepath.Join(dir, namespacesFile)
	if err := os.WriteFile(path+".new", []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("record the namespaces: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("record the namespaces: %w", err)
	}
	return nil
}

// NamespacePath implements [containerizer.NamespaceHolder].
func (l *Launcher) NamespacePath(c *containerizer.Container, t specs.LinuxNamespaceType) (string, error) {
	text, err := rawfile.Read(filepath.Join(c.Dir, namespacesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return processNamespace(c, t)
	}
	if err != nil {
		return "", fmt.Errorf("namespaces of %q: %w", c.ID, err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), string(t)+" "); ok {
			return path, nil
		}
	}
	return "/proc/self/ns/" + namespaceFile(t), nil // it shares the host's
}

func processNamespace(c *containerizer.Container, t specs.LinuxNamespaceType) (string, error) {
	rec, err := readProcess(c.Dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !lives(rec.PID, rec.StartTicks) {
		return "", fmt.Errorf("the %s namespace of container %q: it does not run: %w", t, c.ID, containerizer.ErrFailedPrecondition)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("/proc/%d/ns/%s", rec.PID, namespaceFile(t)), nil
}

// namespaceFile is the name of a kind in /proc/PID/ns.
func namespaceFile(t specs.LinuxNamespaceType) string {
	switch t {
	case specs.NetworkNamespace:
		return "net"
	case specs.MountNamespace:
		return "mnt"
	default:
		return string(t)
	}
}
