package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap/zapcore"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/agent"
	"github.com/berth-dev/berth/containerizer/log"
)

// mesos serves the operator API of a Mesos agent. A nil one serves nothing.
type mesos struct {
	d      *Daemon
	agent  *agent.Server
	socket *socket // nil is none
	tcp    net.Listener

	mu     sync.Mutex // of the below
	louder *time.Timer
	level  uint32
}

// newMesos makes the server that the configuration describes.
func (d *Daemon) newMesos(artifacts containerizer.ArtifactFetcher) (*mesos, error) {
	c := &d.o.Config.Mesos
	o := agent.Options{
		WorkDir: workDir(&d.o.Config), SandboxDirectory: c.SandboxDirectory, SeccompDir: c.SeccompConfigDir, EnableCFS: c.CgroupsEnableCFS,
	}
	credentials, err := optional(c.Credentials)
	if err != nil {
		return nil, err
	}
	key, err := optional(c.JWTSecretKey)
	if err != nil {
		return nil, err
	}
	if c.Credentials != "" || c.JWTSecretKey != "" {
		if o.Authenticator, err = agent.NewAuthenticator(credentials, key); err != nil {
			return nil, fmt.Errorf("mesos: %w", err)
		}
	}
	if c.ACLs != "" {
		acls, err := optional(c.ACLs)
		if err != nil {
			return nil, err
		}
		if o.ACLs, err = agent.NewACLs(acls); err != nil {
			return nil, fmt.Errorf("mesos: %w", err)
		}
	}
	m := &mesos{d: d}
	if c.Socket != "" {
		m.socket = &socket{path: c.Socket}
	}
	m.agent, err = agent.New(agent.Parts{Engine: d.api, Images: d.store, Artifacts: artifacts, Node: m, Log: d.o.Log.Named("mesos")}, o)
	return m, err
}

func workDir(c *config.Config) string { return cmp.Or(c.Mesos.WorkDir, filepath.Join(c.Root, "mesos")) }

// optional reads a file; none is empty.
func optional(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("mesos: %w", err)
	}
	return data, nil
}

func (m *mesos) listen(ctx context.Context) (err error) {
	if m == nil {
		return nil
	}
	if address := m.d.o.Config.Mesos.Address; address != "" {
		if m.tcp, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address); err != nil {
			return fmt.Errorf("mesos: %w", err)
		}
	}
	return nil
}

// recover ends what an earlier daemon's clients left. It is not worth not to serve for.
func (m *mesos) recover(ctx context.Context) {
	if m == nil {
		return
	}
	if err := m.agent.Recover(ctx); err != nil {
		m.d.o.Log.Warn("sessions of an earlier daemon may go on", log.Error(err))
	}
}

// serve serves until ctx ends.
func (m *mesos) serve(ctx context.Context) error {
	if m == nil {
		return nil
	}
	server := &http.Server{
		Handler: m.agent, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10, ErrorLog: stdlog.New(complaints{m.d.o.Log}, "", 0),
		BaseContext: func(net.Listener) context.Context { return ctx }, // streams end with it
	}
	var listeners []net.Listener
	if m.tcp != nil {
		listeners = append(listeners, m.tcp)
	}
	if m.socket != nil {
		listeners = append(listeners, m.socket.listener)
	}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		m.d.o.Log.Info("serving mesos", log.String("address", l.Addr().String()))
		go func() { failed <- server.Serve(l) }()
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	var err error
	for range listeners {
		if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, fmt.Errorf("serve mesos: %w", e), server.Close())
		}
	}
	m.agent.Close()
	return err
}

// complaints are what net/http has to say of clients.
type complaints struct{ log *log.Logger }

func (c complaints) Write(p []byte) (int, error) {
	c.log.Warn("a client of the Mesos API was not served", log.String("reason", strings.TrimSpace(string(p))))
	return len(p), nil
}

// Ready implements the adapter's contract.
func (m *mesos) Ready() bool { return m.d.recovered.Load() }

// Version implements the adapter's contract.
func (m *mesos) Version() (version, commit string) { return m.d.o.Version, m.d.o.Commit }

// Flags implements the adapter's contract.
func (m *mesos) Flags() map[string]string {
	c := &m.d.o.Config
	return map[string]string{
		"work_dir":                workDir(c),
		"runtime_dir":             c.State,
		"sandbox_directory":       cmp.Or(c.Mesos.SandboxDirectory, "/mnt/mesos/sandbox"),
		"launcher":                "linux",
		"containerizers":          "mesos",
		"image_providers":         "docker",
		"isolation":               strings.Join(c.Isolation, ","),
		"cgroups_root":            c.Cgroup.Parent,
		"cgroups_enable_cfs":      strconv.FormatBool(c.Mesos.CgroupsEnableCFS),
		"switch_user":             "true",
		"seccomp_config_dir":      c.Mesos.SeccompConfigDir,
		"fetcher_cache_size":      c.Artifacts.CacheSize,
		"authenticate_http":       strconv.FormatBool(c.Mesos.Credentials != "" || c.Mesos.JWTSecretKey != ""),
		"hadoop_home":             c.Artifacts.Hadoop,
		"network_cni_config_dir":  c.Network.ConfDir,
		"network_cni_plugins_dir": strings.Join(c.Network.PluginDirs, ":"),
	}
}

// Metrics implements the adapter's contract: those of the daemon, by their names and
// the values of their labels.
func (m *mesos) Metrics(ctx context.Context) (map[string]float64, error) {
	families, err := m.d.o.Metrics.registry.Gather()
	if err != nil {
		return nil, err
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			parts := []string{f.GetName()}
			for _, l := range x.GetLabel() {
				parts = append(parts, l.GetValue())
			}
			name := strings.Join(parts, "/")
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				values[name] = x.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				values[name] = x.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM, dto.MetricType_SUMMARY, dto.MetricType_UNTYPED, dto.MetricType_GAUGE_HISTOGRAM:
				if h := x.GetHistogram(); h != nil {
					values[name+"/count"], values[name+"/sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
				}
			}
		}
	}
	return values, ctx.Err()
}

// Verbosity implements the adapter's contract.
func (m *mesos) Verbosity() uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.level
}

// SetVerbosity implements the adapter's contract. There are two: the configured level,
// and each step.
func (m *mesos) SetVerbosity(level uint32, period time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.louder != nil {
		m.louder.Stop()
		m.louder = nil
	}
	m.set(level)
	if level > 0 {
		m.louder = time.AfterFunc(period, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.set(0)
		})
	}
}

// set changes the level of the log.
//
// Preconditions: m.mu is held.
func (m *mesos) set(level uint32) {
	m.level = level
	if level > 0 {
		m.d.o.SetLevel(zapcore.DebugLevel)
		return
	}
	m.d.mu.Lock()
	configured, err := zapcore.ParseLevel(cmp.Or(m.d.cfg.Daemon.LogLevel, "info"))
	m.d.mu.Unlock()
	if err == nil { // it was checked when it was read
		m.d.o.SetLevel(configured)
	}
}
