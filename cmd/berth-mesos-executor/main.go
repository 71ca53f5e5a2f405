// Command berth-mesos-executor is a custom executor for stock Mesos agents: it runs
// their tasks as containers of berth. An agent starts it; docs/mesos.md says how it is
// asked to.
//
//	berth-mesos-executor [flags] [-- command of tasks that have none…]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/cmd/internal/fetching"
	"github.com/berth-dev/berth/cmd/internal/remote"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/codec"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/executor"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
	"github.com/berth-dev/berth/provisioner/trust"
)

// version and commit are set by the linker (Makefile).
var (
	version = "dev"
	commit  = "" //nolint:gochecknoglobals // it is the linker's; the check knows version only
)

func main() {
	err := run(os.Args[1:])
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return
	}
	_, _ = fmt.Fprintf(os.Stderr, "berth-mesos-executor: %s\n", err) // there is nowhere else to say it
	os.Exit(1)
}

// flags are what the executor can be started with.
type flags struct {
	config                         config.Settings
	host, encoding, image, cgroups string
	level                          string
	linger                         time.Duration
	version                        bool
	command                        []string
}

func parse(args []string) (*flags, error) {
	f := &flags{}
	set := pflag.NewFlagSet("berth-mesos-executor", pflag.ContinueOnError)
	set.SetInterspersed(false) // what follows is a task's
	set.SortFlags = false
	set.StringVar(&f.config.Path, "config", "", "configuration `file` (BERTH_CONFIG, "+config.DefaultPath+")")
	set.StringVar(&f.config.Root, "root", "", "`directory` of images and containers (BERTH_ROOT)")
	set.StringVar(&f.config.State, "state", "", "`directory` of what does not outlive a reboot (BERTH_STATE)")
	set.StringVarP(&f.host, "host", "H", os.Getenv("BERTH_HOST"), "berthd to `use`: unix:///PATH, or none to do without (BERTH_HOST, the one that listens in the state directory)")
	set.StringVar(&f.encoding, "encoding", "protobuf", "`form` of messages to the agent: protobuf or json")
	set.StringVar(&f.image, "image", "", "`image` for tasks that bring neither a command nor a container")
	set.StringVar(&f.cgroups, "cgroup-parent", "auto", "control group that tasks go below: a `path`, none for berth's own, or auto for the executor's if an agent made one")
	set.DurationVar(&f.linger, "linger", 0, "`time` to stay for more tasks when the last has ended")
	set.StringVar(&f.level, "log-level", "info", "`level` of the log on standard error: error, warn, info or debug")
	set.BoolVarP(&f.version, "version", "v", false, "say which version this is")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if f.encoding != "protobuf" && f.encoding != "json" {
		return nil, fmt.Errorf("encoding %q: protobuf and json exist: %w", f.encoding, containerizer.ErrInvalid)
	}
	if f.linger < 0 {
		return nil, fmt.Errorf("linger %s is negative: %w", f.linger, containerizer.ErrInvalid)
	}
	f.command = set.Args()
	return f, nil
}

func run(args []string) (err error) {
	f, err := parse(args)
	if err != nil {
		return err
	}
	if f.version {
		fmt.Println(strings.TrimSpace("berth-mesos-executor " + version + " " + commit)) //nolint:forbidigo // it is what was asked for
		return nil
	}
	env, err := executor.ParseEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	if err := os.Unsetenv(executor.VariableToken); err != nil { // it is for nobody that we start
		return err
	}
	cfg, path, err := f.config.Load()
	if err != nil {
		return err
	}
	log, err := wiring.Logger(f.level)
	if err != nil {
		return fmt.Errorf("log level: %w: %w", err, containerizer.ErrInvalid)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	settings := &cli.Settings{Config: *cfg, ConfigPath: path, Host: f.host}
	target, err := settings.Daemon()
	if err != nil {
		return err
	}
	local := wiring.New(*cfg, path, log, wiring.Parts{
		Fetcher: fetching.New, Artifacts: fetching.Artifacts, Verifier: trust.Verifier{}, Unpack: fetching.Unpacker(), Command: berth(),
	})
	defer func() { err = errors.Join(err, local.Close()) }()
	var node cli.Node = local
	if target != "" {
		daemon, err := remote.New(target, cli.TLS{})
		if err != nil {
			return err
		}
		defer daemon.Close() //nolint:errcheck // all was said
		node = daemon
	}
	parts := executor.Parts{Log: log}
	if parts.Engine, err = node.Engine(ctx); err != nil {
		return err
	}
	if parts.Images, err = node.Images(ctx); err != nil {
		return err
	}
	// A daemon may not see our sandbox by the descriptor that we would give it.
	if parts.Artifacts, err = local.Artifacts(ctx); err != nil {
		return err
	}
	return executor.New(parts, env, options(f, cfg, env, target == "")).Run(ctx)
}

func options(f *flags, cfg *config.Config, env *executor.Environment, inProcess bool) executor.Options {
	o := executor.Options{
		Image: f.image, Linger: f.linger, SeccompDir: cfg.Mesos.SeccompConfigDir, EnableCFS: cfg.Mesos.CgroupsEnableCFS, Passthrough: inProcess,
	}
	if f.encoding == "protobuf" {
		o.Form = codec.Protobuf
	}
	if len(f.command) > 0 {
		o.Command = &mesosv1.CommandInfo{Shell: new(false), Value: &f.command[0], Arguments: f.command}
	}
	switch {
	case f.cgroups == "auto" && cfg.Cgroup.Driver != "systemd":
		o.CgroupParent = executor.OwnCgroup(env.Directory)
	case f.cgroups != "auto" && f.cgroups != "none":
		o.CgroupParent = f.cgroups
	}
	return o
}

// berth is the path of the command for the background; "" lets this program be asked,
// which cannot.
func berth() string {
	path, err := wiring.Program("berth")
	if err != nil {
		return "berth" // to start it fails, and says so
	}
	return path
}
