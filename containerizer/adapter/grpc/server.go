package grpc

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// Store is an image store with all that it can do.
type Store interface {
	containerizer.Images
	containerizer.ImagePinner
	containerizer.ImageMover
}

// Daemon is what the process that serves tells about itself and does for the node.
type Daemon interface {
	// Info returns facts.
	Info(ctx context.Context) Info
	// Reload reads the configuration again. What is in force now is applied, the rest
	// needs a restart. Errors: ErrInvalid; the configuration stays then.
	Reload(ctx context.Context) (applied, restart []string, err error)
	// Program returns what a launch of spec would do, readably.
	Program(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec) (string, error)
}

// Info are facts about a daemon and its node.
type Info struct {
	Version     string
	Commit      string
	GoVersion   string
	StartedAt   time.Time
	PID         int
	Root        string
	State       string
	ConfigFiles []string
	// Conditions are the kinds of pressure that the node may be under.
	Conditions []Condition
}

// Condition is one of them.
type Condition struct {
	// Name is "MemoryPressure" or "DiskPressure".
	Name   string
	Active bool
	// Since is when it became what it is.
	Since time.Time
	// Message is for people.
	Message string
}

// Server serves the API. All parts are needed.
type Server struct {
	Engine    containerizer.Engine
	Images    Store
	Artifacts containerizer.Artifacts
	Daemon    Daemon
}

// Register adds the services of s to r.
func (s *Server) Register(r grpc.ServiceRegistrar) {
	berthv1.RegisterContainersServiceServer(r, &containers{engine: s.Engine})
	berthv1.RegisterImagesServiceServer(r, &images{store: s.Images})
	berthv1.RegisterArtifactsServiceServer(r, &artifacts{fetcher: s.Artifacts})
	berthv1.RegisterSystemServiceServer(r, &system{engine: s.Engine, daemon: s.Daemon})
}

// UnaryErrors gives the errors of methods the class and form of the API.
func UnaryErrors(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	response, err := handle(ctx, request)
	return response, wire.Status(err)
}

// StreamErrors is UnaryErrors for streams.
func StreamErrors(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return wire.Status(handle(server, stream))
}

// parseID checks an id from outside.
func parseID(id string) (containerizer.ContainerID, error) {
	return containerizer.ParseContainerID(id)
}
