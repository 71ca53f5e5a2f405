package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer/adapter/cri"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/network"
)

// maxCRIMessage is what kubelets take.
const maxCRIMessage = 16 << 20

// pods is the part of the daemon that kubelets speak to.
type pods struct {
	socket  *socket
	server  *grpc.Server
	adapter *cri.Server
}

// openPods makes what is served to kubelets; nil when that is not configured.
func (d *Daemon) openPods(ctx context.Context) (*pods, error) {
	c := &d.o.Config.CRI
	if c.Socket == "" {
		return nil, nil
	}
	p := &pods{socket: &socket{path: c.Socket}}
	var err error
	p.adapter, err = cri.New(ctx, cri.Options{
		Handlers: d.handlers(ctx),
		Engine:   d.api, Images: d.store, Node: podNode{d.o.Config}, Version: d.o.Version,
		ImageDir: wiring.ImageRoot(d.o.Config), StateDir: d.o.Config.State, StreamAddress: cmp.Or(c.StreamAddress, "127.0.0.1:0"),
	})
	if err != nil {
		return nil, fmt.Errorf("serve the container runtime interface: %w", err)
	}
	options := []grpc.ServerOption{
		grpc.Creds(peerCredentials{map[string]*socket{c.Socket: p.socket}, nil, &connections{most: maxConnections}}),
		grpc.MaxRecvMsgSize(maxCRIMessage), grpc.MaxSendMsgSize(maxCRIMessage), grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(d.o.Metrics.unary, cri.UnaryErrors, d.afterUnary),
		grpc.ChainStreamInterceptor(d.o.Metrics.stream, cri.StreamErrors, d.afterStream),
	}
	if d.o.Tracing != nil {
		options = append(options, grpc.StatsHandler(d.o.Tracing))
	}
	p.server = grpc.NewServer(options...)
	p.adapter.Register(p.server)
	return p, nil
}

// serve answers until it is stopped.
func (p *pods) serve(d *Daemon) error {
	d.o.Log.Info("serving the container runtime interface", log.String("socket", p.socket.path))
	if err := p.server.Serve(p.socket.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve %q: %w", p.socket.path, err)
	}
	return nil
}

// streams serves exec, attach and port forwarding until ctx ends.
func (p *pods) streams(ctx context.Context) error { return p.adapter.Run(ctx) }

// podNode is what the adapter asks of the machine.
type podNode struct{ cfg config.Config }

// PodNetwork implements [cri.Node]: the network of the configuration, or the first that is
// configured, or berth's own.
func (n podNode) PodNetwork() (string, error) {
	if n.cfg.CRI.Network != "" {
		return n.cfg.CRI.Network, nil
	}
	dirs := []string{filepath.Join(n.cfg.Root, "cni"), "/etc/cni/net.d"}
	if n.cfg.Network.ConfDir != "" {
		dirs = []string{n.cfg.Network.ConfDir}
	}
	first, err := network.FirstNetwork(dirs...)
	return cmp.Or(first, n.cfg.Network.Default, network.DefaultNetwork), err
}

// Features implements [cri.Node].
func (n podNode) Features() cri.Features {
	_, err := os.Stat("/proc/self/ns/user")
	return cri.Features{SystemdCgroups: n.cfg.Cgroup.Driver == "systemd", RecursiveReadOnly: true, UserNamespaces: err == nil}
}
