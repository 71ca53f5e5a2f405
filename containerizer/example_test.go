package containerizer_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/berth-dev/berth/containerizer"
)

// greeter is an isolator that greets each container with one of few words, which it
// must give back.
type greeter struct {
	mu   sync.Mutex // calls for different containers overlap
	free []string
}

func (*greeter) Name() string { return "example/greeter" }

func (g *greeter) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.free) == 0 {
		return nil, fmt.Errorf("greet container %q: no words are left: %w", c.ID, containerizer.ErrResourceExhausted)
	}
	word := g.free[0]
	if err := c.Ledger.Acquire("word", word); err != nil { // before it is taken
		return nil, err
	}
	g.free = g.free[1:]
	return &containerizer.LaunchInfo{Env: []string{"GREETING=" + word}}, nil
}

func (g *greeter) Cleanup(_ context.Context, c *containerizer.Container) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, word := range c.Ledger.Held("word") { // nothing for a stranger
		if !slices.Contains(g.free, word) { // an earlier Cleanup may have come thus far
			g.free = append(g.free, word)
		}
		if err := c.Ledger.Release("word", word); err != nil {
			return err
		}
	}
	return nil
}

// memory is a ledger that does not outlive its process, which those of an engine do.
type memory struct{ held []string }

func (m *memory) Acquire(kind, name string) error {
	m.held = append(m.held, kind+" "+name)
	return nil
}

func (m *memory) Release(kind, name string) error {
	for i, h := range m.held {
		if h == kind+" "+name {
			m.held = append(m.held[:i:i], m.held[i+1:]...)
			break
		}
	}
	return nil
}

func (m *memory) Held(kind string) (names []string) {
	for _, h := range m.held {
		if name, ok := strings.CutPrefix(h, kind+" "); ok {
			names = append(names, name)
		}
	}
	return names
}

// An isolator records what it acquires before it does, says how to launch the
// container, and gives everything back by the ledger alone.
func ExampleIsolator() {
	var iso containerizer.Isolator = &greeter{free: []string{"hello"}}
	ctx := context.Background()
	c := &containerizer.Container{ID: "web", Spec: &containerizer.Spec{}, Ledger: &memory{}}

	launch, err := iso.Prepare(ctx, c)
	fmt.Println(launch.Env, err, c.Ledger.Held("word"))

	other := &containerizer.Container{ID: "db", Spec: &containerizer.Spec{}, Ledger: &memory{}}
	_, err = iso.Prepare(ctx, other)
	fmt.Println(err)

	for range 2 { // Cleanup is idempotent
		err = iso.Cleanup(ctx, &containerizer.Container{ID: "web", Ledger: c.Ledger})
		fmt.Println(err, c.Ledger.Held("word"))
	}
	_, err = iso.Prepare(ctx, other)
	fmt.Println(err)

	// Output:
	// [GREETING=hello] <nil> [hello]
	// greet container "db": no words are left: resource exhausted
	// <nil> []
	// <nil> []
	// <nil>
}

// Every contribution is merged into one description; no two isolators may set the
// same thing.
func ExampleMergeLaunchInfo() {
	_, err := containerizer.MergeLaunchInfo([]containerizer.Contribution{
		{Isolator: "namespaces/uts", Info: &containerizer.LaunchInfo{Hostname: "web"}},
		{Isolator: "network/cni", Info: &containerizer.LaunchInfo{Hostname: "web", Barrier: true}},
	})
	fmt.Println(err)
	// Output:
	// isolators "namespaces/uts" and "network/cni" both set the hostname: invalid
}
