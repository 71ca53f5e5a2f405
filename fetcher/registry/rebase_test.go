package registry_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	memory "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/fetcher/registry"
)

// TestPushOverridePath has a registry whose API begins at another path, and says so
// in the locations that it names or not.
func TestPushOverridePath(t *testing.T) {
	for _, c := range []struct{ base, location string }{
		{"", ""}, {"/mirrors/hub", ""}, {"/mirrors/hub", "/mirrors/hub"}, {"/v2/mirror", "/v2/mirror"}, {"/v2/mirror", "/v2"}, {"/v2/mirror", "absolute"},
	} {
		t.Run(c.base+" "+c.location, func(t *testing.T) {
			inner := memory.New(memory.Logger(log.New(io.Discard, "", 0)))
			var mu sync.Mutex
			var wrong []string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rest, ok := strings.CutPrefix(r.URL.Path, c.base+"/")
				if !ok || r.Header.Get("X-Team") != "builds" {
					mu.Lock()
					wrong = append(wrong, r.Method+" "+r.URL.Path)
					mu.Unlock()
				}
				r.URL.Path = "/v2/" + rest
				inner.ServeHTTP(&located{w, r.Host, c.location, c.base}, r)
			}))
			t.Cleanup(s.Close)
			dir := certs(t, fmt.Sprintf("server = \"%s%s\"\noverride_path = true\n[header]\nx-team = \"builds\"", s.URL, c.base))
			cl := client(registry.Options{Dirs: []string{dir}})
			ref := parse(t, upstream+"/org/app:1")
			d, err := cl.Push(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			content := []byte("a blob")
			blob := v1.Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: digest.FromBytes(content), Size: int64(len(content))}
			if err := d.PutBlob(t.Context(), blob, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }); err != nil {
				t.Fatal(err)
			}
			raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[]}`, v1.MediaTypeImageManifest, v1.MediaTypeImageConfig, blob.Digest, blob.Size)
			m := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
			if err := d.PutManifest(t.Context(), m, raw); err != nil {
				t.Fatal(err)
			}
			if err := d.Commit(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			o := connect(t, cl, ref)
			if got, _, err := o.Resolve(t.Context()); err != nil || got.Digest != m.Digest {
				t.Errorf("resolve what was pushed: %v, %v", got, err)
			}
			if got, err := read(t.Context(), o, blob); err != nil || !bytes.Equal(got, content) {
				t.Errorf("read what was pushed: %q, %v", got, err)
			}
			if len(wrong) > 0 {
				t.Errorf("wrong requests: %q", wrong)
			}
		})
	}
}

// located changes the location that a registry names for the rest of an upload.
type located struct {
	http.ResponseWriter
	host, how, base string
}

func (l *located) WriteHeader(status int) {
	if to, ok := strings.CutPrefix(l.Header().Get("Location"), "/v2"); ok {
		switch l.how {
		case "absolute":
			l.Header().Set("Location", "http://"+l.host+l.base+to)
		case "":
			l.Header().Set("Location", l.base+to)
		default:
			l.Header().Set("Location", l.how+to)
		}
	}
	l.ResponseWriter.WriteHeader(status)
}
