package provisioner_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner"
)

const (
	stressEnv    = "BERTH_TEST_STRESS" // "STORE WORKER SEED MILLISECONDS"
	stressImages = 6
	stressPinned = "pinned"
)

// stressFetcher has images that share layers, and a name that stands for another one
// in every other process.
func stressFetcher(t *testing.T, worker int) *fakeFetcher {
	t.Helper()
	f := newFakeFetcher()
	layer := func(n int) []byte {
		return layerTar(t, fmt.Sprintf("f l%d %s", n, randomContent(uint64(n), 100_000)), fmt.Sprintf("f d%d/x %d", n, n), "f .wh.gone ")
	}
	for n := range stressImages {
		f.image(fmt.Sprint("app", n), layer(n%2), layer(10+n%3), layer(20+n))
	}
	f.image(stressPinned, layer(0), layer(30+worker%2))
	return f
}

// stressOptions have marks that the images together are beyond.
func stressOptions(o *provisioner.Options) {
	o.Pressure, o.Log = provisioner.Pressure{High: 12, Low: 6}, nil
}

// TestStressWorker is one of the processes of TestStress.
func TestStressWorker(t *testing.T) {
	var root string
	var worker, seed, ms int
	if n, _ := fmt.Sscan(os.Getenv(stressEnv), &root, &worker, &seed, &ms); n != 4 {
		t.Skip("runs within TestStress only")
	}
	w := &stressWorker{
		t: t, p: open(t, root, stressFetcher(t, worker), stressOptions), r: rand.New(rand.NewPCG(uint64(seed), uint64(worker))), worker: worker,
	}
	if worker == 0 {
		w.pin()
	}
	for end := time.Now().Add(time.Duration(ms) * time.Millisecond); time.Now().Before(end) && !t.Failed(); w.n++ {
		w.step()
	}
	t.Logf("%d steps", w.n)
}

type stressWorker struct {
	t         *testing.T
	p         *provisioner.Provisioner
	r         *rand.Rand
	worker, n int
}

// pin pins the name that the others pull again and again.
func (w *stressWorker) pin() {
	_, err := w.p.Pull(w.t.Context(), source(stressPinned), containerizer.PullOptions{})
	w.may("pull", err)
	w.may("pin", w.p.Pin(w.t.Context(), stressPinned, true))
}

// may ends the worker at an error that is none of those allowed.
func (w *stressWorker) may(what string, err error, allowed ...error) {
	w.t.Helper()
	for _, a := range allowed {
		if errors.Is(err, a) {
			return
		}
	}
	if err != nil {
		w.t.Fatalf("worker %d, step %d: %s: %v", w.worker, w.n, what, err)
	}
}

func (w *stressWorker) step() {
	ctx, p := w.t.Context(), w.p
	name := fmt.Sprint("app", w.r.IntN(stressImages))
	gone, held := containerizer.ErrNotFound, containerizer.ErrFailedPrecondition
	switch w.r.IntN(12) {
	case 0, 1, 2:
		w.container(name)
	case 3, 4:
		_, err := p.Pull(ctx, containerizer.ImageSource{Reference: name, Pull: containerizer.PullAlways}, containerizer.PullOptions{})
		w.may("pull", err, gone) // somebody may remove it before it is shown
	case 5:
		_, err := p.Pull(ctx, containerizer.ImageSource{Reference: stressPinned, Pull: containerizer.PullAlways}, containerizer.PullOptions{})
		w.may("pull", err, gone)
		if w.worker == 0 {
			i, err := p.Inspect(ctx, stressPinned)
			w.may("inspect", err)
			if !i.Pinned {
				w.t.Fatalf("step %d: the pin was lost", w.n)
			}
		}
	case 6:
		_, err := p.Remove(ctx, name, w.r.IntN(4) == 0)
		w.may("remove", err, gone, held)
	case 7:
		_, err := p.Prune(ctx, containerizer.PruneOptions{All: w.r.IntN(2) == 0})
		w.may("prune", err)
	case 8:
		w.may("tag", p.Tag(ctx, name, "tag"), gone)
	case 9:
		w.may("pin", p.Pin(ctx, name, w.r.IntN(2) == 0), gone)
	case 10:
		w.may("sweep", p.Sweep(ctx))
	case 11:
		r, err := p.Check(ctx, false)
		w.may("check", err)
		if len(r.Found) > 0 {
			w.t.Fatalf("step %d: check finds %q", w.n, r.Found)
		}
	}
}

// container provisions, looks at all of its files several times, and gives up.
func (w *stressWorker) container(image string) {
	cid := id(fmt.Sprintf("c-%d-%d-%d", w.worker, os.Getpid(), w.n))
	got, err := w.p.Provision(w.t.Context(), cid, source(image))
	w.may("provision", err)
	for range 1 + w.r.IntN(3) {
		for _, dir := range got.Rootfs.Lower {
			files, _ := filepath.Glob(filepath.Join(dir, "l*"))
			if len(files) != 1 {
				w.t.Fatalf("step %d: container %s has lost its layer %s: %q", w.n, cid, dir, files)
			}
			number, _ := strconv.Atoi(filepath.Base(files[0])[1:])
			b, err := os.ReadFile(files[0])
			if err != nil || string(b) != randomContent(uint64(number), 100_000) {
				w.t.Fatalf("step %d: container %s: %s has %d bytes, %v", w.n, cid, files[0], len(b), err)
			}
		}
		if w.r.IntN(3) == 0 {
			w.may("sweep", w.p.Sweep(w.t.Context()))
		}
	}
	w.may("destroy", w.p.Destroy(w.t.Context(), cid))
}

// TestStress has several processes pull, run, pin, tag, remove, prune, check and make
// room in one store, some of which are killed: nobody ever loses what it relies on, the
// store is whole at any time and at the end, and all space comes back.
func TestStress(t *testing.T) {
	needRoot(t)
	// Marks are percents of a file system of its own: its images are beyond them.
	mnt := smallDisk(t, 24)
	root := filepath.Join(mnt, "store")
	length := 8 * time.Second
	if testing.Short() {
		length = 2 * time.Second
	}
	seed := int(time.Now().UnixNano() % 1e9)
	t.Logf("seed %d", seed)
	var group sync.WaitGroup
	for worker := range 5 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(uint64(seed), uint64(100+worker)))
			for end := time.Now().Add(length); time.Now().Before(end) && !t.Failed(); {
				left := time.Until(end)
				kill := worker > 2 // the others live to the end
				stressProcess(t, root, worker, r.IntN(1e9), left, kill, time.Duration(r.Int64N(int64(length/3))))
			}
		})
	}
	group.Wait()
	p := open(t, root, stressFetcher(t, 0), func(o *provisioner.Options) { o.Log = nil })
	if r := check(t, p, false); len(r.Found) > 0 {
		t.Errorf("at the end check finds %q", r.Found)
	}
	if _, err := p.Recover(t.Context(), nil); err != nil { // containers of the killed
		t.Error(err)
	}
	list, err := p.List(t.Context())
	must(t, err)
	for _, i := range list {
		if _, err := p.Remove(t.Context(), string(i.Manifest), true); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.Prune(t.Context(), containerizer.PruneOptions{All: true}); err != nil {
		t.Error(err)
	}
	wantClean(t, p, root)
	for _, dir := range []string{"layers", "images", "refs", "origins", "containers", "oci/blobs/sha256"} {
		wantEmpty(t, filepath.Join(root, dir))
	}
	var st unix.Statfs_t
	must(t, unix.Statfs(mnt, &st))
	if used := int64(st.Blocks-st.Bfree) * st.Bsize; used > 128<<10 {
		t.Errorf("%d bytes are still in use", used)
	}
}

func stressProcess(t *testing.T, root string, worker, seed int, left time.Duration, kill bool, after time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStressWorker$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d %d", stressEnv, root, worker, seed, left.Milliseconds()), "GORACE=atexit_sleep_ms=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	if kill {
		time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // the moment is the point; it may have ended
	}
	err := cmd.Wait()
	status, _ := cmd.ProcessState.Sys().(interface{ Signaled() bool })
	if err != nil && (!kill || !status.Signaled()) {
		t.Errorf("worker %d: %v\n%s", worker, err, &out)
	} else if !kill {
		t.Logf("worker %d: %s", worker, bytes.TrimSpace(out.Bytes()))
	}
}
