package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/test/bench/pull"
	"github.com/berth-dev/berth/test/fixtures"
)

// options of the command line.
type options struct {
	bin    string
	only   []string
	peers  []string
	rounds int

	pullFolder string
	pullRounds int
	pullImages []string
}

// bench is a prepared benchmark.
type bench struct {
	options
	dir, state string // on disk, and in memory
	payload    string
	rootfs     string // a directory with busybox
	contenders []contender
	monitors   map[string]monitored // by command name of the monitor
	versions   []string
	close      []func(context.Context) error // at the end
}

func main() {
	o, err := parse(os.Args[1:])
	if err == nil && os.Getuid() != 0 {
		err = errors.New("needs root to run containers")
	}
	if err == nil && hybrid() && os.Getenv(inNamespace) == "" {
		status, failed := rerunWithoutUnified()
		if failed == nil {
			os.Exit(status)
		}
		err = failed
	}
	if err == nil {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ExitOnError)
	f.StringVar(&o.bin, "bin", "bin", "`folder` of the berth binaries")
	only := f.String("only", "busy,idle,exec,throughput,memory,nested,pull", "`cases` to measure, with commas")
	peers := f.String("peers", "berth,berth-image,berthd,crun,runc,podman,conmon,containerd", "`contenders`, with commas; those not on the machine are left out")
	f.IntVar(&o.rounds, "rounds", 60, "`number` of busy rounds; idle ones are half as many")
	f.StringVar(&o.pullFolder, "pull-folder", ".cache/bench", "`folder` that keeps the images of the case pull")
	f.IntVar(&o.pullRounds, "pull-rounds", 3, "`number` of rounds of the case pull")
	images := f.String("pull-images", "big,many,small", "`images` of the case pull, with commas (removal is one more)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.only, o.peers, o.pullImages = strings.Split(*only, ","), strings.Split(*peers, ","), strings.Split(*images, ",")
	if o.rounds < 1 || o.pullRounds < 1 {
		return o, errors.New("-rounds and -pull-rounds must be at least 1")
	}
	return o, nil
}

func run(o options) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if os.Getenv(inNamespace) != "" {
		if err := leaveUnified(); err != nil {
			return err
		}
	}
	b := &bench{options: o, monitors: map[string]monitored{}}
	if b.dir, err = os.MkdirTemp("/var/tmp", "berth-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove(b.dir)) }()
	if b.state, err = os.MkdirTemp(memory(), "berth-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove(b.state)) }()
	if !slices.Equal(o.only, []string{"pull"}) {
		if err := b.prepare(ctx); err != nil {
			return err
		}
	}
	err = errors.Join(b.report(ctx, os.Stdout), b.pull(ctx, os.Stdout))
	for _, end := range b.close {
		err = errors.Join(err, end(context.WithoutCancel(ctx)))
	}
	return err
}

// remove removes a directory in which something may still be tidied up in the
// background, for some seconds at most.
func remove(dir string) (err error) {
	for range 50 {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// pull measures pulls, if they are asked for.
func (b *bench) pull(ctx context.Context, w io.Writer) error {
	if !slices.Contains(b.only, "pull") {
		return nil
	}
	path, err := filepath.Abs(filepath.Join(b.bin, "berth"))
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "pull")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return pull.Run(ctx, w, pull.Options{
		Berth: path, Folder: b.pullFolder, Dir: dir, Rounds: b.pullRounds, Peers: b.peers, Images: b.pullImages, Log: os.Stderr,
	})
}

// prepare makes the files to run and finds who is there to run them.
func (b *bench) prepare(ctx context.Context) error {
	var err error
	if b.payload, err = exec.LookPath("busybox"); err != nil {
		return fmt.Errorf("%w (the package busybox-static has it)", err)
	}
	files, err := fixtures.Busybox()
	if err != nil {
		return err
	}
	b.rootfs = filepath.Join(b.dir, "rootfs")
	rootfs := b.rootfs
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		return err
	}
	if err := fixtures.Write(rootfs, files); err != nil {
		return err
	}
	image, err := fixtures.BusyboxImage()
	if err != nil {
		return err
	}
	layout := filepath.Join(b.dir, "layout")
	if err := fixtures.WriteLayout(layout, "busybox", image); err != nil {
		return err
	}
	if err := b.addBerth(ctx, rootfs, layout); err != nil {
		return err
	}
	return b.addPeers(ctx, rootfs)
}

// addBerth adds berth with the same directory as the OCI runtimes get, and with an
// image.
func (b *bench) addBerth(ctx context.Context, rootfs, layout string) error {
	path, err := filepath.Abs(filepath.Join(b.bin, "berth"))
	if err != nil {
		return err
	}
	if !exists(path) {
		return fmt.Errorf("%q is not there; make build makes it", path)
	}
	b.versions = append(b.versions, versionOf(ctx, path, "--version"))
	image := "oci:" + layout + ":busybox"
	directory := &berth{name: "berth", path: path, dir: filepath.Join(b.dir, "berth"), state: filepath.Join(b.state, "berth"), source: []string{"--rootfs", rootfs}}
	if slices.Contains(b.peers, directory.name) {
		b.contenders = append(b.contenders, directory)
		b.monitors["berth-monitor"] = directory
	}
	withImage := &berth{name: "berth-image", path: path, dir: filepath.Join(b.dir, "berth-image"), state: filepath.Join(b.state, "berth-image"), source: []string{image}}
	if slices.Contains(b.peers, withImage.name) {
		b.contenders = append(b.contenders, withImage)
		if err := quietly(ctx, withImage.command("pull", image)...); err != nil {
			return err
		}
	}
	served := &berth{name: "berthd", path: path, dir: filepath.Join(b.dir, "berthd"), state: filepath.Join(b.state, "berthd"), source: []string{"--rootfs", rootfs}}
	if !slices.Contains(b.peers, served.name) {
		return nil
	}
	end, err := served.serve(ctx)
	if err == nil {
		b.contenders, b.close = append(b.contenders, served), append(b.close, end)
	}
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (b *bench) addPeers(ctx context.Context, rootfs string) error {
	var crun *ociRuntime
	for _, name := range []string{"crun", "runc"} {
		path, ok := b.peer(ctx, name)
		if !ok {
			continue
		}
		r, err := newOCIRuntime(name, path, filepath.Join(b.state, name), rootfs)
		if err != nil {
			return err
		}
		b.contenders = append(b.contenders, r)
		if name == "crun" {
			crun = r
		}
	}
	if crun == nil {
		return nil
	}
	if path, ok := b.peer(ctx, "podman"); ok {
		p := &podman{path: path, runtime: crun.path, dir: filepath.Join(b.state, "podman"), rootfs: rootfs}
		b.contenders = append(b.contenders, p)
		b.close = append(b.close, p.Close)
	}
	if path, ok := b.peer(ctx, "conmon"); ok {
		b.monitors["conmon"] = &conmon{path: path, runtime: crun, dir: filepath.Join(b.state, "conmon")}
	}
	return nil
}

// peer finds a wanted program and notes its version.
func (b *bench) peer(ctx context.Context, name string) (string, bool) {
	if !slices.Contains(b.peers, name) {
		return "", false
	}
	path, err := exec.LookPath(name)
	if err != nil {
		b.versions = append(b.versions, name+": not on this machine")
		return "", false
	}
	b.versions = append(b.versions, versionOf(ctx, path, "--version"))
	return path, true
}

// memory is a directory in memory, where everybody's state is: /run as a rule,
// which some small machines have on disk.
func memory() string {
	for _, dir := range []string{"/run", "/dev/shm"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.TMPFS_MAGIC {
			return dir
		}
	}
	return "/run"
}
