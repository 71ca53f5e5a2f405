package main

import (
	"cmp"
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/stats"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/cmd/internal/daemon"
	"github.com/berth-dev/berth/cmd/internal/fetching"
	"github.com/berth-dev/berth/cmd/internal/tracing"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/nri"
	"github.com/berth-dev/berth/provisioner/trust"
)

// flags are those of berthd.
type flags struct {
	settings config.Settings
	logLevel string
}

func newRoot() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "berthd [flags]",
		Short: "Serve the containers and images of this node",
		Long: `Serve the containers and images of this node over a socket, STATE/berth.sock unless the configuration says otherwise.
berth uses it when it is there, and works on the same containers without. berthd may be killed and started again at any
time: containers go on, and what it was doing is finished or undone by the next one.

SIGHUP reads the configuration again; SIGTERM ends berthd, and no container.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		RunE:          func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), f) },
	}
	set := cmd.PersistentFlags()
	set.StringVar(&f.settings.Root, "root", "", "`directory` of images and containers (BERTH_ROOT, "+config.DefaultRoot+")")
	set.StringVar(&f.settings.State, "state", "", "`directory` of what does not outlive a reboot (BERTH_STATE, "+config.DefaultState+")")
	set.StringVar(&f.settings.Path, "config", "", "configuration `file` (BERTH_CONFIG, "+config.DefaultPath+")")
	set.StringVar(&f.logLevel, "log-level", "", "`level` of the log: error, warn, info or debug (the configuration's, info)")
	cmd.AddCommand(newConfig(f))
	return cmd
}

// spareMonitors is enough for a launch on each of two processors, at 2 MB each.
const spareMonitors = 2

// load reads the configuration, with what flags say.
func (f *flags) load() (*config.Config, string, error) {
	c, path, err := f.settings.Load()
	if err != nil {
		return nil, "", err
	}
	c.Daemon.LogLevel = cmp.Or(f.logLevel, c.Daemon.LogLevel)
	return c, path, nil
}

func serve(ctx context.Context, f *flags) error {
	cfg, path, err := f.load()
	if err != nil {
		return err
	}
	level := zap.NewAtomicLevel()
	if err := level.UnmarshalText([]byte(cmp.Or(cfg.Daemon.LogLevel, "info"))); err != nil {
		return err
	}
	logger := log.New(zapcore.NewCore(encoder(cfg.Daemon.LogFormat), zapcore.Lock(os.Stderr), level))
	berth, err := wiring.Program("berth")
	if err != nil {
		return err
	}
	metrics := daemon.NewMetrics()
	plugins, err := newPlugins(cfg, logger)
	if err != nil {
		return err
	}
	parts := wiring.Parts{
		Fetcher: fetching.New, Accounts: fetching.NewAccounts, Artifacts: fetching.Artifacts,
		CDI: fetching.CDI, Resident: true, SpareMonitors: spareMonitors, OnStep: metrics.OnStep, OnOperation: metrics.OnOperation, OnRelieved: metrics.OnRelieved, Verifier: trust.Verifier{}, Unpack: fetching.Unpacker(), Command: berth,
	}
	if plugins != nil {
		parts.Isolators = []containerizer.Isolator{plugins}
	}
	var server stats.Handler
	if cfg.Tracing.Endpoint != "" {
		t, err := tracing.New(ctx, cfg.Tracing, version, logger.Named("tracing"))
		if err != nil {
			return err
		}
		defer func() {
			if err := t.Close(context.WithoutCancel(ctx)); err != nil {
				logger.Warn("the end of the traces is missing", log.Error(err))
			}
		}()
		parts.Tracer, server = t, t.Server()
	}
	node := wiring.New(*cfg, path, logger, parts)
	logger.Info("starting", log.String("version", version), log.String("go", runtime.Version()), log.Int("pid", os.Getpid()),
		log.String("root", cfg.Root), log.String("state", cfg.State))
	d := &daemon.Options{
		Tracing: server, Config: *cfg, Node: node, Log: logger.Named("daemon"), SetLevel: level.SetLevel, Metrics: metrics, Version: version, Commit: commit,
		Reread: func() (*config.Config, error) {
			c, _, err := f.load()
			return c, err
		},
	}
	if plugins != nil {
		d.Plugins = plugins.Run
	}
	return run(ctx, d)
}

// newPlugins makes what speaks with NRI plug-ins; nil when that is not wanted.
func newPlugins(cfg *config.Config, logger *log.Logger) (*nri.Isolator, error) {
	if !cfg.NRI.Enable {
		return nil, nil
	}
	registration, request, err := cfg.NRI.Timeouts()
	if err != nil {
		return nil, err
	}
	return nri.New(logger.Named("nri"), nri.Options{
		Socket: cfg.NRI.SocketPath, PluginDir: cfg.NRI.PluginPath, ConfigDir: cfg.NRI.PluginConfigPath, NoConnections: cfg.NRI.DisableConnections,
		RegistrationTimeout: registration, RequestTimeout: request, Version: version,
	}), nil
}

// run serves, and reloads at SIGHUP.
func run(ctx context.Context, o *daemon.Options) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	o.Hangups = hangups
	return daemon.Run(ctx, *o)
}

// encoder writes entries for machines or for people.
func encoder(format string) zapcore.Encoder {
	if format == "text" {
		return zapcore.NewConsoleEncoder(wiring.EncoderConfig())
	}
	return zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "logger", MessageKey: "message",
		EncodeTime: zapcore.RFC3339NanoTimeEncoder, EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeDuration: zapcore.StringDurationEncoder,
	})
}
