package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/test/vm/internal/plan"
)

// enterImage makes the image folder of the ramdisk the root. It is bound onto
// itself first: the ramdisk's own mount has no parent, and pivot_root(2), which
// containers use, refuses to work below it.
func enterImage() error {
	if err := unix.Mount(plan.ImageDir, plan.ImageDir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", plan.ImageDir, err)
	}
	if err := unix.Chdir(plan.ImageDir); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move %s to /: %w", plan.ImageDir, err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
	}
	return nil
}

func mountBasics() error {
	const restricted = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	for _, m := range []mount{
		{"proc", "/proc", "proc", restricted, ""},
		{"sysfs", "/sys", "sysfs", restricted, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"securityfs", "/sys/kernel/security", "securityfs", restricted, ""},
		{"bpf", "/sys/fs/bpf", "bpf", restricted, "mode=700"},
	} {
		if err := m.do(); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/tmp", "/var/tmp"} { // no mounts: files may have come with the image
		if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
			return err
		}
	}
	// As systemd leaves it: containers must cope with a shared root.
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share /: %w", err)
	}
	for link, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2",
	} {
		if err := os.Symlink(target, link); err != nil {
			return err
		}
	}
	return os.WriteFile("/proc/sys/kernel/hostname", []byte("berth-vm\n"), 0o644)
}

// mountCgroups makes the layout called name. On v2 all controllers are enabled
// for children of the root, and we move out of it, as systemd does.
func mountCgroups(name string) error {
	const flags = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	const root = "/sys/fs/cgroup"
	if name == plan.CgroupV2 {
		if err := (mount{"cgroup2", root, "cgroup2", flags, "nsdelegate"}).do(); err != nil {
			return err
		}
		return enableAll(root)
	}
	if err := (mount{"tmpfs", root, "tmpfs", flags, "mode=755"}).do(); err != nil {
		return err
	}
	names, err := controllersV1()
	if err != nil {
		return err
	}
	for _, c := range names {
		if err := (mount{"cgroup", filepath.Join(root, c), "cgroup", flags, c}).do(); err != nil {
			return err
		}
	}
	if err := (mount{"cgroup", root + "/systemd", "cgroup", flags, "none,name=systemd"}).do(); err != nil {
		return err
	}
	if name == plan.CgroupHybrid {
		return mount{"cgroup2", root + "/unified", "cgroup2", flags, "nsdelegate"}.do()
	}
	return nil
}

func enableAll(root string) error {
	text, err := os.ReadFile(root + "/cgroup.controllers")
	if err != nil {
		return err
	}
	for c := range strings.FieldsSeq(string(text)) {
		if err := os.WriteFile(root+"/cgroup.subtree_control", []byte("+"+c), 0o644); err != nil {
			return fmt.Errorf("enable cgroup controller %s: %w", c, err)
		}
	}
	if err := os.Mkdir(root+"/init.scope", 0o755); err != nil {
		return err
	}
	return os.WriteFile(root+"/init.scope/cgroup.procs", []byte("1"), 0o644)
}

// controllersV1 reads the controllers that can be mounted, from a table of
// "name hierarchy number-of-cgroups enabled".
func controllersV1() ([]string, error) {
	text, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 4 && !strings.HasPrefix(f[0], "#") && f[3] == "1" {
			names = append(names, f[0])
		}
	}
	return names, nil
}
