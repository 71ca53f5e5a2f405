package wiring

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/engine"
	"github.com/berth-dev/berth/containerizer/launch/seccomp"
	"github.com/berth-dev/berth/containerizer/launcher"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner"
)

// Node is this machine. It is used by one command, from one goroutine at a time; once
// its parts are made, Sweep and Program may run beside each other and others.
type Node struct {
	cfg        config.Config
	configPath string
	log        *log.Logger
	parts      Parts
	filters    *seccomp.Cache
	native     *launcher.Launcher
	engine     *engine.Engine
	images     *provisioner.Provisioner
	swept      bool
	artifacts  containerizer.Artifacts
}

// Parts are what a program has or has not, because linking it costs every start
// (decisions/0002 of cmd/berth).
type Parts struct {
	// Fetcher makes what brings images.
	Fetcher func(config.Config) containerizer.Fetcher
	// Accounts makes what logs in to registries; nil in a program that speaks to none.
	Accounts func(config.Config) Accounts
	// Artifacts makes what brings artifacts; without it containers have none.
	Artifacts func(config.Config) (containerizer.Artifacts, error)
	// Verifier judges images by signature policies.
	Verifier provisioner.Verifier
	// Unpack is the command that unpacks a layer; none in a program that fetches
	// nothing.
	Unpack []string
	// Isolators are asked after all of the others, whatever the configuration selects.
	Isolators []containerizer.Isolator
	// CDI makes what resolves names of devices of the Container Device Interface; without
	// it they are refused.
	CDI func(config.Config) containerizer.Isolator
	// OnStep hears of each step of an operation before it is done; nil is nobody.
	OnStep func(id containerizer.ContainerID, step string)
	// OnOperation hears of each that has ended.
	OnOperation func(id containerizer.ContainerID, kind string, took time.Duration, err error)
	// OnRelieved hears how many images were removed because the disk was too full.
	OnRelieved func(images int)
	// Tracer hears what operations are made of; nil is nobody.
	Tracer containerizer.Tracer
	// Resident is for a program that lives long, and is asked often.
	Resident bool
	// SpareMonitors is how many monitors it keeps started for containers to come.
	SpareMonitors int
	// Command is the path of the berth that does what goes on in the background; ""
	// is this program.
	Command string
}

// Accounts are a user's at registries. Login keeps credentials once the registry
// accepts them, and says where; Logout says whether there were any.
type Accounts interface {
	Login(ctx context.Context, registry string, auth containerizer.RegistryAuth) (where string, err error)
	Logout(ctx context.Context, registry string) (found bool, err error)
}

// New returns the node that cfg describes. Root and State are set. configPath is
// the file that cfg came from, for processes that are started later.
func New(cfg config.Config, configPath string, log *log.Logger, parts Parts) *Node {
	return &Node{cfg: cfg, configPath: configPath, log: log, parts: parts, filters: seccomp.NewCache(filepath.Join(cfg.Root, "cache", "seccomp"))}
}

// Engine returns the embedded engine.
func (n *Node) Engine(ctx context.Context) (containerizer.Engine, error) {
	if n.engine != nil {
		return n.engine, nil
	}
	images, err := n.provisioner()
	if err != nil {
		return nil, err
	}
	isolators, err := n.isolators(images)
	if err != nil {
		return nil, err
	}
	l, err := n.launcher()
	if err != nil {
		return nil, err
	}
	artifacts, err := n.artifactFetcher(ctx)
	if err != nil {
		return nil, err
	}
	n.engine, err = engine.New(engine.Options{
		Root: n.cfg.Root, State: n.cfg.State, Launcher: l, Provisioner: images, Artifacts: artifacts, Isolators: isolators,
		Tracer: n.parts.Tracer, OnStep: n.parts.OnStep, OnOperation: n.parts.OnOperation, Resident: n.parts.Resident, Log: n.logger("engine"),
	})
	return n.engine, err
}

// Expect starts what takes long to start for a container that is about to be
// launched. It is a hint.
func (n *Node) Expect(id containerizer.ContainerID) {
	if l, err := n.launcher(); err == nil { // Engine says why it fails
		l.Expect(id)
	}
}

// launcher returns the native launcher. Its monitors end with `berth system reap`,
// over the same folders.
func (n *Node) launcher() (*launcher.Launcher, error) {
	if n.native != nil {
		return n.native, nil
	}
	self, err := n.command()
	if err != nil {
		return nil, err
	}
	monitor := n.cfg.Monitor
	if monitor == "" {
		if monitor, err = Program("berth-monitor"); err != nil {
			return nil, err
		}
	}
	n.native, err = launcher.New(launcher.Options{
		Monitor:     monitor,
		ExitCommand: append(n.selfCommand(self), "system", "reap"),
		ExitEnv:     []string{"PATH=" + os.Getenv("PATH")},
		Seccomp:     n.filters, Log: n.logger("launcher"),
		Tracer: n.parts.Tracer, Spares: n.parts.SpareMonitors, Runtimes: n.runtimes(),
	})
	return n.native, err
}

// runtimes are the OCI runtimes of the configuration.
func (n *Node) runtimes() map[string]launcher.Runtime {
	all := map[string]launcher.Runtime{}
	for name, r := range n.cfg.Runtimes {
		all[name] = launcher.Runtime{Path: r.Path, Options: r.Options}
	}
	return all
}

// command is the path of the berth for the background.
func (n *Node) command() (string, error) {
	if n.parts.Command != "" {
		return n.parts.Command, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the path of berth: %w", err)
	}
	return self, nil
}

// selfCommand runs berth over the same folders, with the same configuration.
func (n *Node) selfCommand(self string) []string {
	command := []string{self, "--root", n.cfg.Root, "--state", n.cfg.State}
	if _, err := os.Stat(n.configPath); err == nil { // the default one may be missing
		command = append(command, "--config", n.configPath)
	}
	return command
}

// Program returns what a launch would do. It goes through a launch in a state
// folder of its own, up to the point where the program would be executed, and
// undoes it.
func (n *Node) Program(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec) (text string, err error) {
	state, err := os.MkdirTemp("", "berth-dry-run-")
	if err != nil {
		return "", fmt.Errorf("make a folder for the dry run: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	dry := New(n.cfg, n.configPath, n.log, n.parts)
	dry.cfg.State, dry.filters = state, n.filters
	dry.parts.Isolators = nil // there is no container to be told of
	images, err := dry.provisioner()
	if err != nil {
		return "", err
	}
	isolators, err := dry.isolators(images)
	if err != nil {
		return "", err
	}
	l, err := dry.launcher()
	if err != nil {
		return "", err
	}
	var out strings.Builder
	e, err := engine.New(engine.Options{
		Root: dry.cfg.Root, State: state, Launcher: &launcher.DryRun{Launcher: l, Out: &out},
		Provisioner: images, Artifacts: noArtifacts{}, Isolators: isolators, Log: dry.logger("engine"),
	})
	if err != nil {
		return "", err
	}
	ephemeral := *spec
	ephemeral.AutoRemove, ephemeral.Name = true, ""
	if _, err = e.Launch(ctx, id, &ephemeral, containerizer.LaunchOptions{}); !errors.Is(err, launcher.ErrDryRun) {
		return "", errors.Join(err, e.Close(ctx))
	}
	return out.String(), e.Close(ctx)
}

// Sweep does what commands put off: it deletes what was given up and makes new
// images durable.
func (n *Node) Sweep(ctx context.Context) error {
	images, err := n.provisioner()
	if err != nil {
		return err
	}
	n.swept = true
	return images.Sweep(ctx)
}

// SweepBriefly is Sweep that does not wait for the pulls of others: what it leaves to
// them is for the sweeper that Close starts.
func (n *Node) SweepBriefly(ctx context.Context) error {
	images, err := n.provisioner()
	if err != nil {
		return err
	}
	left, err := images.SweepBriefly(ctx)
	n.swept = !left
	return err
}

// closeTimeout bounds how long a command waits for a teardown. What is cut off is
// finished by the monitor's exit command, or by the next one.
const closeTimeout = 10 * time.Second

// tidyBudget is how many files of what was given up a command deletes itself; a
// sweeper is started for more.
const tidyBudget = 64

// Close gives up what was opened, and leaves what was put off to a process of its
// own if it is much.
func (n *Node) Close() error {
	var err error
	if n.native != nil {
		n.native.Close()
	}
	if n.engine != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err = n.engine.Close(ctx); errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("leave the rest to the background or the next command after %s: %w", closeTimeout, err)
		}
	}
	if n.images == nil || n.swept { // a sweeper that starts the next one would never end
		return err
	}
	if pending, trash := n.images.Tidy(tidyBudget); pending > 0 || trash > 0 {
		err = errors.Join(err, n.startSweeper())
	}
	return err
}

// startSweeper starts `berth system sweep` in a session of its own.
func (n *Node) startSweeper() error {
	self, err := n.command()
	if err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("start the sweeper: %w", err)
	}
	defer func() { _ = null.Close() }()
	p, err := os.StartProcess(self, append(n.selfCommand(self), "system", "sweep"), &os.ProcAttr{
		Dir: "/", Env: []string{"PATH=" + os.Getenv("PATH")},
		Files: []*os.File{null, null, null}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start the sweeper: %w", err)
	}
	return p.Release()
}
