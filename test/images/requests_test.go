package images_test

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	gcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/berth-dev/berth/containerizer"
)

// logged is a registry that notes what it is asked.
type logged struct {
	next http.Handler
	mu   sync.Mutex
	all  []string
}

// ServeHTTP answers.
func (l *logged) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.all = append(l.all, r.Method+" "+r.URL.Path)
	l.mu.Unlock()
	l.next.ServeHTTP(w, r)
}

// take returns what was asked since the last call, sorted.
func (l *logged) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	slices.Sort(all)
	return all
}

// image is one of these layers.
func image(tb testing.TB, layers ...gcr.Layer) gcr.Image {
	tb.Helper()
	i, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		tb.Fatal(err)
	}
	config, err := i.ConfigFile()
	if err != nil {
		tb.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	if i, err = mutate.ConfigFile(i, config); err != nil {
		tb.Fatal(err)
	}
	return i
}

func layers(tb testing.TB, n int) []gcr.Layer {
	tb.Helper()
	var out []gcr.Layer
	for range n {
		l, err := random.Layer(10_000, types.DockerLayer)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

func write(tb testing.TB, ref string, i gcr.Image) (digest string) {
	tb.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		tb.Fatal(err)
	}
	if err := remote.Write(r, i); err != nil {
		tb.Fatal(err)
	}
	d, err := i.Digest()
	if err != nil {
		tb.Fatal(err)
	}
	return d.String()
}

// blob is the request for a layer.
func blob(t *testing.T, l gcr.Layer) string {
	t.Helper()
	d, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return "GET /v2/team/app/blobs/" + d.String()
}

// BenchmarkNothingMissing pulls an image that is there, in this process, beside the one
// request that this takes. The difference is what berth adds.
func BenchmarkNothingMissing(b *testing.B) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(b.Output(), "", 0))))
	b.Cleanup(server.Close)
	p := store(b)
	host := strings.TrimPrefix(server.URL, "http://")
	digest := write(b, host+"/team/app:1", image(b, layers(b, 20)...))
	pull := func(ref string) {
		source := containerizer.ImageSource{Reference: host + "/" + ref, Pull: containerizer.PullAlways}
		if _, err := p.Pull(b.Context(), source, containerizer.PullOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	ask := func() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, server.URL+"/v2/team/app/manifests/1", http.NoBody)
		if err != nil {
			b.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			b.Fatal(err)
		}
	}
	pull("team/app:1")
	pull("team/app@" + digest)
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"request alone", ask},
		{"by tag", func() { pull("team/app:1") }},
		{"by digest", func() { pull("team/app@" + digest) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.do()
			}
		})
	}
}

// TestOnlyWhatIsMissingIsAskedFor pulls images of which more and more is there. Every
// request counts: each is a way to the registry and back.
func TestOnlyWhatIsMissingIsAskedFor(t *testing.T) {
	reg := &logged{next: registry.New(registry.Logger(log.New(t.Output(), "", 0)))}
	server := httptest.NewServer(reg)
	t.Cleanup(server.Close)
	p := store(t)
	host := strings.TrimPrefix(server.URL, "http://")
	pull := func(ref string) []string {
		t.Helper()
		reg.take()
		source := containerizer.ImageSource{Reference: host + "/" + ref, Pull: containerizer.PullAlways}
		if _, err := p.Pull(t.Context(), source, containerizer.PullOptions{}); err != nil {
			t.Fatal(err)
		}
		return reg.take()
	}
	check := func(what string, got []string, want ...string) {
		t.Helper()
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: requests (-want +got):\n%s", what, diff)
		}
	}

	all := layers(t, 4)
	app := image(t, all...)
	digest := write(t, host+"/team/app:1", app)
	config := func(i gcr.Image) string {
		d, err := i.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		return "GET /v2/team/app/blobs/" + d.String()
	}
	const tag = "GET /v2/team/app/manifests/"
	check("all is missing", pull("team/app:1"), tag+"1", config(app),
		blob(t, all[0]), blob(t, all[1]), blob(t, all[2]), blob(t, all[3]))
	check("nothing is missing, by tag", pull("team/app:1"), tag+"1")
	pull("team/app@" + digest) // gives it that name
	if got := pull("team/app@" + digest); got != nil {
		t.Errorf("nothing is missing, by digest: requests %q", got)
	}

	bottom := layers(t, 1)[0]
	rebuilt := image(t, append([]gcr.Layer{bottom}, all[1:]...)...)
	write(t, host+"/team/app:2", rebuilt)
	check("the bottom layer is missing", pull("team/app:2"), tag+"2", config(rebuilt), blob(t, bottom))
	list, err := p.List(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%d images, %v", len(list), err)
	}
}
