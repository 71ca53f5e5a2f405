// Package remote makes the node that commands work on out of a daemon's socket.
package remote

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/client"
)

// Node is a node behind a daemon. It implements [cli.Node].
type Node struct{ client *client.Client }

var (
	_ cli.Node   = (*Node)(nil)
	_ cli.Remote = (*Node)(nil)
)

// New returns the node of the daemon that listens at socket.
func New(socket string) (*Node, error) {
	c, err := client.New("unix://"+socket, nil)
	if err != nil {
		return nil, err
	}
	return &Node{c}, nil
}

// Daemon implements [cli.Remote].
func (n *Node) Daemon(ctx context.Context) (string, error) {
	info, err := n.client.Info(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("berthd %s (process %d, since %s)", info.GetVersion(), info.GetPid(), info.GetStartedAt().AsTime().Format(time.RFC3339)), nil
}

// Expect is nothing to a daemon, whose monitors start faster than we could say so.
func (*Node) Expect(containerizer.ContainerID) {}

// Engine returns the daemon's engine.
func (n *Node) Engine(context.Context) (containerizer.Engine, error) {
	return engine{n.client.Containers}, nil
}

// Images returns the daemon's store.
func (n *Node) Images(context.Context) (containerizer.Images, error) {
	return images{n.client.Images}, nil
}

// Artifacts returns the daemon's fetcher.
func (n *Node) Artifacts(context.Context) (containerizer.Artifacts, error) {
	return n.client.Artifacts, nil
}

// Program returns what a launch of spec would do.
func (n *Node) Program(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec) (string, error) {
	return n.client.Containers.Program(ctx, id, spec)
}

// Login is not a daemon's to do: commands that log in have themselves done here.
func (*Node) Login(context.Context, string, containerizer.RegistryAuth) (string, error) {
	return "", errHere()
}

// Logout is not a daemon's to do.
func (*Node) Logout(context.Context, string) (bool, error) { return false, errHere() }

func errHere() error {
	return fmt.Errorf("credentials are the user's, not the daemon's: %w", containerizer.ErrUnsupported)
}

// Sweep leaves it to the daemon, which does it by itself.
func (*Node) Sweep(context.Context) error { return nil }

// Close gives up the connection.
func (n *Node) Close() error { return n.client.Close() }
