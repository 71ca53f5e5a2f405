package provisioner_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner"
)

// randomContent is content that does not compress.
func randomContent(seed uint64, size int) string {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // content of a test
	b := make([]byte, size)
	for i := range b {
		b[i] = byte('0' + r.IntN(64))
	}
	return string(b)
}

// smallDisk mounts a file system of its own, attached to nothing but the test's
// directory.
func smallDisk(t *testing.T, mebibytes int) string {
	t.Helper()
	needRoot(t)
	mnt := t.TempDir()
	must(t, unix.Mount("tmpfs", mnt, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=700", mebibytes)))
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return mnt
}

func namesOf(t *testing.T, p *provisioner.Provisioner) []string {
	t.Helper()
	list, err := p.List(t.Context())
	must(t, err)
	var out []string
	for _, i := range list {
		out = append(out, i.References...)
	}
	slices.Sort(out)
	return out
}

// used sets when an image was used last.
func used(t *testing.T, p *provisioner.Provisioner, root, name string, ago time.Duration) {
	t.Helper()
	i, err := p.Inspect(t.Context(), name)
	must(t, err)
	must(t, os.Chtimes(filepath.Join(root, "images", i.Manifest.Encoded()+".json"), time.Now(), time.Now().Add(-ago)))
}

func TestPressure(t *testing.T) {
	const size = 2 << 20 // of a layer; with its blob an image takes nearly 4 MiB
	f := newFakeFetcher()
	for n, name := range []string{"pinned", "running", "old", "older", "recent", "next", "huge"} {
		times := 1
		if name == "huge" {
			times = 4
		}
		f.image(name, layerTar(t, "f a "+randomContent(uint64(n), times*size)))
	}
	mnt := smallDisk(t, 32)
	root := filepath.Join(mnt, "store")
	off := open(t, root, f)
	for _, name := range []string{"pinned", "running", "old", "older", "recent"} {
		_, err := off.Pull(t.Context(), source(name), containerizer.PullOptions{})
		must(t, err)
	}
	must(t, off.Sweep(t.Context()))
	must(t, off.Pin(t.Context(), "pinned", true))
	_, err := off.Provision(t.Context(), "c", source("running"))
	must(t, err)
	for name, ago := range map[string]time.Duration{"pinned": 9 * time.Hour, "running": 8 * time.Hour, "older": 7 * time.Hour, "old": 6 * time.Hour} {
		used(t, off, root, name, ago)
	}
	all := []string{"old", "older", "pinned", "recent", "running"}
	must(t, off.Sweep(t.Context()))
	if got := namesOf(t, off); !cmp.Equal(got, all) {
		t.Fatalf("without marks: %q", got)
	}
	relieved := 0
	on := open(t, root, f, func(o *provisioner.Options) {
		o.Pressure = provisioner.Pressure{High: 70, Low: 55, MinAge: time.Hour, Relieved: func(n int) { relieved += n }}
	})
	must(t, on.Sweep(t.Context()))
	if got := namesOf(t, on); !cmp.Equal(got, all) {
		t.Fatalf("below the high mark: %q", got)
	}
	// The next pull does not fit: the least recently used goes, and no more than that.
	_, err = on.Pull(t.Context(), source("next"), containerizer.PullOptions{})
	must(t, err)
	if got := namesOf(t, on); slices.Contains(got, "older") || !slices.Contains(got, "next") {
		t.Errorf("after a pull: %q", got)
	}
	// Somebody else fills the disk.
	must(t, os.WriteFile(filepath.Join(mnt, "filler"), []byte(randomContent(99, 12<<20)), 0o600))
	must(t, on.Sweep(t.Context()))
	if got := namesOf(t, on); !cmp.Equal(got, []string{"next", "pinned", "recent", "running"}) {
		t.Errorf("on a full disk the young, the pinned and the running stay: %q", got)
	}
	if relieved != 2 {
		t.Errorf("%d images were said to be removed, want 2", relieved)
	}
	if err := on.Destroy(t.Context(), "c"); err != nil {
		t.Error(err)
	}
	used(t, on, root, "running", 2*time.Hour)
	if _, err := on.Provision(t.Context(), "d", source("running")); err != nil {
		t.Error(err)
	}
	must(t, on.Destroy(t.Context(), "d"))
	must(t, on.Sweep(t.Context()))
	if got := namesOf(t, on); !slices.Contains(got, "running") {
		t.Errorf("a use is not noted: %q", got)
	}
	wantClean(t, on, root)
}

func TestPins(t *testing.T) {
	f := newFakeFetcher()
	f.image("app", layerTar(t, "f a 1"))
	p, _ := newStore(t, f)
	ctx := t.Context()
	i, err := p.Pull(ctx, source("app"), containerizer.PullOptions{})
	must(t, err)
	must(t, p.Tag(ctx, "app", "other"))
	if err := p.Pin(ctx, "none", true); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("pin what is not there: %v", err)
	}
	must(t, p.Pin(ctx, string(i.Manifest), true))
	if r, err := p.Prune(ctx, containerizer.PruneOptions{All: true}); err != nil || len(r.Images) > 0 {
		t.Errorf("prune took %+v, %v", r, err)
	}
	if _, err := p.Remove(ctx, "app", false); !errors.Is(err, containerizer.ErrFailedPrecondition) {
		t.Errorf("remove a pinned image: %v", err)
	}
	usage, err := p.Usage(ctx)
	if err != nil || usage.ReclaimableBytes != 0 {
		t.Errorf("usage %+v, %v", usage, err)
	}
	// The name stays pinned when it is pulled again and stands for something else.
	f.image("app", layerTar(t, "f a 2"))
	must(t, p.Pin(ctx, "other", false))
	if _, err = p.Pull(ctx, containerizer.ImageSource{Reference: "app", Pull: containerizer.PullAlways}, containerizer.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if r, err := p.Prune(ctx, containerizer.PruneOptions{All: true}); err != nil || !cmp.Equal(r.Images, []string{"other", string(i.Manifest)}) {
		t.Errorf("prune took %+v, %v", r, err)
	}
	must(t, p.Pin(ctx, "app", false))
	if r, err := p.Prune(ctx, containerizer.PruneOptions{All: true}); err != nil || len(r.Images) != 2 {
		t.Errorf("prune took %+v, %v", r, err)
	}
}

func TestPruneByLabel(t *testing.T) {
	f := newFakeFetcher()
	f.image("plain", layerTar(t, "f a 1"))
	for name, labels := range map[string]map[string]string{"test": {"stage": "test"}, "live": {"stage": "live"}} {
		f.labels = labels
		f.image(name, layerTar(t, "f a "+name))
	}
	for _, tt := range []struct {
		o    containerizer.PruneOptions
		left []string
	}{
		{containerizer.PruneOptions{All: true, Labels: []string{"stage=test"}}, []string{"live", "plain"}},
		{containerizer.PruneOptions{All: true, Labels: []string{"stage"}}, []string{"plain"}},
		{containerizer.PruneOptions{All: true, WithoutLabels: []string{"stage"}}, []string{"live", "test"}},
		{containerizer.PruneOptions{All: true, Labels: []string{"stage"}, WithoutLabels: []string{"stage=live"}}, []string{"live", "plain"}},
	} {
		p, _ := newStore(t, f)
		for _, name := range []string{"plain", "test", "live"} {
			_, err := p.Pull(t.Context(), source(name), containerizer.PullOptions{})
			must(t, err)
		}
		_, err := p.Prune(t.Context(), tt.o)
		must(t, err)
		if got := namesOf(t, p); !cmp.Equal(got, tt.left) {
			t.Errorf("%+v leaves %q, want %q", tt.o, got, tt.left)
		}
	}
}

// du is what the files below dirs take, counted once each.
func du(t *testing.T, dirs ...string) int64 {
	t.Helper()
	seen := map[uint64]bool{}
	var total int64
	for _, dir := range dirs {
		must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			var st unix.Stat_t
			if err = errors.Join(err, unix.Lstat(path, &st)); err == nil && !seen[st.Ino] {
				seen[st.Ino] = true
				total += st.Blocks * 512
			}
			return err
		}))
	}
	return total
}

// TestSizes compares what is told of sizes with what is on disk.
func TestSizes(t *testing.T) {
	f := newFakeFetcher()
	base := layerTar(t, "f base "+randomContent(1, 300_000), "d dir 755", "f dir/small x", "h dir/hard base", "l link dir")
	f.image("one", base, layerTar(t, "f one "+randomContent(2, 100_000)))
	f.image("two", base, layerTar(t, "f two "+randomContent(3, 50_000)))
	f.image("three", layerTar(t, "f three "+randomContent(4, 10_000)))
	p, root := newStore(t, f)
	ctx := t.Context()
	for _, name := range []string{"one", "two", "three"} {
		_, err := p.Pull(ctx, source(name), containerizer.PullOptions{})
		must(t, err)
	}
	must(t, p.Sweep(ctx))
	onDisk := func() int64 {
		t.Helper()
		var total int64
		for _, dir := range []string{"layers/*/fs/*", "oci/blobs/*/*"} {
			files, _ := filepath.Glob(filepath.Join(root, dir))
			total += du(t, files...)
		}
		return total
	}
	total := onDisk()
	usage, err := p.Usage(ctx)
	must(t, err)
	if got := usage.LayerBytes + usage.BlobBytes; got != total {
		t.Errorf("the store says %d bytes, there are %d", got, total)
	}
	if usage.ReclaimableBytes != total {
		t.Errorf("%d bytes are said to be reclaimable of %d", usage.ReclaimableBytes, total)
	}
	list, err := p.List(ctx)
	must(t, err)
	var unique, shared int64
	for _, i := range list {
		unique += i.SizeBytes - i.SharedBytes
		shared = max(shared, i.SharedBytes) // one and two share the same
	}
	if unique+shared != total {
		t.Errorf("unique %d and shared %d bytes are not %d", unique, shared, total)
	}
	for _, tt := range []struct {
		what   string
		remove func() (*containerizer.PruneReport, error)
	}{
		{"remove one", func() (*containerizer.PruneReport, error) { return p.Remove(ctx, "one", false) }},
		{"prune", func() (*containerizer.PruneReport, error) {
			return p.Prune(ctx, containerizer.PruneOptions{All: true})
		}},
	} {
		before := onDisk()
		r, err := tt.remove()
		must(t, err)
		must(t, p.Sweep(ctx))
		if freed := before - onDisk(); r.ReclaimedBytes != freed {
			t.Errorf("%s says %d bytes, %d are free", tt.what, r.ReclaimedBytes, freed)
		}
	}
	if left := onDisk(); left != 0 {
		t.Errorf("%d bytes are left", left)
	}
}

// fill writes until the last block is gone.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer func() { _ = f.Close() }()
	for _, size := range []int{1 << 20, 4096, 1} {
		b := make([]byte, size)
		for err = nil; err == nil; {
			_, err = f.Write(b)
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
	}
	must(t, f.Sync())
}

// ext4Disk mounts a small ext4 in a file.
func ext4Disk(t *testing.T) string {
	t.Helper()
	needRoot(t)
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		t.Skip("needs mkfs.ext4")
	}
	image, mnt := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	must(t, os.WriteFile(image, nil, 0o600))
	must(t, os.Truncate(image, 24<<20))
	if out, err := exec.CommandContext(t.Context(), mkfs, "-q", "-m", "0", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "mount", "-o", "loop", image, mnt).CombinedOutput(); err != nil {
		t.Skipf("no loop device: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return mnt
}

// TestDeleteOnFullDisk fills a disk to its last block, and makes room.
func TestDeleteOnFullDisk(t *testing.T) {
	for name, disk := range map[string]func(t *testing.T) string{
		"ext4":  ext4Disk,
		"tmpfs": func(t *testing.T) string { t.Helper(); return smallDisk(t, 16) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeFetcher()
			for n, name := range []string{"removed", "pruned", "used"} {
				f.image(name, layerTar(t, "f a "+randomContent(uint64(n), 1<<20), "d dir 755", "f dir/b b"))
			}
			mnt := disk(t)
			root := filepath.Join(mnt, "store")
			p := open(t, root, f)
			ctx := t.Context()
			for _, name := range []string{"removed", "pruned"} {
				_, err := p.Pull(ctx, source(name), containerizer.PullOptions{})
				must(t, err)
			}
			for _, c := range []string{"c", "d"} {
				_, err := p.Provision(ctx, id(c), source("used"))
				must(t, err)
			}
			must(t, p.Sweep(ctx))
			filler := filepath.Join(mnt, "filler")
			fill(t, filler)
			p = open(t, root, f) // as another command
			if err := p.Destroy(ctx, "c"); err != nil {
				t.Errorf("destroy on a full disk: %v", err)
			}
			if _, err := p.Remove(ctx, "removed", false); err != nil {
				t.Errorf("remove on a full disk: %v", err)
			}
			if _, err := p.Prune(ctx, containerizer.PruneOptions{All: true}); err != nil {
				t.Errorf("prune on a full disk: %v", err)
			}
			if err := p.Sweep(ctx); err != nil {
				t.Errorf("sweep on a full disk: %v", err)
			}
			if got := namesOf(t, p); !cmp.Equal(got, []string{"used"}) {
				t.Errorf("left are %q", got)
			}
			// There is room again, with the filler still there.
			if _, err := p.Pull(ctx, source("removed"), containerizer.PullOptions{}); err != nil {
				t.Errorf("pull into the room made: %v", err)
			}
			wantClean(t, p, root)
		})
	}
}

// TestPowerCut has the node go down with parts of a pull not on disk: files are there
// but empty or short, and the records are of another boot. Nothing of it is used.
func TestPowerCut(t *testing.T) {
	truncate := func(pattern string, size int64) func(t *testing.T, root string) {
		return func(t *testing.T, root string) {
			t.Helper()
			files, _ := filepath.Glob(filepath.Join(root, pattern))
			if len(files) == 0 {
				t.Fatalf("no %s", pattern)
			}
			for _, f := range files {
				must(t, os.Truncate(f, size))
			}
		}
	}
	zero := func(pattern string) func(t *testing.T, root string) {
		return func(t *testing.T, root string) {
			t.Helper()
			files, _ := filepath.Glob(filepath.Join(root, pattern))
			for _, f := range files {
				info, err := os.Stat(f)
				must(t, err)
				must(t, os.WriteFile(f, make([]byte, info.Size()), 0o600))
			}
		}
	}
	for name, lose := range map[string]func(t *testing.T, root string){
		"nothing":            func(*testing.T, string) {},
		"contents of files":  truncate("layers/*/fs/a", 0),
		"ends of files":      truncate("layers/*/fs/a", 3),
		"layer records":      truncate("layers/*/meta.json", 0),
		"half layer records": truncate("layers/*/meta.json", 20),
		"image records":      truncate("images/*.json", 0),
		"half image records": truncate("images/*.json", 20),
		"names":              truncate("refs/*.json", 0),
		"contents of blobs":  zero("oci/blobs/sha256/*"),
		"blobs":              truncate("oci/blobs/sha256/*", 0),
		"files and the blobs": func(t *testing.T, root string) {
			t.Helper()
			truncate("layers/*/fs/a", 0)(t, root)
			zero("oci/blobs/sha256/*")(t, root)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeFetcher()
			f.image("flushed", layerTar(t, "f safe 1"))
			f.image("app", layerTar(t, "f a content"), layerTar(t, "f b more"))
			p, root := newStore(t, f)
			_, err := p.Pull(t.Context(), source("app"), containerizer.PullOptions{})
			must(t, err)
			lose(t, root)
			otherBoot(t, root)
			p = open(t, root, f)
			got, err := p.Provision(t.Context(), "c", source("app"))
			if err != nil {
				t.Fatalf("after a power cut: %v", err)
			}
			want := []string{". drwxr-xr-x", "a -rw-r--r-- content", "b -rw-r--r-- more"}
			if diff := cmp.Diff(want, shown(t, mountRootfs(t, got.Rootfs))); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			must(t, p.Sweep(t.Context()))
			if r := check(t, p, true); len(r.Owed) > 0 {
				t.Errorf("repair: %+v", r)
			}
			wantClean(t, p, root)
		})
	}
}

// otherBoot makes all records ones of another boot.
func otherBoot(t *testing.T, root string) {
	t.Helper()
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must(t, err)
	for _, pattern := range []string{"images/*.json", "layers/*/meta.json", "containers/*/*.json"} {
		files, _ := filepath.Glob(filepath.Join(root, pattern))
		for _, name := range files {
			b, err := os.ReadFile(name)
			must(t, err)
			must(t, os.WriteFile(name, []byte(strings.ReplaceAll(string(b), strings.TrimSpace(string(boot)), "another-boot")), 0o600))
		}
	}
}
