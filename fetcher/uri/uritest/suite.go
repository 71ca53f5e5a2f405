package uritest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
)

// Subject is a scheme with an origin that has what a test puts there.
type Subject struct {
	Scheme uri.Scheme
	// Put makes content available by a name, in place of what was there, and returns
	// its URI. The version of the content changes.
	Put func(t *testing.T, name string, content []byte) string
	// Missing is the URI of what is not there.
	Missing string
	// Resumes says that the scheme goes on at an offset.
	Resumes bool
	// Secret is in URIs and must be in no error.
	Secret string
}

// Content is size bytes that look like nothing.
func Content(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

// Request parses a URI.
func Request(t *testing.T, s string) uri.Request {
	t.Helper()
	r, err := uri.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return uri.Request{Reference: r}
}

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	t.Helper()
	for _, n := range s.Scheme.Names() {
		if n == "" || n != strings.ToLower(n) || strings.ContainsAny(n, ":/") {
			t.Errorf("the scheme is called %q", n)
		}
	}
	t.Run("content", s.content)
	t.Run("version", s.version)
	t.Run("offset", s.offset)
	t.Run("missing", s.missing)
	t.Run("cancelled", s.cancelled)
	t.Run("at once", s.atOnce)
}

func (s Subject) open(t *testing.T, r uri.Request) *uri.Response {
	t.Helper()
	resp, err := s.Scheme.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.NotModified != (resp.Body == nil) {
		t.Fatalf("not modified %v, and body %v", resp.NotModified, resp.Body)
	}
	if strings.ContainsAny(resp.Version, "\r\n\x00") {
		t.Errorf("the version is %q", resp.Version)
	}
	if resp.Body != nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp
}

func all(t *testing.T, r *uri.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

func (s Subject) content(t *testing.T) {
	for name, content := range map[string][]byte{
		"empty": {}, "small": []byte("small"), "large": Content(3<<20 + 17), "a b+c%ü.x": []byte("name"),
	} {
		t.Run(name, func(t *testing.T) {
			resp := s.open(t, Request(t, s.Put(t, name, content)))
			if resp.Offset != 0 || resp.Size >= 0 && resp.Size != int64(len(content)) {
				t.Errorf("offset %d, size %d", resp.Offset, resp.Size)
			}
			if got := all(t, resp); !bytes.Equal(got, content) {
				t.Errorf("%d bytes come, not the %d that are there", len(got), len(content))
			}
		})
	}
}

func (s Subject) version(t *testing.T) {
	r := Request(t, s.Put(t, "versioned", []byte("first")))
	first := s.open(t, r)
	_ = all(t, first)
	if first.Version == "" {
		t.Fatal("the content has no version")
	}
	r.Version = first.Version
	if again := s.open(t, r); !again.NotModified {
		t.Errorf("version %q is current, and %q comes", first.Version, all(t, again))
	}
	s.Put(t, "versioned", []byte("second"))
	second := s.open(t, r)
	if second.NotModified {
		t.Fatal("another content is called not modified")
	}
	if second.Version == first.Version {
		t.Error("another content has the same version")
	}
	if diff := cmp.Diff("second", string(all(t, second))); diff != "" {
		t.Error(diff)
	}
}

func (s Subject) offset(t *testing.T) {
	content := Content(100_000)
	r := Request(t, s.Put(t, "long", content))
	whole := s.open(t, r)
	_ = all(t, whole)
	for _, offset := range []int64{1, 50_000, 99_999} {
		r.Offset, r.Version = offset, whole.Version
		resp := s.open(t, r)
		if resp.NotModified {
			t.Fatalf("from %d on it is called not modified", offset)
		}
		if resp.Offset != offset && (s.Resumes || resp.Offset != 0) {
			t.Errorf("from %d on is answered from %d on", offset, resp.Offset)
		}
		if got := all(t, resp); !bytes.Equal(got, content[resp.Offset:]) {
			t.Errorf("from %d on come %d bytes, want %d", resp.Offset, len(got), len(content)-int(resp.Offset))
		}
	}
	s.Put(t, "long", content[:1000])
	for _, version := range []string{whole.Version, "", "no such version"} {
		r.Offset, r.Version = 50_000, version
		resp := s.open(t, r)
		if resp.Offset != 0 {
			t.Errorf("it goes on at %d with other content, for version %q", resp.Offset, version)
		}
		if got := all(t, resp); !bytes.Equal(got, content[:1000]) {
			t.Errorf("%d bytes come, want 1000", len(got))
		}
	}
}

func (s Subject) missing(t *testing.T) {
	_, err := s.Scheme.Open(t.Context(), Request(t, s.Missing))
	if !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	if s.Secret != "" && strings.Contains(err.Error(), s.Secret) {
		t.Errorf("the error tells a secret: %v", err)
	}
}

func (s Subject) cancelled(t *testing.T) {
	r := Request(t, s.Put(t, "endless", Content(8<<20)))
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := s.Scheme.Open(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was given up
	if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, isFile := resp.Body.(*os.File); isFile { // reading it never waits
		return
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("a body can be read to its end after it was cancelled")
	}
	if _, err := s.Scheme.Open(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("opening after that: %v", err)
	}
}

func (s Subject) atOnce(t *testing.T) {
	content := Content(200_000)
	r := Request(t, s.Put(t, "shared", content))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			resp, err := s.Scheme.Open(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close() //nolint:errcheck // read only
			if b, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(b, content) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
		})
	}
	wg.Wait()
}
