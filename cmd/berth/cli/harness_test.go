package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/cmd/internal/weburl"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/engine"
	"github.com/berth-dev/berth/containerizer/enginetest"
	"github.com/berth-dev/berth/fetcher/artifact"
	"github.com/berth-dev/berth/fetcher/cache"
	"github.com/berth-dev/berth/fetcher/uri"
	"github.com/berth-dev/berth/fetcher/uri/file"
)

func TestMain(m *testing.M) {
	enginetest.Main()
	os.Exit(m.Run())
}

// node is a machine for commands: a real engine whose containers are processes of
// the host, and a store of images in memory.
type node struct {
	t      *testing.T
	dir    string
	images *images
	// usage is what containers use.
	usage *usage
	// closeErr is what giving up a node says.
	closeErr error
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir(), images: newImages(), usage: &usage{}}
	t.Setenv("BERTH_ROOT", filepath.Join(n.dir, "root"))
	t.Setenv("BERTH_STATE", filepath.Join(n.dir, "state"))
	t.Setenv("BERTH_CONFIG", "")
	t.Cleanup(func() {
		for id := range strings.FieldsSeq(n.must("ps", "-aq", "--no-trunc")) {
			n.run("rm", "-f", id)
		}
	})
	return n
}

// opened is the cli.Node of one command.
type opened struct {
	*node
	settings  cli.Settings
	engine    *engine.Engine
	artifacts containerizer.Artifacts
}

func (o *opened) Sweep(context.Context) error { return nil } // the fake provisioner puts nothing off

func (o *opened) SweepBriefly(context.Context) error { return nil }

// Login takes one password, and keeps it nowhere.
func (o *opened) Login(_ context.Context, registry string, auth containerizer.RegistryAuth) (string, error) {
	if auth.Password != "right" {
		return "", fmt.Errorf("log in to %q as %q: %w", registry, auth.Username, containerizer.ErrPermission)
	}
	where := registry + " in " + o.settings.Registries.AuthFile
	if v := o.settings.Registries.TLSVerify; v != nil {
		where += fmt.Sprintf(" (TLS verified: %v)", *v)
	}
	return where, nil
}

func (o *opened) Logout(_ context.Context, registry string) (bool, error) {
	return registry == "known.example", nil
}

func (o *opened) Engine(ctx context.Context) (containerizer.Engine, error) {
	if o.engine != nil {
		return o.engine, nil
	}
	p := &enginetest.Provisioner{Root: filepath.Join(o.dir, "images")}
	if err := os.MkdirAll(p.Root, 0o700); err != nil {
		return nil, err
	}
	artifacts, err := o.Artifacts(ctx)
	if err != nil {
		return nil, err
	}
	e, err := engine.New(engine.Options{
		Root: o.settings.Root, State: o.settings.State, Launcher: &enginetest.Launcher{}, Artifacts: artifacts,
		Provisioner: &provisioner{p, o.images}, Isolators: []containerizer.Isolator{enginetest.Freezer{}, o.usage},
	})
	o.engine = e
	return e, err
}

// Expect does nothing: the fake launcher has no monitors.
func (o *opened) Expect(containerizer.ContainerID) {}

func (o *opened) Images(context.Context) (containerizer.Images, error) { return o.images, nil }

func (o *opened) Artifacts(context.Context) (containerizer.Artifacts, error) {
	if o.artifacts == nil {
		o.artifacts = artifact.New([]uri.Scheme{file.New()}, cache.New(filepath.Join(o.settings.Root, "artifacts"), cache.Options{}), nil, artifact.Options{})
	}
	return o.artifacts, nil
}

func (o *opened) Program(_ context.Context, _ containerizer.ContainerID, s *containerizer.Spec) (string, error) {
	return "program of " + s.Image.Reference + "\n", nil
}

func (o *opened) Close() error {
	if o.engine == nil {
		return o.closeErr
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(o.engine.Close(ctx), o.closeErr)
}

// provisioner knows the images that the store has.
type provisioner struct {
	*enginetest.Provisioner
	images *images
}

func (p *provisioner) Provision(ctx context.Context, id containerizer.ContainerID, s containerizer.ImageSource) (*containerizer.Provisioned, error) {
	if _, err := p.images.Inspect(ctx, s.Reference); err != nil {
		return nil, err
	}
	s.Reference = enginetest.Image
	return p.Provisioner.Provision(ctx, id, s)
}

// usage is an isolator that measures what the test says.
type usage struct{ now containerizer.Usage }

func (*usage) Name() string { return "test/usage" }
func (*usage) Prepare(context.Context, *containerizer.Container) (*containerizer.LaunchInfo, error) {
	return nil, nil
}
func (*usage) Cleanup(context.Context, *containerizer.Container) error { return nil }
func (u *usage) Usage(_ context.Context, _ *containerizer.Container, out *containerizer.Usage) error {
	*out = u.now
	out.At = time.Now()
	return nil
}

func (*usage) Update(_ context.Context, _ *containerizer.Container, r *containerizer.Resources) error {
	if r.Linux.Pids != nil && *r.Linux.Pids.Limit == 13 {
		return errors.New("13 is an unlucky limit")
	}
	return nil
}

// result is what a command printed and how it ended.
type result struct {
	out, err string
	code     int
}

// run runs a command line to its end.
func (n *node) run(args ...string) result {
	n.t.Helper()
	in, err := os.Open(os.DevNull)
	if err != nil {
		n.t.Fatal(err)
	}
	defer in.Close() //nolint:errcheck // only read
	return n.runIn(in, args...)
}

func (n *node) runIn(in *os.File, args ...string) result {
	n.t.Helper()
	var out, errs bytes.Buffer
	app := &cli.App{
		In: in, Out: &out, Err: &errs, OpenURL: weburl.Open,
		Open: func(s cli.Settings) (cli.Node, error) {
			return &opened{node: n, settings: s}, nil
		},
		Version: cli.Version{Version: "1.2.3", Commit: "abc", Go: "go1", OS: "linux", Arch: "amd64"},
	}
	code := app.Main(args)
	return result{out.String(), errs.String(), code}
}

// must runs a command that has to succeed and returns what it printed, trimmed.
func (n *node) must(args ...string) string {
	n.t.Helper()
	r := n.run(args...)
	if r.code != 0 {
		n.t.Fatalf("berth %s: exit code %d: %s", strings.Join(args, " "), r.code, r.err)
	}
	return strings.TrimSpace(r.out)
}

// fails runs a command that has to fail with this code and this sentence.
func (n *node) fails(code int, sentence string, args ...string) {
	n.t.Helper()
	r := n.run(args...)
	if r.code != code || !strings.Contains(r.err, "berth: "+sentence) {
		n.t.Errorf("berth %s: exit code %d, error %q; want %d and %q", strings.Join(args, " "), r.code, r.err, code, sentence)
	}
	if strings.Count(r.err, "\n") > 1 {
		n.t.Errorf("berth %s: more than one line: %q", strings.Join(args, " "), r.err)
	}
}
