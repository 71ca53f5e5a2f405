package apply

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const probeArg = "probe-confinement"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == probeArg {
		os.Exit(probe())
	}
	os.Exit(m.Run())
}

// probe confines itself as the child does, and tries what it must not be able to do.
func probe() int {
	root, err := confine(3)
	if err != nil {
		_, _ = os.Stderr.WriteString(err.Error())
		return 1
	}
	got := map[string]string{}
	try := func(name string, f func() error) {
		got[name] = "done"
		if err := f(); err != nil {
			got[name] = err.Error()
		}
	}
	try("make a file", func() error { return closing(unix.Openat(root, "f", unix.O_CREAT|unix.O_WRONLY, 0o666)) })
	try("chown", func() error { return unix.Fchownat(root, "f", 7, 7, 0) })
	try("make a whiteout", func() error { return unix.Mknodat(root, "w", unix.S_IFCHR, 0) })
	try("open the host's files", func() error { return closing(unix.Open("/etc/passwd", unix.O_RDONLY, 0)) })
	try("open above the root", func() error { return closing(unix.Openat(root, "../../../../etc/passwd", unix.O_RDONLY, 0)) })
	try("open proc", func() error { return closing(unix.Open("/proc/self/status", unix.O_RDONLY, 0)) })
	try("open a device", func() error {
		if err := unix.Mknodat(root, "null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
			return err
		}
		return closing(unix.Openat(root, "null", unix.O_RDONLY, 0))
	})
	try("make a socket", func() error { return closing(unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)) })
	try("execute", func() error { return unix.Exec("/bin/true", []string{"true"}, nil) })
	try("mount", func() error { return unix.Mount("none", "/", "tmpfs", 0, "") })
	try("chroot", func() error { return unix.Chroot("/") })
	try("change directory", func() error { return unix.Chdir("/") })
	try("trace", func() error { return unix.PtraceAttach(1) })
	try("kill", func() error { return unix.Kill(1, 0) })
	try("fork", func() error {
		_, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
	try("make a namespace", func() error { return unix.Unshare(unix.CLONE_NEWUSER) })
	try("become another user", func() error { return unix.Setuid(1) })
	anonymous := func(size, kind int) error {
		b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|kind)
		if err != nil {
			return err
		}
		return unix.Munmap(b)
	}
	try("share memory", func() error { return anonymous(4096, unix.MAP_SHARED) })
	try("have memory", func() error { return anonymous(64<<20, unix.MAP_PRIVATE) })
	try("have more memory than allowed", func() error { return anonymous(2*memoryLimit, unix.MAP_PRIVATE) })
	b, err := json.Marshal(got)
	if err != nil {
		return 1
	}
	if err := writeAll(1, b); err != nil {
		return 1
	}
	return 0
}

func closing(fd int, err error) error {
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func TestConfinement(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: layers keep their owners")
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, probeArg)
	cmd.Dir = dir.Name()
	cmd.ExtraFiles = []*os.File{dir}
	cmd.Env = []string{"GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	var got map[string]string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	const refused, missing = "operation not permitted", "no such file or directory"
	want := map[string]string{
		"make a file": "done", "chown": "done", "make a whiteout": "done",
		"open the host's files": missing, "open above the root": missing, "open proc": missing, "open a device": "permission denied",
		"make a socket": refused, "execute": refused, "mount": refused, "chroot": refused, "change directory": refused, "trace": refused,
		"share memory": refused, "have memory": "done", "have more memory than allowed": "cannot allocate memory",
		"kill": refused, "fork": refused, "make a namespace": refused, "become another user": refused,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the confined process (-want +got):\n%s", diff)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), dir.Name()) {
		t.Errorf("the target is in the host's mount table: %v", err)
	}
}

// TestCapabilities runs without cgo, as berth is built: with it capabilities can
// be dropped in one thread only.
func TestCapabilities(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: layers keep their owners")
	}
	if os.Getenv("BERTH_TEST_CAPABILITIES") == "" {
		cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-run=^TestCapabilities$", ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "BERTH_TEST_CAPABILITIES=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	if err := dropCapabilities(); err != nil {
		t.Fatal(err)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			if set, ok := strings.CutPrefix(line, "CapEff:\t"); ok && strings.TrimSpace(set) != "000000008800001b" {
				t.Errorf("thread %s has the capabilities %s", task.Name(), set)
			}
		}
	}
}
