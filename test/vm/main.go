package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/test/vm/internal/plan"
)

const (
	exitTimeout = 124
	exitMachine = 125
)

// options are what the command line can ask for.
type options struct {
	plan        plan.Plan
	files       []string
	programs    []string
	kernel      string
	modulesDir  string
	memoryMiB   int
	diskMiB     int
	diskImage   string
	cut         time.Duration
	cpus        int
	timeout     time.Duration
	accelerator string
	verbose     bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(exitMachine)
	}
	status, err := run(ctx, o)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Fprintf(os.Stderr, "vm: %v (the time was up after %s)\n", err, o.timeout)
		os.Exit(exitTimeout)
	case err != nil:
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(exitMachine)
	}
	os.Exit(status)
}

func parse(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("vm", flag.ExitOnError)
	f.Usage = func() {
		_, _ = fmt.Fprintln(f.Output(), "usage: vm [flags] PROGRAM [ARG...]")
		f.PrintDefaults()
	}
	list := func(to *[]string) func(string) error {
		return func(s string) error {
			*to = append(*to, s)
			return nil
		}
	}
	f.Func("file", "copy `SRC[:DST]`, a file or a folder, into the machine (repeatable)", list(&o.files))
	f.Func("program", "copy the program `NAME` with its shared libraries (repeatable)", list(&o.programs))
	f.Func("env", "set `KEY=VALUE` for the program (repeatable)", list(&o.plan.Env))
	f.StringVar(&o.plan.Dir, "dir", "/root", "working `directory` of the program")
	f.StringVar(&o.plan.Cgroup, "cgroup", plan.CgroupV2, "cgroup `layout`: v2, v1 or hybrid")
	f.StringVar(&o.kernel, "kernel", "", "kernel `image` instead of Debian's")
	f.StringVar(&o.modulesDir, "modules-dir", "", "the `folder` of modules that belongs to -kernel")
	f.IntVar(&o.memoryMiB, "memory", 2048, "memory in `MiB`")
	f.IntVar(&o.diskMiB, "disk", 0, "put an ext4 filesystem of so many `MiB` on /disk and make it TMPDIR")
	f.StringVar(&o.diskImage, "disk-image", "", "the `file` with that filesystem, which is made if it is missing, and kept")
	f.DurationVar(&o.cut, "cut", 0, "cut the power this `time` after the program has printed the line \""+cutLine+"\"; that is success")
	f.IntVar(&o.cpus, "cpus", 2, "`number` of processors")
	f.StringVar(&o.accelerator, "accel", "tcg", "qemu's `accelerator`: tcg emulates anywhere, kvm is faster where it works")
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "give up after this `time`")
	f.BoolVar(&o.verbose, "v", false, "show the kernel's console on standard error")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	o.plan.Args = f.Args()
	if o.diskMiB > 0 {
		o.plan.Disk = true
		o.plan.Env = append([]string{"TMPDIR=" + plan.DiskDir}, o.plan.Env...)
	}
	switch {
	case len(o.plan.Args) == 0:
		f.Usage()
		return nil, errors.New("no program to run")
	case !strings.Contains(plan.CgroupV1+plan.CgroupV2+plan.CgroupHybrid, o.plan.Cgroup) || o.plan.Cgroup == "":
		return nil, fmt.Errorf("cgroup layout %q: choose v2, v1 or hybrid", o.plan.Cgroup)
	case (o.kernel == "") != (o.modulesDir == ""):
		return nil, errors.New("-kernel and -modules-dir go together")
	}
	return o, nil
}

// makeDisk makes a sparse file with a filesystem; none for a size of 0, or where it is.
func makeDisk(ctx context.Context, path string, sizeMiB int) error {
	if sizeMiB == 0 {
		return nil
	}
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	mkfs := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", path, strconv.Itoa(sizeMiB)+"M")
	if _, err := mkfs.Output(); err != nil {
		return fmt.Errorf("mkfs.ext4 (of the package e2fsprogs): %w", explain(err))
	}
	return nil
}

// run makes the machine, runs it, and returns the program's exit status.
func run(ctx context.Context, o *options) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	kernel := &kernel{Image: o.kernel, ModulesDir: o.modulesDir}
	if o.kernel == "" {
		var err error
		if kernel, err = debianKernel(ctx); err != nil {
			return 0, err
		}
	}
	dir, err := os.MkdirTemp("", "berth-vm-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory; nothing depends on it
	ramdisk := dir + "/initramfs"
	if err := buildRamdisk(ctx, ramdisk, kernel, o); err != nil {
		return 0, fmt.Errorf("build the machine's ramdisk: %w", err)
	}
	if o.diskImage == "" {
		o.diskImage = filepath.Join(dir, "disk")
	}
	if err := makeDisk(ctx, o.diskImage, o.diskMiB); err != nil {
		return 0, fmt.Errorf("make the machine's disk: %w", err)
	}
	m := &machine{dir: dir, kernel: kernel.Image, ramdisk: ramdisk, options: o}
	return m.run(ctx)
}
