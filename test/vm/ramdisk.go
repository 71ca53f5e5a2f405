package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/berth-dev/berth/test/vm/internal/plan"
)

// buildRamdisk writes the initial ramdisk of a run to path.
func buildRamdisk(ctx context.Context, path string, k *kernel, o *options) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	defer func() {
		for _, finish := range []func() error{buffered.Flush, f.Close} {
			if failed := finish(); err == nil {
				err = failed
			}
		}
	}()
	t := newTree(buffered)
	for _, fill := range []func() error{
		func() error { return addGuest(ctx, t, filepath.Dir(path)) },
		func() error { return addSystem(ctx, t) },
		func() error { return addModules(t, k.ModulesDir) },
		func() error { return addRequested(ctx, t, o) },
	} {
		if err := fill(); err != nil {
			return err
		}
	}
	return t.close()
}

// addGuest builds our process 1 and puts it where the kernel looks for it.
func addGuest(ctx context.Context, t *tree, dir string) error {
	const pkg = "github.com/berth-dev/berth/test/vm/guest"
	binary := filepath.Join(dir, "guest")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if _, err := build.Output(); err != nil {
		return fmt.Errorf("build %s: %w", pkg, explain(err))
	}
	if err := t.outside("init", binary); err != nil {
		return err
	}
	if err := t.file(plan.GuestPath, binary); err != nil {
		return err
	}
	return t.symlink("/sbin/modprobe", plan.GuestPath)
}

// addSystem makes a small system around busybox.
func addSystem(ctx context.Context, t *tree) error {
	for _, d := range []string{
		"/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/bin", "/sbin", "/usr/bin", "/usr/sbin", "/etc",
		"/home", "/mnt", "/opt", "/srv", "/var/lib", "/var/log", "/var/tmp",
	} {
		if err := t.mkdir(d); err != nil {
			return err
		}
	}
	for path, text := range map[string]string{
		"/etc/passwd":      "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
		"/etc/group":       "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
		"/etc/hosts":       "127.0.0.1 localhost\n::1 localhost\n",
		"/etc/hostname":    "berth-vm\n",
		"/etc/resolv.conf": "",
		"/etc/subuid":      "root:100000:1000000\n",
		"/etc/subgid":      "root:100000:1000000\n",
		"/etc/os-release":  "ID=berth-vm\nPRETTY_NAME=\"berth test machine\"\n",
	} {
		if err := t.bytes(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w (the package busybox-static has it)", err)
	}
	if err := t.file("/bin/busybox", busybox); err != nil {
		return err
	}
	applets, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("list the applets of %s: %w", busybox, explain(err))
	}
	for name := range strings.FieldsSeq(string(applets)) {
		if name == "busybox" || name == "modprobe" {
			continue
		}
		if err := t.symlink("/bin/"+name, "busybox"); err != nil {
			return err
		}
	}
	return nil
}

func addModules(t *tree, dir string) error {
	index, files, err := moduleIndex(dir)
	if err != nil {
		return err
	}
	for guest, host := range files {
		if err := t.file(guest, host); err != nil {
			return err
		}
	}
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return t.bytes(plan.ModulesPath, data, 0o644)
}

// addRequested adds what the command line asks for, and the plan.
func addRequested(ctx context.Context, t *tree, o *options) error {
	p := o.plan
	name := p.Args[0]
	_, isApplet := t.seen["/bin/"+name]
	switch path, err := exec.LookPath(name); {
	case isApplet:
		p.Args = append([]string{"/bin/" + name}, p.Args[1:]...)
	case err != nil && strings.HasPrefix(name, "/"):
		// It comes with a -file, or the guest will say that it is not there.
	case err != nil:
		return fmt.Errorf("program to run: %w", err)
	default:
		if path, err = filepath.Abs(path); err != nil {
			return err
		}
		p.Args = append([]string{path}, p.Args[1:]...)
		if err := t.file(path, path); err != nil {
			return err
		}
	}
	for _, f := range o.files {
		src, dst, ok := strings.Cut(f, ":")
		if !ok {
			var err error
			if dst, err = filepath.Abs(src); err != nil {
				return err
			}
		}
		if err := t.copy(dst, src); err != nil {
			return err
		}
	}
	for _, name := range o.programs {
		if err := addProgram(ctx, t, name); err != nil {
			return fmt.Errorf("program %q: %w", name, err)
		}
	}
	if err := t.mkdir(p.Dir); err != nil {
		return err
	}
	p.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb", "BERTH_VM=1",
	}, p.Env...)
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return t.bytes(plan.Path, data, 0o644)
}
