package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/stats"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer"
	grpcadapter "github.com/berth-dev/berth/containerizer/adapter/grpc"
	"github.com/berth-dev/berth/containerizer/engine"
	"github.com/berth-dev/berth/containerizer/keeper"
	"github.com/berth-dev/berth/containerizer/log"
)

// Options say what to serve.
type Options struct {
	Config config.Config
	// Reread reads the configuration again. Each of Hangups asks for it.
	Reread  func() (*config.Config, error)
	Hangups <-chan os.Signal
	// Node is this machine, over Config.
	Node *wiring.Node
	Log  *log.Logger
	// SetLevel changes what is logged.
	SetLevel func(zapcore.Level)
	// Metrics are those that the node's engine tells of its steps.
	Metrics *Metrics
	// Plugins, when set, speaks with plug-ins about the engine's containers until ctx ends.
	Plugins func(ctx context.Context, e containerizer.Engine) error
	// Tracing is where calls are told of; nil is nowhere.
	Tracing stats.Handler
	// MemInfo is the file that says how much memory is available; "" is the kernel's.
	MemInfo string
	// Version and Commit are what was built.
	Version, Commit string
}

const (
	// maxRequest bounds a message of a client. Archives and input come in parts.
	maxRequest = 8 << 20
	// maxStreams bounds the calls of one connection that are in progress.
	maxStreams = 4096
	// maxHeaders bounds the metadata of a call.
	maxHeaders = 16 << 10
	// handshakePatience is how long a client may take to say who it is.
	handshakePatience = 10 * time.Second
	// stopPatience is how long calls in progress may take when the daemon is to end.
	stopPatience = 5 * time.Second
)

// Daemon serves one node.
type Daemon struct {
	o        Options
	started  time.Time
	server   *grpc.Server
	sockets  []*socket
	debug    *socket  // nil is none
	remotes  *remotes // nil is none
	pods     *pods    // nil is none
	mesos    *mesos   // nil is none
	engine   *engine.Engine
	api      admitting // the engine, as every adapter has it
	store    grpcadapter.Store
	health   *health.Server
	guard    guard
	pressure *pressure
	// recovered is whether what earlier daemons left is put right.
	recovered atomic.Bool
	// trash is told that something was put off.
	trash  chan struct{}
	memory *memory

	mu  sync.Mutex // of reloading
	cfg config.Config
}

// Run serves until ctx ends. Containers go on.
func Run(ctx context.Context, o Options) error {
	d := &Daemon{o: o, started: time.Now(), cfg: o.Config, health: health.NewServer(), trash: make(chan struct{}, 1), memory: newMemory()}
	d.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING) // until recover is done
	held, err := lock(ctx, o.Config.State)
	if err != nil {
		return err
	}
	defer held.Close() //nolint:errcheck // goes with the process
	if err := d.open(ctx); err != nil {
		return err
	}
	defer d.closeListeners()
	if err := d.listen(ctx); err != nil {
		return err
	}
	return d.serve(ctx)
}

// open makes the parts that are served.
func (d *Daemon) open(ctx context.Context) error {
	e, err := d.o.Node.Engine(ctx)
	if err != nil {
		return err
	}
	embedded, is := e.(*engine.Engine)
	if !is {
		return fmt.Errorf("the engine of the node is a %T, not an embedded one: %w", e, containerizer.ErrUnsupported)
	}
	d.engine = embedded
	images, err := d.o.Node.Images(ctx)
	if err != nil {
		return err
	}
	if d.store, is = images.(grpcadapter.Store); !is {
		return fmt.Errorf("the image store of the node is a %T, which lacks something: %w", images, containerizer.ErrUnsupported)
	}
	artifacts, err := d.o.Node.Artifacts(ctx)
	if err != nil {
		return err
	}
	c := &d.o.Config.Daemon
	d.sockets = []*socket{{path: d.o.Config.Socket(d.o.Config.State), group: c.Group}}
	if c.ReadOnlySocket != "" {
		d.sockets = append(d.sockets, &socket{path: c.ReadOnlySocket, group: c.ReadOnlyGroup, readOnly: true})
	}
	if c.DebugSocket != "" {
		d.debug = &socket{path: c.DebugSocket}
	}
	if d.o.Config.TCP.Address != "" {
		if d.remotes, err = newRemotes(&d.o.Config.TCP); err != nil {
			return err
		}
	}
	d.o.Metrics.registry.MustRegister(newContainers(d.engine, d.o.Log))
	d.guard = guard{readOnlyMethods()}
	if d.pressure, err = d.newPressure(); err != nil {
		return err
	}
	d.api = admitting{d.engine, d.pressure}
	if d.o.Config.Mesos.Serves() {
		if d.mesos, err = d.newMesos(artifacts); err != nil {
			return err
		}
	}
	memory, most, err := c.Limits()
	if err != nil {
		return err
	}
	if memory > 0 {
		debug.SetMemoryLimit(memory)
	}
	bound := &calls{most: int64(most), metrics: d.o.Metrics}
	options := []grpc.ServerOption{
		grpc.Creds(peerCredentials{d.byPath(), d.remotes, &connections{most: maxConnections}}), grpc.ConnectionTimeout(handshakePatience),
		grpc.MaxRecvMsgSize(maxRequest), grpc.MaxHeaderListSize(maxHeaders), grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(d.unaryChain(bound)...),
		grpc.ChainStreamInterceptor(d.o.Metrics.stream, grpcadapter.StreamErrors, bound.stream, d.guard.stream, d.afterStream),
	}
	if d.o.Tracing != nil {
		options = append(options, grpc.StatsHandler(d.o.Tracing))
	}
	d.server = grpc.NewServer(options...)
	(&grpcadapter.Server{Engine: d.api, Images: d.store, Artifacts: artifacts, Daemon: d}).Register(d.server)
	healthv1.RegisterHealthServer(d.server, d.health)
	reflection.Register(d.server)
	d.pods, err = d.openPods(ctx)
	return err
}

// unaryChain is what a call goes through, the outermost first. Who looks at errors is
// within what makes codes of them; streams have the same order.
func (d *Daemon) unaryChain(bound *calls) []grpc.UnaryServerInterceptor {
	return []grpc.UnaryServerInterceptor{d.o.Metrics.unary, grpcadapter.UnaryErrors, bound.unary, d.guard.unary, d.afterUnary}
}

func (d *Daemon) byPath() map[string]*socket {
	m := map[string]*socket{}
	for _, s := range d.sockets {
		m[s.path] = s
	}
	return m
}

func (d *Daemon) listen(ctx context.Context) error {
	given, err := inherited()
	if err != nil {
		return err
	}
	for _, s := range d.all() {
		if err := s.listen(ctx, given); err != nil {
			return err
		}
		delete(given, s.path)
	}
	if err := d.mesos.listen(ctx); err != nil {
		return err
	}
	for path, l := range given {
		d.o.Log.Warn("a socket of the service manager is not in the configuration", log.String("socket", path))
		_ = l.Close() // unused
	}
	return d.listenRemote(ctx)
}

// all are the sockets, those for debugging and of other APIs included.
func (d *Daemon) all() []*socket {
	all := slices.Clone(d.sockets)
	if d.debug != nil {
		all = append(all, d.debug)
	}
	if d.pods != nil {
		all = append(all, d.pods.socket)
	}
	if d.mesos != nil && d.mesos.socket != nil {
		all = append(all, d.mesos.socket)
	}
	return all
}

func (d *Daemon) closeListeners() {
	for _, s := range d.all() {
		s.close()
	}
	if d.remotes != nil && d.remotes.listener != nil {
		_ = d.remotes.listener.Close() // the server has closed it as a rule
	}
}

// serve answers from the first moment on; readiness is told once what earlier daemons
// left is put right.
func (d *Daemon) serve(ctx context.Context) error {
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	run := func(part func() error) {
		wg.Go(func() {
			if err := part(); err != nil {
				select {
				case failed <- err:
				default: // the first one ends the daemon
				}
			}
		})
	}
	serve := func(l net.Listener) {
		run(func() error {
			d.o.Log.Info("serving", log.String("socket", l.Addr().String()))
			if err := d.server.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				return fmt.Errorf("serve %q: %w", l.Addr(), err)
			}
			return nil
		})
	}
	if d.debug != nil {
		run(func() error { return d.serveDebug(background, d.debug) })
	}
	for _, s := range d.sockets {
		serve(s.listener)
	}
	if d.remotes != nil {
		serve(d.remotes.listener)
	}
	run(func() error { return d.mesos.serve(background) })
	if p := d.pods; p != nil {
		run(func() error { return p.serve(d) })
		run(func() error { return p.streams(background) })
	}
	k := &keeper.Keeper{Engine: d.engine, Log: d.o.Log.Named("keeper"), OnEvent: d.onEvent}
	wg.Go(func() { k.Run(background) })
	run(func() error { return d.engine.Run(background) })
	if d.o.Plugins != nil {
		run(func() error { return d.o.Plugins(background, d.engine) })
	}
	wg.Go(func() { d.sweep(background) })
	wg.Go(func() { d.watchPressure(background) })
	wg.Go(func() { d.memory.run(background) })
	wg.Go(func() {
		if d.recover(background) {
			d.health.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
			d.mesos.recover(background)
			d.recovered.Store(true)
			freeMemory(settleCodeB) // of the start and the recovery
			d.notify(daemon.SdNotifyReady)
		}
	})
	wg.Go(func() { d.heedHangups(background) })
	var err error
	select {
	case <-ctx.Done():
		d.o.Log.Info("ending; containers go on")
	case err = <-failed:
	}
	d.notify(daemon.SdNotifyStopping)
	d.health.Shutdown()
	d.stop()
	end()
	wg.Wait()
	return errors.Join(err, d.o.Node.Close()) //nolint:contextcheck // has a limit of its own
}

// stop lets calls in progress end, for a while. Operations go on until the node is
// closed, and what is cut off then is finished by the next daemon.
func (d *Daemon) stop() {
	if d.pods != nil {
		defer d.pods.server.Stop() // a kubelet asks again
	}
	stopped := time.AfterFunc(stopPatience, d.server.Stop)
	d.server.GracefulStop()
	stopped.Stop()
}

// notify tells the service manager, if there is one (sd_notify(3)).
func (d *Daemon) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		d.o.Log.Warn("the service manager does not hear us", log.Error(err))
	}
}

// Info implements the adapter's contract.
func (d *Daemon) Info(context.Context) grpcadapter.Info {
	return grpcadapter.Info{
		Version: d.o.Version, Commit: d.o.Commit, GoVersion: runtime.Version(), StartedAt: d.started, PID: os.Getpid(),
		Root: d.o.Config.Root, State: d.o.Config.State, ConfigFiles: d.o.Config.Files,
		Conditions: d.pressure.list(),
	}
}

// Program implements the adapter's contract.
func (d *Daemon) Program(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec) (string, error) {
	return d.o.Node.Program(ctx, id, spec)
}
