package isolatortest

import (
	"crypto/rand"
	"fmt"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// Config describes the isolator under test.
type Config struct {
	// New returns the isolator over the same node and directories each time, as
	// the next berth process would make it. Both are the test's own: Recover releases
	// everything there that the suite does not name.
	New func(t *testing.T) containerizer.Isolator
	// Spec returns a description that gives the isolator as much to do as it can
	// have; a new value at each call.
	Spec func() *containerizer.Spec
	// ChildSpec, when set, describes a child of a container of Spec.
	ChildSpec func() *containerizer.Spec
	// Refused are descriptions for which Prepare must return ErrInvalid or
	// ErrUnsupported, by name of the case.
	Refused map[string]func() *containerizer.Spec
	// Fill, when set, adds to a container what other parts make before this isolator
	// (Rootfs, Launch, ImageConfig, NamespacePath …).
	Fill func(t *testing.T, c *containerizer.Container)
	// Leftovers lists what of id is on the node outside Container.Dir: control
	// groups, interfaces, files, mounts. nil for an isolator that keeps nothing.
	Leftovers func(t *testing.T, id containerizer.ContainerID) []string
	// Acquires says that Prepare for Spec must make something that Leftovers sees.
	Acquires bool
}

// Fixture is a container of a test with the ledger it was given.
type Fixture struct {
	*containerizer.Container
	Ledger *Ledger
}

// NewContainer returns a root container of spec with an id of its own, an
// existing private directory and an empty ledger.
func NewContainer(t *testing.T, spec *containerizer.Spec) *Fixture {
	t.Helper()
	return newFixture(t, containerizer.ContainerID("berthtest-"+rand.Text()), spec)
}

// NewChild returns a container of spec below parent.
func NewChild(t *testing.T, parent *Fixture, spec *containerizer.Spec) *Fixture {
	t.Helper()
	f := newFixture(t, parent.ID.Child("child"), spec)
	f.Parent = parent.Container
	return f
}

func newFixture(t *testing.T, id containerizer.ContainerID, spec *containerizer.Spec) *Fixture {
	t.Helper()
	ledger := &Ledger{}
	return &Fixture{Ledger: ledger, Container: &containerizer.Container{
		ID:     id,
		Spec:   spec,
		Launch: &containerizer.LaunchInfo{},
		Dir:    t.TempDir(),
		Ledger: ledger,
		NamespacePath: func(id containerizer.ContainerID, k specs.LinuxNamespaceType) (string, error) {
			return "", fmt.Errorf("%s namespace of container %q: %w", k, id, containerizer.ErrNotFound)
		},
	}}
}

// Damaged returns the container as it is known after its records were lost: the
// id, the directory and the ledger alone.
func (f *Fixture) Damaged() *containerizer.Container {
	return &containerizer.Container{
		ID: f.ID, Dir: f.Dir, Ledger: f.Ledger, NamespacePath: f.NamespacePath,
	}
}
