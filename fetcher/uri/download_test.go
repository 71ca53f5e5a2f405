package uri_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
	web "github.com/berth-dev/berth/fetcher/uri/http"
	"github.com/berth-dev/berth/fetcher/uri/uritest"
)

// sink is a file with a limit.
type sink struct {
	path   string
	file   *os.File
	most   int64
	begins int
}

func (s *sink) Begin(keep, size int64, _ string) (f *os.File, err error) {
	s.begins++
	if size > s.most {
		return nil, fmt.Errorf("%d bytes: %w", size, containerizer.ErrResourceExhausted)
	}
	if s.file == nil {
		s.file, err = os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if st, serr := s.file.Stat(); err == nil && (serr != nil || st.Size() < keep) {
		return nil, fmt.Errorf("%d bytes are to be kept of %d", keep, st.Size())
	}
	return s.file, err
}

func (s *sink) Room(size int64) error {
	if size > s.most {
		return fmt.Errorf("%d bytes: %w", size, containerizer.ErrResourceExhausted)
	}
	return nil
}

// bench is a server that misbehaves in its n-th answer, and what is downloaded from it.
type bench struct {
	*httptest.Server
	sink sink
	part *uri.Part

	mu       sync.Mutex
	requests []http.Header
}

func newBench(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *bench {
	t.Helper()
	b := &bench{sink: sink{path: filepath.Join(t.TempDir(), "file"), most: 100 << 20}}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.mu.Lock()
		b.requests = append(b.requests, r.Header)
		n := len(b.requests)
		b.mu.Unlock()
		answer(n, w, r)
	}))
	t.Cleanup(b.Close)
	b.part = uri.NewPart(&b.sink, "")
	return b
}

func (b *bench) download(ctx context.Context, t *testing.T, stall time.Duration) (uri.Outcome, error) {
	t.Helper()
	d := &uri.Downloader{Backoff: time.Millisecond, Stall: stall}
	return d.Download(ctx, web.New(web.Options{}), uritest.Request(t, b.URL+"/x?token=secret"), b.part, nil)
}

func (b *bench) want(t *testing.T, content []byte) {
	t.Helper()
	got, err := os.ReadFile(b.sink.path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, content) {
		t.Errorf("%d bytes, not the %d that are there", len(got), len(content))
	}
	if b.part.SHA256() != digest.FromBytes(content) || b.part.Size() != int64(len(content)) {
		t.Errorf("the part says %s, %d bytes", b.part.SHA256(), b.part.Size())
	}
}

// cut sends the content from the range asked for on, and breaks off after n bytes.
func cut(w http.ResponseWriter, r *http.Request, content []byte, tag string, n int) {
	from := 0
	if spec, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && r.Header.Get("If-Range") == tag {
		from, _ = strconv.Atoi(strings.TrimSuffix(spec, "-"))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
	}
	rest := content[from:]
	w.Header().Set("ETag", tag)
	w.Header().Set("Content-Length", strconv.Itoa(len(rest)))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(rest[:min(n, len(rest))])
	if n < len(rest) {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestBrokenConnections(t *testing.T) {
	content := uritest.Content(3 << 20)
	other := uritest.Content(2 << 20)[7:]
	for name, c := range map[string]struct {
		answer func(n int, w http.ResponseWriter, r *http.Request)
		want   []byte
		begins int // at least
	}{
		"whole":        {func(_ int, w http.ResponseWriter, r *http.Request) { cut(w, r, content, `"1"`, len(content)) }, content, 1},
		"breaks often": {func(_ int, w http.ResponseWriter, r *http.Request) { cut(w, r, content, `"1"`, 700<<10) }, content, 4},
		"changes meanwhile": {func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				cut(w, r, content, `"1"`, 1<<20)
			}
			cut(w, r, other, `"2"`, len(other))
		}, other, 2},
		"calls another version a part of it": {func(n int, w http.ResponseWriter, r *http.Request) {
			switch n {
			case 1:
				cut(w, r, content, `"1"`, 1<<20)
			case 2:
				r.Header.Set("If-Range", `"2"`)
				cut(w, r, other, `"2"`, 100)
			default:
				cut(w, r, other, `"2"`, len(other))
			}
		}, other, 2},
		"has no versions": {func(n int, w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				t.Error("a range without a version is asked for")
			}
			if n < 3 {
				cut(w, r, content, "", n<<19)
			}
			cut(w, r, content, "", len(content))
		}, content, 3},
		"is busy first": {func(n int, w http.ResponseWriter, r *http.Request) {
			if n < 4 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			cut(w, r, content, `"1"`, len(content))
		}, content, 1},
		"refuses the range": {func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				cut(w, r, content, `"1"`, 1<<20)
			}
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			cut(w, r, content, `"1"`, len(content))
		}, content, 2},
		"no size": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			for c := range bytes.SplitSeq(content, []byte{0}) {
				_, _ = w.Write(c)
				w.(http.Flusher).Flush()
			}
		}, bytes.ReplaceAll(content, []byte{0}, nil), 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.answer)
			if _, err := b.download(t.Context(), t, 0); err != nil {
				t.Fatal(err)
			}
			b.want(t, c.want)
			if b.sink.begins < c.begins {
				t.Errorf("%d transfers, want %d", b.sink.begins, c.begins)
			}
		})
	}
}

func TestDownloadFails(t *testing.T) {
	content := uritest.Content(1 << 20)
	for name, c := range map[string]struct {
		answer func(n int, w http.ResponseWriter, r *http.Request)
		want   error
		says   string
		most   int // requests
	}{
		"never progresses":    {func(_ int, w http.ResponseWriter, r *http.Request) { cut(w, r, content, `"1"`, 0) }, containerizer.ErrUnavailable, "", 5},
		"breaks at one place": {func(_ int, w http.ResponseWriter, r *http.Request) { cut(w, r, content, "", 1000) }, containerizer.ErrUnavailable, "1000", 7},
		"stays away":          {func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, containerizer.ErrUnavailable, "502", 5},
		"lies about the range": {func(n int, w http.ResponseWriter, r *http.Request) {
			if n == 1 {
				cut(w, r, content, `"1"`, 1000)
			}
			w.Header().Set("Content-Range", "bytes 0-9/10")
			w.WriteHeader(http.StatusPartialContent)
		}, containerizer.ErrUnavailable, "bytes 0-9/10", 2},
		"is too large": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(1<<40))
		}, containerizer.ErrResourceExhausted, "1099511627776", 1},
		"never ends": {func(_ int, w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(content); err != nil {
					return
				}
			}
		}, containerizer.ErrResourceExhausted, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, c.answer)
			b.sink.most = 5 << 20
			_, err := b.download(t.Context(), t, 0)
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("error %v, want %v with %q", err, c.want, c.says)
			}
			if strings.Contains(fmt.Sprint(err), "secret") {
				t.Errorf("the error tells a secret: %v", err)
			}
			if len(b.requests) > c.most {
				t.Errorf("%d requests, want at most %d", len(b.requests), c.most)
			}
		})
	}
}

func TestStall(t *testing.T) {
	content := uritest.Content(1 << 20)
	hang := func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done() // until the client gives up
	}
	t.Run("once", func(t *testing.T) {
		b := newBench(t, func(n int, w http.ResponseWriter, r *http.Request) {
			if n > 1 {
				cut(w, r, content, `"1"`, len(content))
				return
			}
			w.Header().Set("ETag", `"1"`)
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			_, _ = w.Write(content[:1000])
			hang(w, r)
		})
		if _, err := b.download(t.Context(), t, 200*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		b.want(t, content)
	})
	t.Run("before the answer", func(t *testing.T) {
		b := newBench(t, func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		if _, err := b.download(t.Context(), t, 50*time.Millisecond); !errors.Is(err, containerizer.ErrUnavailable) || !strings.Contains(err.Error(), "nothing came for 50ms") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := newBench(t, func(_ int, w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(content)
			cancel()
			hang(w, r)
		})
		if _, err := b.download(ctx, t, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// A download goes on with what an earlier process left, and is whole.
func TestResume(t *testing.T) {
	content := uritest.Content(1 << 20)
	b := newBench(t, func(_ int, w http.ResponseWriter, r *http.Request) { cut(w, r, content, `"1"`, len(content)) })
	if err := os.WriteFile(b.sink.path, content[:400_000], 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(b.sink.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // it is read by its name
	b.sink.file = f
	if err := b.part.Resume(f); err != nil {
		t.Fatal(err)
	}
	r := uritest.Request(t, b.URL+"/x")
	r.Version = `etag "1"`
	if _, err := new(uri.Downloader).Download(t.Context(), web.New(web.Options{}), r, b.part, nil); err != nil {
		t.Fatal(err)
	}
	b.want(t, content)
	if got := b.requests[0].Get("Range"); got != "bytes=400000-" {
		t.Errorf("the range %q was asked for", got)
	}
}

func TestNotModified(t *testing.T) {
	b := newBench(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != `"1"` {
			t.Errorf("condition %q", r.Header.Get("If-None-Match"))
		}
		w.WriteHeader(http.StatusNotModified)
	})
	r := uritest.Request(t, b.URL+"/x")
	r.Version = `etag "1"`
	out, err := new(uri.Downloader).Download(t.Context(), web.New(web.Options{}), r, b.part, nil)
	if err != nil || !out.NotModified || b.sink.begins != 0 {
		t.Errorf("%+v, %v, %d transfers", out, err, b.sink.begins)
	}
}

func TestCheck(t *testing.T) {
	content := []byte("content")
	for _, c := range []struct {
		want digest.Digest
		err  error
	}{
		{"", nil},
		{digest.SHA256.FromBytes(content), nil},
		{digest.SHA512.FromBytes(content), nil},
		{digest.SHA256.FromBytes(nil), containerizer.ErrDataCorrupt},
		{digest.SHA512.FromBytes(nil), containerizer.ErrDataCorrupt},
	} {
		b := newBench(t, func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) })
		b.part = uri.NewPart(&b.sink, c.want)
		if _, err := b.download(t.Context(), t, 0); err != nil {
			t.Fatal(err)
		}
		if err := b.part.Check("it", c.want); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.want, err, c.err)
		}
	}
}
