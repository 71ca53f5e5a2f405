package provisioner_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner"
	"github.com/berth-dev/berth/provisioner/manifest"
)

// fakeFetcher serves images from memory. Names are taken as they are.
type fakeFetcher struct {
	mu    sync.Mutex
	blobs map[digest.Digest][]byte
	names map[string]v1.Descriptor
	opens map[digest.Digest]int
	// labels are those of images made from now on.
	labels map[string]string
	// down, when set, says that nothing answers.
	down bool
	// wrap, when set, replaces the reader of a blob.
	wrap func(d v1.Descriptor, r io.Reader) io.Reader
	// ranges makes origins that can begin in the middle; offsets are where they did.
	ranges  bool
	offsets []int64
	// connects counts connections.
	connects int
}

func newFakeFetcher() *fakeFetcher {
	return &fakeFetcher{blobs: map[digest.Digest][]byte{}, names: map[string]v1.Descriptor{}, opens: map[digest.Digest]int{}}
}

func (f *fakeFetcher) Name(ref string) (string, bool, error) {
	if ref == "" || strings.Contains(ref, " ") {
		return "", false, fmt.Errorf("name %q: %w", ref, containerizer.ErrInvalid)
	}
	return ref, strings.HasPrefix(ref, "local:"), nil
}

func (f *fakeFetcher) Contents(context.Context, string) ([]containerizer.ArchivedImage, error) {
	return nil, containerizer.ErrUnsupported
}

func (f *fakeFetcher) Connect(_ context.Context, name string, _ *containerizer.RegistryAuth) (containerizer.ImageOrigin, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.connects++
	if f.ranges {
		return &rangeOrigin{fakeOrigin{f, name}}, nil
	}
	return &fakeOrigin{f, name}, nil
}

type rangeOrigin struct{ fakeOrigin }

func (o *rangeOrigin) OpenAt(ctx context.Context, d v1.Descriptor, offset int64) (io.ReadCloser, error) {
	r, err := o.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	o.f.mu.Lock()
	o.f.offsets = append(o.f.offsets, offset)
	o.f.mu.Unlock()
	_, err = io.CopyN(io.Discard, r, offset)
	return r, err
}

type fakeOrigin struct {
	f    *fakeFetcher
	name string
}

func (o *fakeOrigin) Close() error { return nil }

func (o *fakeOrigin) Resolve(context.Context) (v1.Descriptor, []byte, error) {
	o.f.mu.Lock()
	defer o.f.mu.Unlock()
	if o.f.down {
		return v1.Descriptor{}, nil, fmt.Errorf("resolve %q: %w", o.name, containerizer.ErrUnavailable)
	}
	name, byDigest, _ := strings.Cut(o.name, "@")
	d, ok := o.f.names[name]
	if b, there := o.f.blobs[digest.Digest(byDigest)]; there { // as a registry, whatever the tag is by now
		return v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.Digest(byDigest), Size: int64(len(b))}, b, nil
	}
	if !ok {
		return d, nil, fmt.Errorf("resolve %q: %w", o.name, containerizer.ErrNotFound)
	}
	return d, o.f.blobs[d.Digest], nil
}

func (o *fakeOrigin) Open(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	o.f.mu.Lock()
	defer o.f.mu.Unlock()
	if o.f.down {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, containerizer.ErrUnavailable)
	}
	o.f.opens[d.Digest]++
	b, ok := o.f.blobs[d.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, containerizer.ErrNotFound)
	}
	var r io.Reader = bytes.NewReader(b)
	if o.f.wrap != nil {
		r = o.f.wrap(d, r)
	}
	return io.NopCloser(r), nil
}

func (f *fakeFetcher) put(mediaType string, b []byte) v1.Descriptor {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	f.blobs[d.Digest] = b
	return d
}

func (f *fakeFetcher) putJSON(mediaType string, v any) v1.Descriptor {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return f.put(mediaType, b)
}

// image adds an image of layers (plain tars, stored as gzip) under name.
func (f *fakeFetcher) image(name string, layers ...[]byte) v1.Descriptor {
	d := f.build(manifest.Host(), layers...)
	f.names[name] = d
	return d
}

func (f *fakeFetcher) build(p v1.Platform, layers ...[]byte) v1.Descriptor {
	config := v1.Image{Platform: p, Config: v1.ImageConfig{Cmd: []string{"/bin/sh"}, Env: []string{"A=b"}, Labels: f.labels}, RootFS: v1.RootFS{Type: "layers"}}
	m := v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.FromBytes(l))
		m.Layers = append(m.Layers, f.put(v1.MediaTypeImageLayerGzip, gzipped(l)))
	}
	m.Config = f.putJSON(v1.MediaTypeImageConfig, config)
	return f.putJSON(v1.MediaTypeImageManifest, m)
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	if err := errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// entry is a file of a layer in short: "d name mode", "f name content",
// "l name target" (symbolic), "h name target" (hard).
func layerTar(tb testing.TB, entries ...string) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		part := append(strings.SplitN(e, " ", 3), "", "")
		h := &tar.Header{Name: part[1], Mode: 0o644, ModTime: time.Unix(1_500_000_000, 0), Format: tar.FormatPAX}
		content := ""
		switch part[0] {
		case "d":
			h.Typeflag = tar.TypeDir
			if _, err := fmt.Sscanf(part[2], "%o", &h.Mode); err != nil {
				tb.Fatalf("entry %q: %v", e, err)
			}
		case "f":
			h.Typeflag, content = tar.TypeReg, part[2]
			h.Size = int64(len(content))
		case "l":
			h.Typeflag, h.Linkname = tar.TypeSymlink, part[2]
		case "h":
			h.Typeflag, h.Linkname = tar.TypeLink, part[2]
		default:
			tb.Fatalf("entry %q", e)
		}
		if err := w.WriteHeader(h); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("needs root: layers keep their owners")
	}
}

// newStore returns a provisioner over a new store.
func newStore(t *testing.T, f containerizer.Fetcher, change ...func(*provisioner.Options)) (*provisioner.Provisioner, string) {
	t.Helper()
	needRoot(t)
	root := filepath.Join(t.TempDir(), "store")
	return open(t, root, f, change...), root
}

func open(tb testing.TB, root string, f containerizer.Fetcher, change ...func(*provisioner.Options)) *provisioner.Provisioner {
	tb.Helper()
	o := provisioner.Options{UnpackCommand: unpackCommand(), Log: log.New(zaptest.NewLogger(tb).Core())}
	for _, c := range change {
		c(&o)
	}
	p, err := provisioner.New(root, f, o)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// mountRootfs mounts an overlay detached and returns a path to its root.
func mountRootfs(t *testing.T, r *containerizer.Rootfs) string {
	t.Helper()
	if r.Path != "" {
		return r.Path
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatalf("fsopen: %v", err)
	}
	defer func() { _ = unix.Close(fs) }()
	short := func(path string) string {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatalf("open %q: %v", path, err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		return fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	var lower []string
	for _, l := range r.Lower {
		lower = append(lower, short(l))
	}
	set := func(key, value string) {
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			t.Fatalf("fsconfig %s=%s: %v", key, value, err)
		}
	}
	for _, l := range lower {
		set("lowerdir+", l)
	}
	if r.Upper != "" {
		set("upperdir", short(r.Upper))
		set("workdir", short(r.Work))
		if r.Volatile {
			if err := unix.FsconfigSetFlag(fs, "volatile"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatalf("fsconfig create: %v", err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("fsmount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(mnt) })
	return fmt.Sprintf("/proc/self/fd/%d/.", mnt)
}

// shown lists a tree: path, mode, and content or target.
func shown(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v", rel, info.Mode())
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(b)
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		out = append(out, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func source(ref string) containerizer.ImageSource { return containerizer.ImageSource{Reference: ref} }

func id(s string) containerizer.ContainerID { return containerizer.ContainerID(s) }
