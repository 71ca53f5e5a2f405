package provisioner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner"
)

// noise does not compress.
func noise(n int) string {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < n; i += 8 {
		v := r.Uint64()
		for j := range min(8, n-i) {
			b[i+j] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[v>>(6*j)&63]
		}
	}
	return string(b)
}

// largeImage has one layer whose download can be carried on.
func largeImage(t *testing.T) *fakeFetcher {
	t.Helper()
	f := newFakeFetcher()
	f.ranges = true
	f.image("app", layerTar(t, "f a "+noise(12<<20), "f b 1"))
	return f
}

// cut ends with an error after n bytes.
type cut struct {
	r   io.Reader
	err error
}

func (c cut) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = c.err
	}
	return n, err
}

// TestCarryOn breaks a download off, changes what was left, and pulls again.
func TestCarryOn(t *testing.T) {
	needRoot(t)
	for name, c := range map[string]struct {
		change func(path string) error
		// offsets that the second pull begins at
		want string
	}{
		"as it was":                   {func(string) error { return nil }, "[5242880]"},
		"shorter":                     {func(path string) error { return os.Truncate(path, 1000) }, "[1000]"},
		"longer than the blob":        {func(path string) error { return os.Truncate(path, 1<<30) }, "[]"},
		"zeros, as after a power cut": {func(path string) error { return os.WriteFile(path, make([]byte, 5<<20), 0o600) }, "[]"},
		"one bit": {func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[3<<20] ^= 1
			return os.WriteFile(path, b, 0o600)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := largeImage(t)
			p, root := newStore(t, f)
			lost := fmt.Errorf("the line is down: %w", containerizer.ErrUnavailable)
			f.wrap = func(d v1.Descriptor, r io.Reader) io.Reader {
				if d.Size > 5<<20 {
					return cut{io.LimitReader(r, 5<<20), lost}
				}
				return r
			}
			if _, err := p.Pull(t.Context(), source("app"), containerizer.PullOptions{}); !errors.Is(err, containerizer.ErrUnavailable) {
				t.Fatalf("pull over a broken line: %v", err)
			}
			if err := p.Sweep(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := c.change(one(t, root, "ingest/part-*")); err != nil {
				t.Fatal(err)
			}
			f.wrap = nil
			got, err := p.Provision(t.Context(), "c", source("app"))
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(mountRootfs(t, got.Rootfs), "a"))
			if err != nil || !bytes.Equal(b, []byte(noise(12<<20))) {
				t.Errorf("the file has %d bytes, %v", len(b), err)
			}
			if offsets := fmt.Sprint(f.offsets); c.want != "" && offsets != c.want && (c.want != "[]" || len(f.offsets) > 1) {
				t.Errorf("it was carried on at %s, want %s", offsets, c.want)
			}
			wantClean(t, p, root)
		})
	}
}

const carryEnv = "BERTH_TEST_CARRY_STORE"

// TestPullForCarryOn is the process that TestKillAndCarryOn kills.
func TestPullForCarryOn(t *testing.T) {
	root := os.Getenv(carryEnv)
	if root == "" {
		t.Skip("runs within TestKillAndCarryOn only")
	}
	f := largeImage(t)
	f.wrap = func(d v1.Descriptor, r io.Reader) io.Reader {
		if d.Size < 5<<20 {
			return r
		}
		return io.MultiReader(io.LimitReader(r, 6<<20), hang{})
	}
	_, err := open(t, root, f).Pull(t.Context(), source("app"), containerizer.PullOptions{})
	t.Fatal(err)
}

// hang is a server that says nothing any more.
type hang struct{}

func (hang) Read([]byte) (int, error) {
	fmt.Println("hanging")
	select {}
}

func TestKillAndCarryOn(t *testing.T) {
	needRoot(t)
	f := largeImage(t)
	root := filepath.Join(t.TempDir(), "store")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPullForCarryOn$", "-test.v")
	cmd.Env = append(os.Environ(), carryEnv+"="+root, "GORACE=atexit_sleep_ms=0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	for buf := make([]byte, 4096); !strings.Contains(seen.String(), "hanging"); {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("the pulling process said %q: %v", seen.String(), err)
		}
		seen.Write(buf[:n])
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	p := open(t, root, f)
	if err := p.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Pull(t.Context(), source("app"), containerizer.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(f.offsets) != 1 || f.offsets[0] != 6<<20 {
		t.Errorf("the download was carried on at %d", f.offsets)
	}
	wantClean(t, p, root)
}

// TestByDigestAsksNobody pulls what is here by its digest.
func TestByDigestAsksNobody(t *testing.T) {
	f := newFakeFetcher()
	d := f.image("app", layerTar(t, "f a 1"))
	name := "app@" + string(d.Digest)
	f.names[name] = d
	p, _ := newStore(t, f)
	for range 3 {
		s := source(name)
		s.Pull = containerizer.PullAlways
		if _, err := p.Pull(t.Context(), s, containerizer.PullOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if f.connects != 1 {
		t.Errorf("the registry was asked by %d pulls, want 1", f.connects)
	}
}

// TestLayersAtOnce counts the layers that two pulls of one provisioner stream at the
// same time. None ends before all places are taken, and then one at a time does: what
// begins beyond them would be counted.
func TestLayersAtOnce(t *testing.T) {
	const places = 3
	f := newFakeFetcher()
	now, most, left := 0, 0, 10
	full := sync.NewCond(&f.mu)
	f.wrap = func(d v1.Descriptor, r io.Reader) io.Reader {
		if d.MediaType != v1.MediaTypeImageLayerGzip {
			return r
		}
		now++ // under the fetcher's lock
		most = max(most, now)
		full.Broadcast()
		return &last{r: r, done: func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			for now < min(places, left) {
				full.Wait()
			}
			now--
			left--
			full.Broadcast()
		}}
	}
	for n := range 2 {
		var layers [][]byte
		for l := range 5 {
			layers = append(layers, layerTar(t, fmt.Sprintf("f a%d%d 1", n, l)))
		}
		f.image(fmt.Sprint("app", n), layers...)
	}
	p, _ := newStore(t, f, func(o *provisioner.Options) { o.Parallel = places })
	failed := make(chan error)
	for n := range 2 {
		go func() {
			_, err := p.Pull(context.Background(), source(fmt.Sprint("app", n)), containerizer.PullOptions{})
			failed <- err
		}()
	}
	for range 2 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if most != places || left != 0 {
		t.Errorf("%d layers at once, want %d; %d have not come", most, places, left)
	}
}

// last says when a reader has ended.
type last struct {
	r    io.Reader
	done func()
}

func (l *last) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if err != nil && l.done != nil {
		l.done()
		l.done = nil
	}
	return n, err
}

// TestFullDiskAnywhere pulls into file systems of all sizes up to what is needed:
// the error says what it is, nothing is visible, and the space is given back.
func TestFullDiskAnywhere(t *testing.T) {
	needRoot(t)
	f := newFakeFetcher()
	f.ranges = true
	var entries []string
	for n := range 40 {
		entries = append(entries, fmt.Sprintf("f d%d/f%d content", n, n))
	}
	f.image("app", layerTar(t, append(entries, "f a "+noise(6<<20))...), layerTar(t, "f b "+noise(1<<20)))
	const steps, least = 24, 128 << 10
	enough := false
	for n := 1; n <= steps && !enough; n++ {
		for _, options := range []string{fmt.Sprintf("size=%d", least+n*(20<<20)/steps), fmt.Sprintf("nr_inodes=%d", 20+n*8)} {
			done := fullDisk(t, f, options)
			enough = enough || done && strings.HasPrefix(options, "size")
		}
	}
	if !enough {
		t.Error("no file system was large enough")
	}
}

// fullDisk tells whether the pull succeeded.
func fullDisk(t *testing.T, f *fakeFetcher, options string) bool {
	t.Helper()
	mnt := t.TempDir()
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "mode=700,"+options); err != nil {
		t.Fatalf("mount: %v", err)
	}
	defer func() { _ = unix.Unmount(mnt, unix.MNT_DETACH) }()
	root := filepath.Join(mnt, "store")
	p := open(t, root, f, backends()["copy"])
	if err := p.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := p.Pull(t.Context(), source("app"), containerizer.PullOptions{})
	if err == nil {
		return true
	}
	if !errors.Is(err, containerizer.ErrResourceExhausted) || !errors.Is(err, unix.ENOSPC) && !strings.Contains(err.Error(), "no space left") {
		t.Errorf("%s: error %v", options, err)
	}
	if images, err := p.List(t.Context()); err != nil || len(images) != 0 {
		t.Errorf("%s: %d images, %v", options, len(images), err)
	}
	if _, err := os.Stat(root); err != nil {
		return false // not even the store found room
	}
	if _, err := p.Prune(t.Context(), containerizer.PruneOptions{All: true}); err != nil {
		t.Errorf("%s: prune: %v", options, err)
	}
	wantClean(t, p, root)
	var st unix.Statfs_t
	if err := unix.Statfs(mnt, &st); err != nil {
		t.Fatal(err)
	}
	if used := int64(st.Blocks-st.Bfree) * st.Bsize; used > 64<<10 {
		t.Errorf("%s: %d bytes are still in use", options, used)
	}
	return false
}
