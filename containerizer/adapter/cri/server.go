package cri

import (
	"context"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// Engine is what the adapter needs of an engine: one in this process.
type Engine interface {
	containerizer.Engine
	// NamespacePath returns a path that opens a namespace of a container that is alive.
	NamespacePath(ctx context.Context, id containerizer.ContainerID, t specs.LinuxNamespaceType) (string, error)
}

// Node is what the adapter asks of the machine.
type Node interface {
	// PodNetwork returns the name of the network that pods join. The error says what is
	// missing.
	PodNetwork() (string, error)
	// Features says what the kernel and the configuration can do.
	Features() Features
}

// Features are abilities of the node.
type Features struct {
	// SystemdCgroups says that control groups are made by systemd.
	SystemdCgroups bool
	// RecursiveReadOnly mounts, and UserNamespaces for pods.
	RecursiveReadOnly bool
	UserNamespaces    bool
}

// Options say what to serve. All parts are needed.
type Options struct {
	Engine Engine
	Images containerizer.Images
	Node   Node
	// Version is that of berth.
	Version string
	// ImageDir is where images and writable layers are.
	ImageDir string
	// StateDir is shown to tools that ask for the configuration.
	StateDir string
	// Handlers are the OCI runtimes that pods may ask for, beside the native way.
	Handlers []Handler
	// StreamAddress is where exec, attach and port forwarding are served, as HOST:PORT.
	StreamAddress string
}

// Server serves both services.
type Server struct {
	o       Options
	index   *index
	streams *streams
	users   users
}

// New returns a server. [Server.Run] has to run while it is used.
func New(ctx context.Context, o Options) (*Server, error) {
	s := &Server{o: o, index: newIndex(o.Engine)}
	var err error
	if s.streams, err = newStreams(ctx, s); err != nil {
		return nil, fmt.Errorf("serve streams: %w", err)
	}
	return s, nil
}

// Register adds the services to r.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	runtimeapi.RegisterRuntimeServiceServer(r, &runtimeService{Server: s})
	runtimeapi.RegisterImageServiceServer(r, &imageService{Server: s})
}

// Run serves the streams until ctx ends.
func (s *Server) Run(ctx context.Context) error { return s.streams.run(ctx) }

// runtimeService is runtime.v1.RuntimeService. A method that is missing does not compile.
type runtimeService struct {
	runtimeapi.UnsafeRuntimeServiceServer
	*Server
}

// imageService is runtime.v1.ImageService.
type imageService struct {
	runtimeapi.UnsafeImageServiceServer
	*Server
}

var (
	_ runtimeapi.RuntimeServiceServer = (*runtimeService)(nil)
	_ runtimeapi.ImageServiceServer   = (*imageService)(nil)
)
