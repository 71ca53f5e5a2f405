package registry_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
	"github.com/berth-dev/berth/fetcher/registry"
)

// double is a registry whose answers can be tampered with.
type double struct {
	*httptest.Server
	mu     sync.Mutex
	tamper func(w http.ResponseWriter, r *http.Request, next http.Handler)
	seen   []string
}

func newDouble(t *testing.T) *double {
	t.Helper()
	d := &double{}
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		d.seen = append(d.seen, r.Method+" "+r.URL.Path+" "+r.Header.Get("Range"))
		tamper := d.tamper
		d.mu.Unlock()
		if tamper != nil {
			tamper(w, r, inner)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *double) host() string { return strings.TrimPrefix(d.URL, "http://") }

func (d *double) with(f func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tamper = f
}

// push puts the image org/app:1 there, with one layer of size bytes.
func (d *double) push(t *testing.T, size int) (ref reference.Reference, layer v1.Descriptor, content []byte) {
	t.Helper()
	content = make([]byte, size)
	r := rand.New(rand.NewSource(1)) //nolint:gosec // test content
	_, _ = r.Read(content)
	l := static.NewLayer(content, types.OCILayer)
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(d.host() + "/org/app:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	h, err := l.Digest()
	if err != nil {
		t.Fatal(err)
	}
	ref, err = reference.Parse(d.host() + "/org/app:1")
	if err != nil {
		t.Fatal(err)
	}
	return ref, v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: digest.Digest(h.String()), Size: int64(size)}, content
}

func client(o registry.Options) *registry.Client {
	o.Backoff = time.Millisecond
	if o.Credentials == nil {
		o.Credentials = credentials{}
	}
	if o.Dirs == nil {
		o.Dirs = []string{"/nonexistent"}
	}
	return registry.New(o)
}

func connect(t *testing.T, c *registry.Client, ref reference.Reference) *registry.Origin {
	t.Helper()
	o, err := c.Connect(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

func read(ctx context.Context, o *registry.Origin, d v1.Descriptor) ([]byte, error) {
	r, err := o.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}

func TestResolveAndOpen(t *testing.T) {
	d := newDouble(t)
	ref, layer, content := d.push(t, 1<<20)
	o := connect(t, client(registry.Options{}), ref)
	desc, raw, err := o.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if desc.Digest != digest.FromBytes(raw) || desc.MediaType == "" {
		t.Errorf("descriptor %+v", desc)
	}
	byDigest, err := reference.Parse(d.host() + "/org/app@" + string(desc.Digest))
	if err != nil {
		t.Fatal(err)
	}
	if again, _, err := connect(t, client(registry.Options{}), byDigest).Resolve(t.Context()); err != nil || again.Digest != desc.Digest {
		t.Errorf("by digest: %v, %v", again.Digest, err)
	}
	got, err := read(t.Context(), o, layer)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("blob of %d bytes, %v", len(got), err)
	}
	if m, err := read(t.Context(), o, desc); err != nil || !bytes.Equal(m, raw) {
		t.Errorf("manifest by descriptor: %v", err)
	}
}

// cutAfter ends the connection after n bytes of each blob response.
func cutAfter(n int, ranges bool) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			next.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		inner := r.Clone(r.Context())
		inner.Header.Del("Range")
		next.ServeHTTP(rec, inner)
		body := rec.Body.Bytes()
		status, off := http.StatusOK, 0
		if spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && ranges {
			from, _, _ := strings.Cut(spec, "-")
			off, _ = strconv.Atoi(from)
			status = http.StatusPartialContent
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, len(body)-1, len(body)))
		}
		rest := body[off:]
		w.Header().Set("Content-Length", strconv.Itoa(len(rest)))
		w.WriteHeader(status)
		_, _ = w.Write(rest[:min(n, len(rest))])
		if len(rest) > n {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}
}

func TestBrokenConnections(t *testing.T) {
	const size = 3 << 20
	t.Run("ranges carry on", func(t *testing.T) {
		d := newDouble(t)
		ref, layer, content := d.push(t, size)
		d.with(cutAfter(700<<10, true))
		got, err := read(t.Context(), connect(t, client(registry.Options{}), ref), layer)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		ranges := 0
		for _, s := range d.seen {
			if strings.Contains(s, "bytes=") {
				ranges++
			}
		}
		if ranges < 4 {
			t.Errorf("%d ranges were asked for, want 4 or more", ranges)
		}
	})
	t.Run("ranges ignored near the start", func(t *testing.T) {
		d := newDouble(t)
		ref, layer, content := d.push(t, size)
		var calls atomic.Int32
		d.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if strings.Contains(r.URL.Path, "/blobs/") && calls.Add(1) > 1 {
				cutAfter(size, false)(w, r, next)
				return
			}
			cutAfter(1<<20, false)(w, r, next)
		})
		got, err := read(t.Context(), connect(t, client(registry.Options{}), ref), layer)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("no progress", func(t *testing.T) {
		d := newDouble(t)
		ref, layer, _ := d.push(t, size)
		d.with(cutAfter(0, true))
		_, err := read(t.Context(), connect(t, client(registry.Options{}), ref), layer)
		if !errors.Is(err, containerizer.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("stall", func(t *testing.T) {
		d := newDouble(t)
		ref, layer, content := d.push(t, size)
		var calls atomic.Int32
		d.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if strings.Contains(r.URL.Path, "/blobs/") && calls.Add(1) == 1 {
				w.Header().Set("Content-Length", strconv.Itoa(size))
				_, _ = w.Write(content[:1000])
				w.(http.Flusher).Flush()
				<-r.Context().Done() // until the client gives up
				return
			}
			next.ServeHTTP(w, r)
		})
		got, err := read(t.Context(), connect(t, client(registry.Options{Stall: 50 * time.Millisecond}), ref), layer)
		if err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	})
	t.Run("wrong range", func(t *testing.T) {
		d := newDouble(t)
		ref, layer, _ := d.push(t, size)
		d.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 0-9/10")
				w.WriteHeader(http.StatusPartialContent)
				return
			}
			cutAfter(1000, false)(w, r, next)
		})
		if _, err := read(t.Context(), connect(t, client(registry.Options{}), ref), layer); err == nil || !strings.Contains(err.Error(), "answered a request from byte 1000") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		d := newDouble(t)
		ref, layer, _ := d.push(t, size)
		o := connect(t, client(registry.Options{}), ref)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := read(ctx, o, layer); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestOpenAt(t *testing.T) {
	const size, skipped = 6 << 20, 4 << 20
	d := newDouble(t)
	ref, layer, content := d.push(t, size)
	o := connect(t, client(registry.Options{}), ref)
	from := func(offset int64) ([]byte, error) {
		r, err := o.OpenAt(t.Context(), layer, offset)
		if err != nil {
			return nil, err
		}
		defer func() { _ = r.Close() }()
		return io.ReadAll(r)
	}
	for _, ranges := range []bool{true, false} {
		d.with(cutAfter(size, ranges))
		for _, offset := range []int64{0, 1, skipped, size} {
			if got, err := from(offset); err != nil || !bytes.Equal(got, content[offset:]) {
				t.Errorf("ranges %v, from %d on: %d bytes, %v", ranges, offset, len(got), err)
			}
		}
	}
	if _, err := from(skipped + 1); !errors.Is(err, containerizer.ErrUnsupported) {
		t.Errorf("ranges ignored far from the start: %v", err)
	}
	for _, offset := range []int64{-1, size + 1} {
		if _, err := from(offset); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("from %d on: %v", offset, err)
		}
	}
}

func TestStatus(t *testing.T) {
	for status, want := range map[int]error{
		http.StatusNotFound:            containerizer.ErrNotFound,
		http.StatusForbidden:           containerizer.ErrPermission,
		http.StatusTooManyRequests:     containerizer.ErrUnavailable,
		http.StatusInternalServerError: containerizer.ErrUnavailable,
		http.StatusBadRequest:          containerizer.ErrUnavailable,
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			d := newDouble(t)
			ref, _, _ := d.push(t, 10)
			var calls atomic.Int32
			d.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
				if strings.Contains(r.URL.Path, "/manifests/") {
					calls.Add(1)
					w.WriteHeader(status)
					_, _ = fmt.Fprint(w, `{"errors":[{"code":"SOME_CODE","message":"some words"}]}`)
					return
				}
				next.ServeHTTP(w, r)
			})
			_, _, err := connect(t, client(registry.Options{}), ref).Resolve(t.Context())
			if !errors.Is(err, want) || !strings.Contains(err.Error(), "some words") {
				t.Errorf("error %v, want class %q and the registry's words", err, want)
			}
			again := status == http.StatusTooManyRequests || status >= 500
			if (calls.Load() > 1) != again {
				t.Errorf("%d requests, repeated should be %v", calls.Load(), again)
			}
		})
	}
	t.Run("recovers", func(t *testing.T) {
		d := newDouble(t)
		ref, _, _ := d.push(t, 10)
		var calls atomic.Int32
		d.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if strings.Contains(r.URL.Path, "/manifests/") && calls.Add(1) <= 2 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, r)
		})
		if _, _, err := connect(t, client(registry.Options{}), ref).Resolve(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("huge manifest", func(t *testing.T) {
		d := newDouble(t)
		ref, _, _ := d.push(t, 10)
		d.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				_, _ = w.Write(make([]byte, 9<<20))
				return
			}
			next.ServeHTTP(w, r)
		})
		if _, _, err := connect(t, client(registry.Options{}), ref).Resolve(t.Context()); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("error %v", err)
		}
	})
}

// TestTokens has the token exchange, with a token that expires in the middle.
func TestTokens(t *testing.T) {
	d := newDouble(t)
	ref, layer, content := d.push(t, 1000)
	var issued atomic.Int32
	d.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.URL.Path == "/token" {
			if r.Header.Get("Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("u:p")) {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = fmt.Fprintf(w, `{"token":"t%d"}`, issued.Add(1))
			return
		}
		if r.Header.Get("Authorization") != fmt.Sprintf("Bearer t%d", issued.Load()) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="s"`, d.URL))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
	o := connect(t, client(registry.Options{Credentials: credentials{user: "u", password: "p"}}), ref)
	if _, _, err := o.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	issued.Add(1) // the token is not good any more
	got, err := read(t.Context(), o, layer)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("after the token expired: %v", err)
	}
	if _, _, err := connect(t, client(registry.Options{Credentials: credentials{user: "u", password: "wrong"}}), ref).Resolve(t.Context()); !errors.Is(err, containerizer.ErrPermission) {
		t.Errorf("wrong password: %v", err)
	}
}

// TestRedirects has blobs that are elsewhere, as with most large registries.
func TestRedirects(t *testing.T) {
	var leaked atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		_, _ = fmt.Fprint(w, "content")
	}))
	defer elsewhere.Close()
	d := newDouble(t)
	ref, _, _ := d.push(t, 10)
	layer := v1.Descriptor{Digest: digest.FromString("content"), Size: 7}
	target := strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1) + "/x"
	d.with(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
			return
		}
		if r.URL.Path == "/v2/" && r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
	o := connect(t, client(registry.Options{Credentials: credentials{user: "u", password: "p"}}), ref)
	if got, err := read(t.Context(), o, layer); err != nil || string(got) != "content" {
		t.Errorf("got %q, %v", got, err)
	}
	if leaked.Load() {
		t.Error("credentials were sent to another host")
	}
	for to, want := range map[string]string{
		"http://169.254.169.254/latest":                     "plain HTTP to",
		"http://example.invalid/x":                          "plain HTTP to",
		"https://169.254.169.254/x":                         "link-local",
		d.URL + "/v2/org/app/blobs/" + string(layer.Digest): "redirects",
	} {
		target = to
		if _, err := read(t.Context(), o, layer); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("redirect to %s: %v, want %q", to, err, want)
		}
	}
}

func TestPlainHTTP(t *testing.T) {
	for _, host := range []string{"192.168.250.250:5000", "registry.local:5000", "example.invalid"} {
		ref, err := reference.Parse(host + "/a:1")
		if err != nil {
			t.Fatal(err)
		}
		var asked []string
		c := client(registry.Options{Retries: 1, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.URL.Scheme)
			return nil, errors.New("not reached")
		})})
		if _, _, err := connect(t, c, ref).Resolve(t.Context()); err == nil {
			t.Errorf("%s: resolved", host)
		}
		for _, s := range asked {
			if s != "https" {
				t.Errorf("%s was asked over %s", host, s)
			}
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
