package provisioner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner"
)

// wantClean checks that nothing is visible or left over in a store.
func wantClean(t *testing.T, p *provisioner.Provisioner, root string) {
	t.Helper()
	// A record that a killed process was writing goes once it is old.
	files, _ := filepath.Glob(filepath.Join(root, "stage", "file-*"))
	for _, f := range files {
		if err := os.Chtimes(f, time.Now(), time.Now().Add(-2*time.Hour)); err != nil {
			t.Error(err)
		}
	}
	if err := p.Sweep(t.Context()); err != nil {
		t.Errorf("sweep: %v", err)
	}
	for _, dir := range []string{"stage", "leases", "ingest", "trash", "pending"} {
		wantEmpty(t, filepath.Join(root, dir))
	}
	if r := check(t, p, false); len(r.Found)+len(r.Left) > 0 {
		t.Errorf("check: %q, left over: %q", r.Found, r.Left)
	}
}

func TestPullRefusesWrongContent(t *testing.T) {
	broken := func(change func([]byte) []byte) func(v1.Descriptor, io.Reader) io.Reader {
		return func(d v1.Descriptor, r io.Reader) io.Reader {
			if d.MediaType != v1.MediaTypeImageLayerGzip {
				return r
			}
			b, _ := io.ReadAll(r)
			return bytes.NewReader(change(bytes.Clone(b)))
		}
	}
	for name, tt := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"other bytes": {func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "the content has the digest"},
		"too short":   {func(b []byte) []byte { return b[:len(b)-1] }, "the manifest says"},
		"too long":    {func(b []byte) []byte { return append(b, 0) }, "the manifest says"},
		"empty":       {func([]byte) []byte { return nil }, "0 bytes came"},
		"other layer": {func([]byte) []byte { return gzipped([]byte("x")) }, "bytes came"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeFetcher()
			f.image("app", layerTar(t, "f a "+strings.Repeat("content", 500)))
			f.wrap = broken(tt.change)
			p, root := newStore(t, f)
			_, err := p.Pull(t.Context(), source("app"), containerizer.PullOptions{})
			if !errors.Is(err, containerizer.ErrDataCorrupt) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			wantClean(t, p, root)
			wantEmpty(t, filepath.Join(root, "layers"))
			wantEmpty(t, filepath.Join(root, "oci", "blobs", "sha256"))
			f.wrap = nil
			if _, err := p.Pull(t.Context(), source("app"), containerizer.PullOptions{}); err != nil {
				t.Errorf("pull again: %v", err)
			}
		})
	}
}

func TestPullRefusesWrongDiffID(t *testing.T) {
	f := newFakeFetcher()
	good, evil := layerTar(t, "f a good"), layerTar(t, "f a evil")
	f.image("victim", good)
	// An image that says its layer is the victim's, and sends another.
	config := v1.Image{RootFS: v1.RootFS{Type: "layers", DiffIDs: []digestOf{fromBytes(good)}}}
	m := v1.Manifest{Config: f.putJSON(v1.MediaTypeImageConfig, config), Layers: []v1.Descriptor{f.put(v1.MediaTypeImageLayerGzip, gzipped(evil))}}
	m.SchemaVersion = 2
	f.names["evil"] = f.putJSON(v1.MediaTypeImageManifest, m)
	p, root := newStore(t, f)
	if _, err := p.Pull(t.Context(), source("evil"), containerizer.PullOptions{}); !errors.Is(err, containerizer.ErrDataCorrupt) || !strings.Contains(err.Error(), "diffID") {
		t.Errorf("error %v", err)
	}
	wantClean(t, p, root)
	got, err := p.Provision(t.Context(), "c", source("victim"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(mountRootfs(t, got.Rootfs), "a")); string(b) != "good" {
		t.Errorf("the victim has %q, %v", b, err)
	}
}

func TestFullDisk(t *testing.T) {
	needRoot(t)
	// A file system of its own, attached to nothing but this test's directory.
	mnt := t.TempDir()
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=2m,mode=700"); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f := newFakeFetcher()
	f.image("small", layerTar(t, "f a 1"))
	f.image("big", layerTar(t, "f a "+strings.Repeat("x", 8<<20)))
	root := filepath.Join(mnt, "store")
	p := open(t, root, f, backends()["copy"])
	if _, err := p.Provision(t.Context(), "c", source("small")); err != nil {
		t.Fatal(err)
	}
	_, err := p.Pull(t.Context(), source("big"), containerizer.PullOptions{})
	if !errors.Is(err, containerizer.ErrResourceExhausted) {
		t.Errorf("error %v", err)
	}
	images, err := p.List(t.Context())
	if err != nil || len(images) != 1 {
		t.Errorf("%d images, %v", len(images), err)
	}
	// Fill the rest: giving up must work all the same.
	filler, err := os.Create(filepath.Join(mnt, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(filler, io.LimitReader(zeros{}, 4<<20)); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	_ = filler.Close()
	if err := p.Destroy(t.Context(), "c"); err != nil {
		t.Errorf("destroy on a full disk: %v", err)
	}
	if _, err := p.Remove(t.Context(), "small", false); err != nil {
		t.Errorf("remove on a full disk: %v", err)
	}
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	wantClean(t, p, root)
	wantEmpty(t, filepath.Join(root, "layers"))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestManyAtOnce has goroutines over several stores objects on one directory, as
// several processes are.
func TestManyAtOnce(t *testing.T) {
	f := newFakeFetcher()
	shared := layerTar(t, "f shared 1")
	for n := range 4 {
		f.image(fmt.Sprint("app", n), shared, layerTar(t, fmt.Sprintf("f own%d 1", n)))
	}
	first, root := newStore(t, f)
	var g errgroup.Group
	for n := range 24 {
		g.Go(func() error {
			p := first
			if n%2 == 1 {
				p = open(t, root, f)
			}
			cid := id(fmt.Sprint("c", n))
			if _, err := p.Provision(context.Background(), cid, source(fmt.Sprint("app", n%4))); err != nil {
				return err
			}
			if n%3 == 0 {
				if _, err := p.Prune(context.Background(), containerizer.PruneOptions{All: true}); err != nil {
					return err
				}
			}
			return p.Destroy(context.Background(), cid)
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	wantEmpty(t, filepath.Join(root, "containers"))
	wantClean(t, first, root)
}

func TestOneDownloadPerLayer(t *testing.T) {
	f := newFakeFetcher()
	d := f.image("app", layerTar(t, "f a 1"))
	p, _ := newStore(t, f)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := p.Pull(context.Background(), source("app"), containerizer.PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for dgst, n := range f.opens {
		if b := f.blobs[dgst]; dgst != d.Digest && bytes.HasPrefix(b, []byte{0x1f, 0x8b}) && n != 1 {
			t.Errorf("layer %s was fetched %d times", dgst, n)
		}
	}
}

// slowReader gives its content in small pieces, so that there is time to be killed.
type slowReader struct{ r io.Reader }

func (s slowReader) Read(p []byte) (int, error) {
	return s.r.Read(p[:min(len(p), 2048)])
}

const killedEnv = "BERTH_TEST_PULL_STORE"

// TestPullForKill is the process that TestKill kills.
func TestPullForKill(t *testing.T) {
	root := os.Getenv(killedEnv)
	if root == "" {
		t.Skip("runs within TestKill only")
	}
	f := killImage(t)
	p := open(t, root, f)
	fmt.Println("pulling")
	if _, err := p.Pull(t.Context(), source("app"), containerizer.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("pulled")
}

func killImage(t *testing.T) *fakeFetcher {
	t.Helper()
	f := newFakeFetcher()
	var layers [][]byte
	for n := range 4 {
		var entries []string
		for i := range 200 {
			entries = append(entries, fmt.Sprintf("f d%d/f%d content %d", n, i, i))
		}
		layers = append(layers, layerTar(t, entries...))
	}
	f.image("app", layers...)
	f.wrap = func(_ v1.Descriptor, r io.Reader) io.Reader { return slowReader{r} }
	return f
}

// TestKill ends a pulling process at many points. What it leaves is invisible and
// is swept, and the next pull finishes.
func TestKill(t *testing.T) {
	needRoot(t)
	f := killImage(t)
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	for n := range rounds {
		root := filepath.Join(t.TempDir(), "store")
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPullForKill$", "-test.v")
		cmd.Env = append(os.Environ(), killedEnv+"="+root, "GORACE=atexit_sleep_ms=0")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		for seen := ""; !strings.Contains(seen, "pulling"); {
			k, err := out.Read(buf)
			if err != nil {
				t.Fatalf("the pulling process said %q: %v", seen, err)
			}
			seen += string(buf[:k])
		}
		time.Sleep(time.Duration(n*n) * time.Millisecond) // the point of the kill, not a synchronisation
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait() // it was killed
		p := open(t, root, f)
		if r := check(t, p, false); len(r.Found) > 0 {
			t.Errorf("round %d: right after the kill: %q", n, r.Found)
		}
		got, err := p.Provision(t.Context(), "c", source("app"))
		if err != nil {
			t.Fatalf("round %d: %v", n, err)
		}
		if files := shown(t, mountRootfs(t, got.Rootfs)); len(files) != 1+4*201 {
			t.Errorf("round %d: %d files", n, len(files))
		}
		wantClean(t, p, root)
	}
}

func TestAnotherBoot(t *testing.T) {
	f := newFakeFetcher()
	f.image("app", layerTar(t, "f a 1"))
	p, root := newStore(t, f)
	if _, err := p.Provision(t.Context(), "c", source("app")); err != nil {
		t.Fatal(err)
	}
	// The node goes down before anything was made durable.
	age := func() {
		for _, pattern := range []string{"images/*.json", "layers/*/meta.json", "containers/*/*.json"} {
			files, _ := filepath.Glob(filepath.Join(root, pattern))
			for _, name := range files {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
				b = bytes.ReplaceAll(b, bytes.TrimSpace(boot), []byte("another-boot"))
				if err := os.WriteFile(name, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	age()
	p = open(t, root, f)
	never := containerizer.ImageSource{Reference: "app", Pull: containerizer.PullNever}
	if _, err := p.Provision(t.Context(), "d", never); !errors.Is(err, containerizer.ErrDataCorrupt) {
		t.Errorf("an image that may not be on disk was used: %v", err)
	}
	if _, err := p.Provision(t.Context(), "d", source("app")); err != nil {
		t.Errorf("it is not pulled again: %v", err)
	}
	// What was flushed is trusted, the volatile writable layer is not.
	src := source("app")
	src.Durable = true
	got, err := p.Provision(t.Context(), "e", src)
	if err != nil {
		t.Fatal(err)
	}
	for cid, name := range map[string]string{"d": "d", "e": "e"} {
		if err := os.WriteFile(filepath.Join(root, "containers", cid, "upper", "file"), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got.Rootfs.Volatile {
		t.Error("a durable writable layer is volatile")
	}
	if err := p.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	age()
	p = open(t, root, f)
	if _, err := p.Provision(t.Context(), "d", source("app")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Provision(t.Context(), "e", src); err != nil {
		t.Fatal(err)
	}
	for cid, want := range map[string]bool{"d": false, "e": true} {
		_, err := os.Lstat(filepath.Join(root, "containers", cid, "upper", "file"))
		if (err == nil) != want {
			t.Errorf("container %s: file kept %v, want %v", cid, err == nil, want)
		}
	}
	if _, err := p.Provision(t.Context(), "n", never); err != nil {
		t.Errorf("a durable image is not trusted: %v", err)
	}
}
