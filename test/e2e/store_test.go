package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/fetcher/registry/registrytest"
	"github.com/berth-dev/berth/test/fixtures"
)

// storeImage is busybox, a layer of many small files, and one of some megabytes that
// do not compress.
func storeImage(t *testing.T) ggcr.Image {
	t.Helper()
	busybox, err := fixtures.BusyboxImage()
	need(t, err == nil, "an image of busybox: %v", err)
	var small []fixtures.File
	for i := range 300 {
		small = append(small, fixtures.File{Path: fmt.Sprintf("small/%d/%d", i%20, i), Mode: 0o644, Data: fmt.Appendf(nil, "%d\n", i)})
	}
	many, err := fixtures.Layer(small...)
	if err != nil {
		t.Fatal(err)
	}
	big, err := fixtures.Layer(fixtures.File{Path: "big", Mode: 0o644, Data: registrytest.Random(5 << 20)})
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(busybox, many, big)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// publish puts an image into a registry.
func publish(t *testing.T, s *registrytest.Server, repository string, image ggcr.Image) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	layers, err := image.Layers()
	must(err)
	for _, l := range layers {
		r, err := l.Compressed()
		must(err)
		b, err := io.ReadAll(r)
		must(errors.Join(err, r.Close()))
		s.Blob("", b)
	}
	config, err := image.RawConfigFile()
	must(err)
	s.Blob("", config)
	raw, err := image.RawManifest()
	must(err)
	mediaType, err := image.MediaType()
	must(err)
	s.Manifest(repository, "1", string(mediaType), raw)
}

// slowly is a registry on a network of about 30 MB/s, so that there is time in the
// middle of everything.
func slowly(_ *registrytest.Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	serve(paced{w}, r)
}

type paced struct{ http.ResponseWriter }

func (p paced) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		time.Sleep(time.Millisecond) // the network
		var m int
		m, err = p.ResponseWriter.Write(b[n:min(len(b), n+32<<10)])
		n += m
	}
	return n, err
}

// killing is a command that is killed at random points.
type killing struct {
	rounds  int
	args    []string
	before  func()              // each round
	whole   func() string       // what the finished command must have done; "" if it has
	damaged func(string) string // what of check's findings is not meant; nil: all
}

// TestKilledImageCommands kills commands that bring images, at points all over their
// time: the store is whole right after, the next command finishes, and nothing is left.
func TestKilledImageCommands(t *testing.T) {
	need(t, os.Getuid() == 0, "running containers needs root")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	server := registrytest.New(t)
	publish(t, server, "app", storeImage(t))
	server.On(registrytest.Blobs, slowly)
	n := bareNode(t, t.TempDir())
	t.Cleanup(n.clear)
	n.image = server.Host() + "/app:1"
	dir := t.TempDir()
	archive, rootfs, copied := filepath.Join(dir, "app.tar"), filepath.Join(dir, "rootfs.tar"), filepath.Join(dir, "copy.tar")
	n.must("pull", "-q", n.image)
	n.must("save", "-o", archive, n.image)
	writeTar(t, rootfs)

	runs := func(image string) func() string {
		return func() string {
			r := n.berth("run", "--rm", "--pull", "never", image, "sh", "-c", "wc -c </big")
			return unless(r.code == 0 && strings.TrimSpace(r.stdout) == fmt.Sprint(5<<20), fmt.Sprintf("%+v", r))
		}
	}
	remove := func(image string) func() { return func() { n.berth("rmi", "-f", image) } }
	target := startRegistry(t, dir) + "/app:1"
	for _, tt := range []struct {
		name string
		killing
	}{
		{"pull", killing{rounds: 20, args: []string{"pull", "-q", n.image}, before: func() {}, whole: runs(n.image)}},
		{"load", killing{rounds: 8, args: []string{"load", "-q", "-i", archive}, before: remove(n.image), whole: runs(n.image)}},
		{"import", killing{rounds: 8, args: []string{"import", "-q", rootfs, "imported:1"}, before: remove("imported:1"), whole: func() string {
			there := strings.Contains(n.must("images"), "imported")
			n.must("rmi", "imported:1")
			return unless(there, "it is not there")
		}}},
		{"copy", killing{rounds: 8, args: []string{"copy", "-q", n.image, "oci-archive:" + copied + ":app"}, before: func() {}, whole: func() string {
			n.berth("rmi", "-f", n.image)
			n.must("pull", "-q", "oci-archive:"+copied+":app")
			return runs("oci-archive:" + copied + ":app")()
		}}},
		{"push", killing{rounds: 8, args: []string{"push", "-q", n.image, target}, before: func() { n.must("pull", "-q", n.image) }, whole: func() string {
			n.must("pull", "-q", target)
			return runs(target)()
		}}},
		{"repair", killing{rounds: 8, args: []string{"system", "check", "--repair"}, before: func() { n.damage() }, whole: runs(n.image), damaged: func(line string) string {
			return unless(strings.Contains(line, "layer") || strings.Contains(line, "image") || strings.Contains(line, "name"), line)
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n.t = t
			n.killAll(random, &tt.killing)
		})
		n.t = t
	}
}

// killAll kills a command again and again, and lets the last one finish.
func (n *node) killAll(random *rand.Rand, k *killing) {
	n.t.Helper()
	k.before()
	begun := time.Now()
	n.must(k.args...)
	length := time.Since(begun)
	n.berth("rmi", "-f", n.image) // so that there is something to do for a pull
	killed, first := 0, length
	for range k.rounds {
		k.before()
		cmd := n.command(n.t.Context(), k.args...)
		if err := cmd.Start(); err != nil {
			n.t.Fatal(err)
		}
		time.Sleep(time.Duration(random.Int64N(int64(length)))) // the moment is the point
		_ = cmd.Process.Kill()                                  // it may have ended
		if err := cmd.Wait(); err != nil {
			killed++
		} else {
			length = max(length*3/4, time.Millisecond) // it has less to do than the first one
		}
		r := n.berth("system", "check")
		for line := range strings.Lines(r.stdout) {
			if found, ok := strings.CutPrefix(line, "found: "); ok && (k.damaged == nil || k.damaged(found) != "") {
				n.t.Errorf("right after a kill: %s", line)
			}
		}
		if k.damaged == nil && r.code != 0 {
			n.t.Errorf("right after a kill: %+v", r)
		}
	}
	if killed == 0 {
		n.t.Error("none was killed in time")
	}
	n.t.Logf("%d of %d killed in %s to %s", killed, k.rounds, length, first)
	k.before()
	n.must(k.args...)
	if wrong := k.whole(); wrong != "" {
		n.t.Error(wrong)
	}
	n.must("system", "check", "--repair")
	n.must("system", "sweep")
	if got := n.must("system", "check"); got != "nothing found" {
		n.t.Errorf("in the end check says %q", got)
	}
	eventually(n.t, func() string { // a sweeper that a command of before has started may be at it
		var left []string
		for _, dir := range []string{"stage", "leases", "trash", "pending"} {
			found, _ := filepath.Glob(filepath.Join(n.storeDir(), dir, "*"))
			left = append(left, found...)
		}
		return unless(len(left) == 0, fmt.Sprintf("left is %q", left))
	})
}

// storeDir is the image store of a node.
func (n *node) storeDir() string {
	n.t.Helper()
	found, err := filepath.Glob(filepath.Join(n.dir, "root", "*", "oci", "oci-layout"))
	if err != nil || len(found) != 1 {
		n.t.Fatalf("image stores %q, %v", found, err)
	}
	return filepath.Dir(filepath.Dir(found[0]))
}

// damage changes a file of a layer of the node's image, and takes the blob away that
// it could be made of.
func (n *node) damage() {
	n.t.Helper()
	n.must("pull", "-q", n.image)
	found, _ := filepath.Glob(filepath.Join(n.storeDir(), "layers", "*", "fs", "big"))
	blobs, _ := filepath.Glob(filepath.Join(n.storeDir(), "oci", "blobs", "sha256", "*"))
	if len(found) == 0 {
		n.t.Fatal("no layer to damage")
	}
	for _, f := range found {
		if err := os.WriteFile(f, registrytest.Random(5<<20), 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	for _, b := range blobs {
		if info, err := os.Stat(b); err == nil && info.Size() > 5<<20 {
			if err := os.Remove(b); err != nil {
				n.t.Fatal(err)
			}
		}
	}
}

// writeTar makes an archive of a root filesystem with five megabytes.
func writeTar(t *testing.T, path string) {
	t.Helper()
	files := []fixtures.File{{Path: "big", Mode: 0o644, Data: registrytest.Random(5 << 20)}}
	for i := range 100 {
		files = append(files, fixtures.File{Path: fmt.Sprintf("f%d", i), Mode: 0o644, Data: []byte("x")})
	}
	b, err := fixtures.Tar(files...)
	if err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// smallRoot mounts a file system of 48 MiB where the node keeps everything.
func (n *node) smallRoot(fstype string) {
	n.t.Helper()
	mnt := filepath.Join(n.dir, "root")
	if err := os.Mkdir(mnt, 0o700); err != nil {
		n.t.Fatal(err)
	}
	if fstype == "tmpfs" {
		if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=48m,mode=700"); err != nil {
			n.t.Fatal(err)
		}
	} else {
		disk := filepath.Join(n.dir, "disk")
		if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 48<<20)); err != nil {
			n.t.Fatal(err)
		}
		for _, c := range [][]string{{"mkfs." + fstype, "-q", "-m", "0", disk}, {"mount", "-o", "loop", disk, mnt}} {
			out, err := exec.CommandContext(n.t.Context(), c[0], c[1:]...).CombinedOutput()
			need(n.t, err == nil, "%q: %v: %s", c, err, out)
		}
	}
	n.t.Cleanup(func() { _ = unix.Unmount(mnt, unix.MNT_DETACH) })
}

// used is what the node's file system has in use.
func (n *node) used() (used, free int64) {
	n.t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Join(n.dir, "root"), &st); err != nil {
		n.t.Fatal(err)
	}
	return int64(st.Blocks-st.Bfree) * st.Frsize, int64(st.Bavail) * st.Frsize
}

// leave fills the node's file system until so many bytes are free.
func (n *node) leave(bytes int64) {
	n.t.Helper()
	filler, err := os.Create(filepath.Join(n.dir, "root", "filler"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer func() { _ = filler.Close() }()
	_, free := n.used()
	for size := free - bytes; size > 0; size -= 64 << 10 { // the file takes more than its content
		if err := unix.Fallocate(int(filler.Fd()), 0, 0, size); err == nil {
			break
		}
	}
	for size := 64 << 10; bytes == 0 && size > 0; size /= 4 { // to the last block
		b := make([]byte, size)
		for err = nil; err == nil; {
			_, err = filler.WriteAt(b, end(n.t, filler))
		}
	}
}

func end(t *testing.T, f *os.File) int64 {
	t.Helper()
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestFullDiskAnywhere has the disk full at many points of a pull, a load and an
// import: the error says so, the store is whole, all space comes back, and images can
// still be removed.
func TestFullDiskAnywhere(t *testing.T) {
	need(t, os.Getuid() == 0, "running containers needs root")
	server := registrytest.New(t)
	publish(t, server, "app", storeImage(t))
	dir := t.TempDir()
	archive, rootfs := filepath.Join(dir, "app.tar"), filepath.Join(dir, "rootfs.tar")
	writeTar(t, rootfs)
	image := server.Host() + "/app:1"
	for _, fstype := range []string{"ext4", "tmpfs"} {
		t.Run(fstype, func(t *testing.T) {
			n := bareNode(t, t.TempDir())
			t.Cleanup(n.clear)
			n.smallRoot(fstype)
			n.must("pull", "-q", image)
			n.must("save", "-o", archive, image)
			n.must("rmi", image)
			n.must("system", "check")
			n.must("system", "sweep")
			clean, _ := n.used()
			for _, args := range [][]string{{"pull", "-q", image}, {"load", "-q", "-i", archive}, {"import", "-q", rootfs, image}} {
				n.fullAnywhere(args, image, clean)
			}
			// A disk that is full to the last block.
			n.must("pull", "-q", image)
			n.leave(0)
			n.must("rmi", image)
			n.must("system", "sweep")
			_ = os.Remove(filepath.Join(n.dir, "root", "filler")) // tested by what is in use
			if now, _ := n.used(); now > clean+64<<10 {
				t.Errorf("after removing on a full disk %d bytes are in use, %d before", now, clean)
			}
		})
	}
}

func (n *node) fullAnywhere(args []string, image string, clean int64) {
	n.t.Helper()
	done := false
	for step := int64(0); step < 40 && !done; step++ {
		free := step * step << 14 // finer where the records are
		n.leave(free)
		r := n.berth(args...)
		if done = r.code == 0; !done && (r.code != 125 || !strings.Contains(r.stderr, "no space left on device")) {
			n.t.Errorf("%s with %d bytes: %+v", args[0], free, r)
		}
		if !done { // all of it is back already
			if r := n.berth("system", "check"); r.code != 0 {
				n.t.Errorf("%s with %d bytes: check: %+v", args[0], free, r)
			}
		}
		if err := os.Remove(filepath.Join(n.dir, "root", "filler")); err != nil {
			n.t.Fatal(err)
		}
		if done {
			n.must("system", "check")
			n.must("rmi", image)
			n.must("system", "sweep")
		}
		if now, _ := n.used(); now > clean+64<<10 {
			n.t.Errorf("%s with %d bytes: %d are in use afterwards, %d before", args[0], free, now, clean)
		}
	}
	if !done {
		n.t.Errorf("%s never succeeded", args[0])
	}
}
