package provisioner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
)

// twoSources has two sources of layers, the first liars of which send something
// else.
type twoSources struct {
	*fakeFetcher
	lie    func([]byte) []byte
	liars  int
	doubts int
	auth   *containerizer.RegistryAuth
}

func (f *twoSources) Connect(ctx context.Context, name string, auth *containerizer.RegistryAuth) (containerizer.ImageOrigin, error) {
	f.auth = auth
	o, err := f.fakeFetcher.Connect(ctx, name, auth)
	return &doubtful{o, f}, err
}

type doubtful struct {
	containerizer.ImageOrigin
	f *twoSources
}

func (o *doubtful) Open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	r, err := o.ImageOrigin.Open(ctx, d)
	if err != nil || d.MediaType != v1.MediaTypeImageLayerGzip || o.f.doubts >= o.f.liars {
		return r, err
	}
	b, err := io.ReadAll(r)
	return io.NopCloser(bytes.NewReader(o.f.lie(b))), err
}

func (o *doubtful) Doubt(v1.Descriptor) bool {
	o.f.doubts++
	return o.f.doubts < 2
}

// TestAnotherSource has layers that turn out wrong while they are unpacked, or
// afterwards.
func TestAnotherSource(t *testing.T) {
	needRoot(t)
	for name, lie := range map[string]func([]byte) []byte{
		"other bytes":  func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) },
		"another tar":  func([]byte) []byte { return gzipped(layerTar(t, "f a other")) },
		"too short":    func(b []byte) []byte { return b[:len(b)/2] },
		"more":         func(b []byte) []byte { return append(b, "more"...) },
		"last bit off": func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			f := &twoSources{fakeFetcher: newFakeFetcher(), lie: lie, liars: 1}
			f.image("x", layerTar(t, "f a content"))
			p, _ := newStore(t, f)
			if _, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: "x"}, containerizer.PullOptions{}); err != nil || f.doubts != 1 {
				t.Errorf("%v after %d doubts, want one", err, f.doubts)
			}
			if r := check(t, p, false); len(r.Found) != 0 {
				t.Errorf("the store: %q", r.Found)
			}
			f = &twoSources{fakeFetcher: newFakeFetcher(), lie: lie, liars: 2}
			f.image("x", layerTar(t, "f a content"))
			p, _ = newStore(t, f)
			if _, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: "x"}, containerizer.PullOptions{}); !errors.Is(err, containerizer.ErrDataCorrupt) {
				t.Errorf("liars only: %v", err)
			}
		})
	}
}

// TestCredentialsAreNotKept looks for a pull's credentials in everything that is
// written.
func TestCredentialsAreNotKept(t *testing.T) {
	needRoot(t)
	const secret = "s3cr3t-p4ss"
	f := &twoSources{fakeFetcher: newFakeFetcher()}
	f.image("x", layerTar(t, "f a content"))
	p, root := newStore(t, f)
	auth := &containerizer.RegistryAuth{Username: "user", Password: secret}
	source := containerizer.ImageSource{Reference: "x", Auth: auth}
	for range 2 { // the second time it is there, and compared with what was recorded
		if _, err := p.Provision(t.Context(), "c", source); err != nil {
			t.Fatal(err)
		}
		source.Auth = &containerizer.RegistryAuth{Username: "user", Password: secret}
	}
	if f.auth != auth {
		t.Error("the fetcher did not get the credentials")
	}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s has the password", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	raw, err := json.Marshal(containerizer.Spec{Image: &source})
	if err != nil || strings.Contains(string(raw), secret) || strings.Contains(string(raw), "uth") {
		t.Errorf("a spec as it is recorded: %s, %v", raw, err)
	}
}
