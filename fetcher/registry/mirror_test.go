package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
	"github.com/berth-dev/berth/fetcher/registry"
	"github.com/berth-dev/berth/fetcher/registry/registrytest"
)

// upstream is the name of a registry that hosts.toml files lead elsewhere.
const upstream = "registry.example"

// certs makes a certs.d directory with the hosts.toml of upstream, and other files
// beside it as pairs of name and content.
func certs(t *testing.T, hostsToml string, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(dir, upstream, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("hosts.toml", hostsToml)
	for i := 0; i < len(files); i += 2 {
		write(files[i], files[i+1])
	}
	return dir
}

func parse(t *testing.T, s string) reference.Reference {
	t.Helper()
	r, err := reference.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// mirrored is a registry with one mirror before it; both have the same image.
type mirrored struct {
	mirror, server *registrytest.Server
	image          registrytest.Image
	content        []byte
	dir            string
}

// newMirrored makes them; keys are more lines of the mirror's table.
func newMirrored(t *testing.T, size int, keys string) *mirrored {
	t.Helper()
	m := &mirrored{mirror: registrytest.New(t), server: registrytest.New(t), content: registrytest.Random(size)}
	m.image = m.server.Image(t, "org/app", "1", m.content)
	m.mirror.Image(t, "org/app", "1", m.content)
	m.dir = certs(t, fmt.Sprintf("server = %q\n[host.%q]\n%s\n", m.server.URL, m.mirror.URL, keys))
	return m
}

// pull fetches manifest, configuration and layer, as the store does: what is wrong
// is doubted once and fetched again.
func (m *mirrored) pull(ctx context.Context, o *registry.Origin) error {
	d, raw, err := o.Resolve(ctx)
	if err != nil {
		return err
	}
	if d.Digest != m.image.Manifest.Digest || !bytes.Equal(raw, m.image.Raw) {
		return fmt.Errorf("the manifest is %s", d.Digest)
	}
	if _, err := read(ctx, o, m.image.Config); err != nil {
		return err
	}
	layer := m.image.Layers[0]
	for {
		got, err := read(ctx, o, layer)
		if err != nil {
			return err
		}
		if bytes.Equal(got, m.content) {
			return nil
		}
		if !o.Doubt(layer) {
			return errors.New("the layer is wrong and nobody else has it")
		}
	}
}

func (m *mirrored) connect(t *testing.T, o registry.Options) *registry.Origin {
	t.Helper()
	o.Dirs = []string{m.dir}
	return connect(t, client(o), parse(t, upstream+"/org/app:1"))
}

const large = 3 << 20 // more than what is verified as a whole

func TestMirrorServes(t *testing.T) {
	m := newMirrored(t, large, "")
	if err := m.pull(t.Context(), m.connect(t, registry.Options{})); err != nil {
		t.Fatal(err)
	}
	if n := len(m.server.Requests()); n != 0 {
		t.Errorf("the server got %d requests, the mirror should have answered all", n)
	}
	requests := m.mirror.Requests()
	for _, r := range requests {
		if r.Query != "ns="+upstream {
			t.Errorf("%s has the query %q, want ns=%s", r.Path, r.Query, upstream)
		}
	}
	if len(requests) != 3 {
		t.Errorf("%d requests, want one each for manifest, configuration and layer", len(requests))
	}
}

// TestCapabilities has a mirror that is trusted with content, not with names.
func TestCapabilities(t *testing.T) {
	m := newMirrored(t, large, `capabilities = ["pull"]`)
	if err := m.pull(t.Context(), m.connect(t, registry.Options{})); err != nil {
		t.Fatal(err)
	}
	if n := m.mirror.Count(registrytest.Manifests); n != 0 {
		t.Errorf("the mirror was asked %d times what the tag stands for", n)
	}
	if n := m.server.Count(registrytest.Blobs); n != 0 {
		t.Errorf("the server was asked for %d blobs that the mirror has", n)
	}
	byDigest := connect(t, client(registry.Options{Dirs: []string{m.dir}}), parse(t, upstream+"/org/app@"+string(m.image.Manifest.Digest)))
	if _, _, err := byDigest.Resolve(t.Context()); err != nil || m.mirror.Count(registrytest.Manifests) != 1 {
		t.Errorf("by digest: %v, %d requests at the mirror", err, m.mirror.Count(registrytest.Manifests))
	}

	none := certs(t, fmt.Sprintf("server = %q\ncapabilities = [\"push\"]\n", m.server.URL))
	_, _, err := connect(t, client(registry.Options{Dirs: []string{none}}), parse(t, upstream+"/org/app:1")).Resolve(t.Context())
	if !errors.Is(err, containerizer.ErrFailedPrecondition) || !strings.Contains(err.Error(), "hosts.toml") {
		t.Errorf("nobody may be asked: %v", err)
	}
}

// TestMirrorFails has mirrors that are of no use, each in another way. The pull
// goes on at the server, and the mirror has cost one failure.
func TestMirrorFails(t *testing.T) {
	for name, c := range map[string]struct {
		fault registrytest.Fault
		most  int // requests that the mirror may get
	}{
		"error 500":        {registrytest.Status(500), 1},
		"busy":             {registrytest.Status(429, "Retry-After", "60"), 1},
		"not allowed":      {registrytest.Status(403), 1},
		"bad request":      {registrytest.Status(400), 3},
		"has nothing":      {registrytest.Status(404), 3},
		"silent":           {registrytest.Silence(), 1},
		"hangs up":         {registrytest.Cut(0), 3},
		"stalls":           {registrytest.Stall(100), 3},
		"lies":             {registrytest.WrongBytes(), 3},
		"encoded":          {registrytest.Headers("Content-Encoding", "gzip"), 1},
		"no HTTP":          {registrytest.Raw("SSH-2.0-OpenSSH_9.2\r\n"), 1},
		"huge headers":     {registrytest.Raw("HTTP/1.1 200 OK\r\nX: " + registrytest.Padding(300<<10) + "\r\n\r\n"), 1},
		"redirect loop":    {registrytest.Redirect(""), 12},
		"redirect nowhere": {registrytest.Redirect("http://127.0.0.1:1/"), 1},
		"redirect inside":  {registrytest.Redirect("http://169.254.169.254/latest/meta-data"), 1},
		"wants a token":    {registrytest.Status(401, "WWW-Authenticate", `Bearer realm="http://127.0.0.1:1/token"`), 1},
		"odd challenge":    {registrytest.Status(401, "WWW-Authenticate", `Bearer realm="`), 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Names are resolved at the server: a tag's manifest is what a trusted mirror says.
			m := newMirrored(t, large, `capabilities = ["pull"]`)
			m.mirror.All(c.fault)
			o := m.connect(t, registry.Options{MirrorTimeout: time.Second, Stall: 300 * time.Millisecond})
			if err := m.pull(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if n := len(m.mirror.Requests()); n > c.most || n == 0 {
				t.Errorf("the mirror got %d requests, want 1 to %d", n, c.most)
			}
		})
	}
}

// TestMirrorGoesDown has mirrors that fail in the middle of a layer.
func TestMirrorGoesDown(t *testing.T) {
	for name, fault := range map[string]registrytest.Fault{
		"breaks off":  registrytest.Cut(1 << 20),
		"stalls":      registrytest.Stall(1 << 20),
		"then 500":    registrytest.First(1, registrytest.Cut(1<<20)),
		"trickles":    registrytest.Trickle(10 * time.Millisecond),
		"wrong range": registrytest.First(1, registrytest.Cut(1<<20)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirrored(t, large, "")
			o := m.connect(t, registry.Options{Stall: 300 * time.Millisecond})
			first := fault
			fault := func(s *registrytest.Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
				switch {
				case r.Header.Get("Range") == "":
					first(s, w, r, serve)
				case name == "then 500":
					registrytest.Status(500)(s, w, r, serve)
				case name == "wrong range":
					registrytest.WrongRange("bytes 0-9/10")(s, w, r, serve)
				default:
					first(s, w, r, serve)
				}
			}
			m.mirror.On(registrytest.Blobs, fault)
			got, err := read(t.Context(), o, m.image.Layers[0])
			if err != nil || !bytes.Equal(got, m.content) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if name == "breaks off" { // by ranges, it has all of it
				return
			}
			rest := ""
			for _, r := range m.server.Requests() {
				rest = r.Range
			}
			if !strings.HasPrefix(rest, "bytes=") {
				t.Errorf("the server was asked for the range %q, want the rest", rest)
			}
		})
	}
}

// TestDeadMirrorOnce has a mirror where nobody is, for a pull of several layers.
func TestDeadMirrorOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	accepted := make(chan struct{}, 100)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- struct{}{}
			defer func() { _ = c.Close() }()
		}
	}()
	server := registrytest.New(t)
	layers := [][]byte{registrytest.Random(large), registrytest.Random(10), registrytest.Random(large)}
	image := server.Image(t, "org/app", "1", layers...)
	dir := certs(t, fmt.Sprintf("server = %q\n[host.\"http://%s\"]\ndial_timeout = \"200ms\"\n", server.URL, l.Addr()))
	o := connect(t, client(registry.Options{Dirs: []string{dir}}), parse(t, upstream+"/org/app:1"))
	if _, _, err := o.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, d := range image.Layers {
		if got, err := read(t.Context(), o, d); err != nil || !bytes.Equal(got, layers[i]) {
			t.Errorf("layer %d: %v", i, err)
		}
	}
	if n := len(accepted); n != 1 {
		t.Errorf("the silent mirror was connected to %d times, want once", n)
	}
}

// TestSlowMirrorAlone has a mirror that is too slow for the first round, and
// nobody else who answers.
func TestSlowMirrorAlone(t *testing.T) {
	mirror := registrytest.New(t)
	mirror.Image(t, "org/app", "1")
	mirror.All(registrytest.Late(600 * time.Millisecond))
	dir := certs(t, fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.%q]\n", mirror.URL))
	o := connect(t, client(registry.Options{Dirs: []string{dir}, MirrorTimeout: 100 * time.Millisecond}), parse(t, upstream+"/org/app:1"))
	if _, _, err := o.Resolve(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAllFail has the answers of all hosts in one error, classed by the server's.
func TestAllFail(t *testing.T) {
	m := newMirrored(t, 10, "")
	m.mirror.All(registrytest.Status(503))
	m.server.All(registrytest.Status(404))
	_, _, err := m.connect(t, registry.Options{}).Resolve(t.Context())
	if !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("class of %v", err)
	}
	for _, want := range []string{"404 Not Found", "before that", m.mirror.URL, "503 Service Unavailable"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want it to tell %q", err, want)
		}
	}
	if n := m.server.Count(registrytest.Manifests); n != 1 {
		t.Errorf("the server said no and was asked %d times", n)
	}
}

// TestDoubt has lies that are found out when all has been read.
func TestDoubt(t *testing.T) {
	m := newMirrored(t, large, "")
	m.mirror.On(registrytest.Blobs, registrytest.WrongBytes())
	o := m.connect(t, registry.Options{})
	layer := m.image.Layers[0]
	if got, err := read(t.Context(), o, layer); err != nil || bytes.Equal(got, m.content) {
		t.Fatalf("the mirror does not lie: %v", err)
	}
	if !o.Doubt(layer) {
		t.Fatal("there is another host and Doubt knows none")
	}
	if got, err := read(t.Context(), o, layer); err != nil || !bytes.Equal(got, m.content) {
		t.Errorf("after doubting the mirror: %v", err)
	}
	if o.Doubt(layer) {
		t.Error("there is another host after the last one")
	}
	// A small one is verified on the way, whoever has it.
	m.server.On(registrytest.Blobs, registrytest.WrongBytes())
	if _, err := read(t.Context(), o, m.image.Config); !errors.Is(err, containerizer.ErrDataCorrupt) {
		t.Errorf("all lie: %v", err)
	}
	m.server.On(registrytest.Manifests, registrytest.WrongBytes())
	m.mirror.On(registrytest.Manifests, registrytest.WrongBytes())
	if _, err := read(t.Context(), o, v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: m.image.Manifest.Digest}); !errors.Is(err, containerizer.ErrDataCorrupt) {
		t.Errorf("all lie about a manifest: %v", err)
	}
}

// TestOverridePath has APIs that are elsewhere than at /v2.
func TestOverridePath(t *testing.T) {
	s := registrytest.New(t)
	s.Image(t, "org/app", "1")
	for toml, want := range map[string]string{
		fmt.Sprintf("server = \"%s/a/b\"", s.URL):                                "/a/b/v2/org/app/manifests/1",
		fmt.Sprintf("server = \"%s/a/b\"\noverride_path = true", s.URL):          "/a/b/org/app/manifests/1",
		fmt.Sprintf("server = \"%s/v2/org\"\noverride_path = true\n", s.URL):     "/v2/org/org/app/manifests/1",
		fmt.Sprintf("server = \"http://127.0.0.1:1\"\n[host.\"%s/x\"]\n", s.URL): "/x/v2/org/app/manifests/1",
	} {
		o := connect(t, client(registry.Options{Dirs: []string{certs(t, toml)}}), parse(t, upstream+"/org/app:1"))
		_, _, _ = o.Resolve(t.Context()) // some are nowhere
		requests := s.Requests()
		if got := requests[len(requests)-1].Path; got != want {
			t.Errorf("%s\n asked for %s, want %s", toml, got, want)
		}
	}
}

// TestBrokenHostsFile has a mistake that must not be passed over.
func TestBrokenHostsFile(t *testing.T) {
	c := client(registry.Options{Dirs: []string{certs(t, "skip_verfy = true")}})
	_, err := c.Connect(t.Context(), parse(t, upstream+"/org/app:1"), nil)
	if !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), "skip_verfy") || !strings.Contains(err.Error(), "hosts.toml") {
		t.Errorf("error %v", err)
	}
}
