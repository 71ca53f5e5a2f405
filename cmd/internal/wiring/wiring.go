package wiring

import (
	"context"
	"fmt"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
)

// Node is this machine. It is used by one command, from one goroutine at a time.
type Node struct {
	cfg config.Config
}

// New returns the node that cfg describes. Root and State are set.
func New(cfg config.Config) *Node { return &Node{cfg: cfg} }

// Engine returns the embedded engine.
func (n *Node) Engine(context.Context) (containerizer.Engine, error) {
	return nil, fmt.Errorf("an engine over %q: %w by this build", n.cfg.Root, containerizer.ErrUnsupported)
}

// Images returns the image store.
func (n *Node) Images(context.Context) (containerizer.Images, error) {
	return nil, fmt.Errorf("images in %q: %w by this build", n.cfg.Root, containerizer.ErrUnsupported)
}

// Program returns what a launch would do.
func (n *Node) Program(context.Context, containerizer.ContainerID, *containerizer.Spec) (string, error) {
	return "", fmt.Errorf("a launch program: %w by this build", containerizer.ErrUnsupported)
}

// Close gives up what was opened.
func (n *Node) Close() error { return nil }
