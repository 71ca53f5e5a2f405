package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/berth-dev/berth/containerizer"
)

// TestClose closes an engine in the middle of a Destroy: the whole tree goes, and
// new operations are refused.
func TestClose(t *testing.T) {
	n := newNode(t)
	ctx := t.Context()
	e := n.engine(t)
	child := &containerizer.Spec{Process: containerizer.Process{Args: []string{"/bin/sh", "-c", "sleep 1000"}}}
	if _, err := e.Launch(ctx, "c", spec("sleep 1000"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []containerizer.ContainerID{"c.a", "c.b"} {
		if _, err := e.Launch(ctx, id, child, containerizer.LaunchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	began, goOn := make(chan struct{}), make(chan struct{})
	n.last.On = func(_ context.Context, call string, c *containerizer.Container) error {
		if call == "Cleanup" && c.ID == "c.a" {
			close(began)
			<-goOn
		}
		return nil
	}
	destroyed := make(chan error, 1)
	go func() { destroyed <- e.Destroy(ctx, "c") }()
	<-began
	soon, cancel := context.WithCancel(ctx)
	cancel()
	if err := e.Close(soon); !errors.Is(err, context.Canceled) {
		t.Errorf("Close that cannot wait = %v", err)
	}
	if _, err := e.Launch(ctx, "late", spec("exit 0"), containerizer.LaunchOptions{}); !errors.Is(err, containerizer.ErrUnavailable) {
		t.Errorf("Launch after Close = %v", err)
	}
	close(goOn)
	if err := <-destroyed; err != nil {
		t.Errorf("Destroy during Close = %v", err)
	}
	if err := e.Close(ctx); err != nil {
		t.Errorf("Close = %v", err)
	}
	if left := n.leftovers(t); len(left) > 0 {
		t.Errorf("left on the node: %q", left)
	}
}
