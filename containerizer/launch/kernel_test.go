package launch_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
	"github.com/berth-dev/berth/containerizer/launch/inputs"
	"github.com/berth-dev/berth/containerizer/launch/interp"
)

// busybox returns a static busybox of the machine.
func busybox(tb testing.TB) string {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("containers need root")
	}
	path, err := exec.LookPath("busybox")
	if err != nil {
		tb.Skip("needs busybox-static")
	}
	return path
}

// makeRootfs makes a root filesystem of busybox.
func makeRootfs(tb testing.TB) string {
	tb.Helper()
	box, err := os.ReadFile(busybox(tb))
	if err != nil {
		tb.Fatal(err)
	}
	root := filepath.Join(tb.TempDir(), "rootfs")
	for _, dir := range []string{"bin", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	_ = os.Chmod(filepath.Dir(root), 0o755)
	_ = os.Chmod(filepath.Dir(filepath.Dir(root)), 0o755)
	if err := os.WriteFile(filepath.Join(root, "bin/busybox"), box, 0o755); err != nil {
		tb.Fatal(err)
	}
	for name := range strings.FieldsSeq("sh true cat id hostname ls stat mount touch mkdir echo readlink grep sleep test wc tty pwd printenv") {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			tb.Fatal(err)
		}
	}
	return root
}

// config is a container with the usual mounts and namespaces.
func config(tb testing.TB, args ...string) *launch.Config {
	tb.Helper()
	return &launch.Config{
		ID: "test",
		Info: &containerizer.LaunchInfo{
			Rootfs: &containerizer.Rootfs{Path: makeRootfs(tb)},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
			},
			Mounts: []specs.Mount{
				{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
				{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
				{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
				{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
				{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
				{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			},
			Devices: []specs.LinuxDevice{
				{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
				{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
				{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
			},
			MaskedPaths:   []string{"/proc/version", "/proc/scsi", "/proc/nowhere", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/sys", "/proc/bus", "/proc/nowhere"},
			Hostname:      "box",
			LoopbackUp:    true,
		},
		Process: launch.Process{
			Args: args, Env: []string{"PATH=/bin"}, WorkingDir: "/", Umask: 0o22,
			Capabilities: &specs.LinuxCapabilities{
				Bounding: []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}, Effective: []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}, Permitted: []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"},
			},
			NoNewPrivileges: true,
		},
		PivotDir:   tb.TempDir(),
		IsDir:      isDir,
		HostDevice: func(d *specs.LinuxDevice) (string, error) { return d.Path, nil },
		LastCap:    unix.CAP_LAST_CAP,
	}
}

func isDir(path string) (bool, error) {
	st, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return st.IsDir(), nil
}

// outcome is what became of a container.
type outcome struct {
	output string
	status syscall.WaitStatus
	err    error // of the launch
}

// runContainer compiles and runs c to its end.
func runContainer(tb testing.TB, c *launch.Config) outcome {
	tb.Helper()
	return runProgram(tb, c, func() (*launch.Program, error) { return launch.Compile(c) }, nil)
}

func runProgram(tb testing.TB, c *launch.Config, compile func() (*launch.Program, error), pidfd *os.File) outcome {
	tb.Helper()
	p, err := compile()
	if err != nil {
		return outcome{err: err}
	}
	var mapper inputs.IDMapper
	defer mapper.Close()
	o := inputs.Options{UIDMappings: c.Info.UIDMappings, GIDMappings: c.Info.GIDMappings, IDMap: &mapper, PidFD: pidfd}
	if c.Info.Rootfs != nil {
		if o.Rootfs, err = inputs.MountRootfs(c.Info.Rootfs, c.Info.UIDMappings, c.Info.GIDMappings, &mapper); err != nil {
			return outcome{err: err}
		}
		defer func() { _ = o.Rootfs.Close() }()
	}
	files, err := inputs.Open(p.Inputs, o)
	if err != nil {
		return outcome{err: err}
	}
	defer inputs.Close(files, o)

	out, outW, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	null, err := os.Open("/dev/null")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	fds := []int{int(null.Fd()), int(outW.Fd()), int(outW.Fd())}
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	im, err := interp.LoadBlock(p.Block)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = im.Close() }()
	child, err := im.Spawn(fds)
	_ = outW.Close()
	if stage, ok := errors.AsType[*interp.StageError](err); ok {
		return outcome{err: p.Explain(stage.Failure)}
	}
	if err != nil {
		tb.Fatal(err)
	}
	var text bytes.Buffer
	var launchErr error
	for done := false; !done; {
		fds := []unix.PollFd{{Fd: int32(child.ProgressFD()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 20000); err != nil && err != unix.EINTR {
			tb.Fatal(err)
		}
		progress, failure := child.Progress()
		switch progress {
		case interp.ProgressFailed:
			launchErr = p.Explain(failure)
			done = true
		case interp.ProgressRunning:
			done = true
		case interp.ProgressBarrier, interp.ProgressHeld:
			if err := child.Release(); err != nil {
				tb.Fatal(err)
			}
		default: // no news
		}
	}
	source := out
	if child.Pty >= 0 {
		source = os.NewFile(uintptr(child.Pty), "pty")
		defer func() { _ = source.Close() }()
	}
	_, _ = text.ReadFrom(source) // a pty ends with EIO
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(child.PID, &ws, syscall.WALL, nil); err != syscall.EINTR {
			break
		}
	}
	_ = child.Close()
	return outcome{text.String(), ws, launchErr}
}

// expect runs a shell line in a container and compares what it prints.
func expect(t *testing.T, c *launch.Config, want string) {
	t.Helper()
	got := runContainer(t, c)
	if got.err != nil {
		t.Fatalf("launch: %v", got.err)
	}
	if strings.TrimSpace(strings.ReplaceAll(got.output, "\r", "")) != strings.TrimSpace(want) {
		t.Errorf("container printed\n%s\nwant\n%s", got.output, want)
	}
	if got.status.ExitStatus() != 0 {
		t.Errorf("exit status %d", got.status.ExitStatus())
	}
}

func TestContainer(t *testing.T) {
	for name, tt := range map[string]struct {
		line string
		with func(*launch.Config)
		want string
	}{
		"is pid 1 with its own names": {line: "echo $$; hostname; id -u", want: "1\nbox\n0"},
		"sees its mounts only":        {line: "grep -c cgroup /proc/self/mountinfo || true", want: "0"},
		"has device nodes and links":  {line: "echo x > /dev/null; readlink /dev/fd; stat -c %t:%T /dev/zero", want: "/proc/self/fd\n1:5"},
		"masks paths":                 {line: "cat /proc/version; ls /sys/firmware; echo ok", want: "ok"},
		"has read-only paths":         {line: "echo 1 > /proc/sys/kernel/panic && echo written; echo $?", want: "sh: can't create /proc/sys/kernel/panic: Read-only file system\n1"},
		"has loopback up":             {line: "cat /sys/class/net/lo/operstate; cat /sys/class/net/lo/flags", want: "unknown\n0x9"},
		"has few capabilities":        {line: "grep Cap /proc/self/status", want: "CapInh:\t0000000000000000\nCapPrm:\t0000000000000401\nCapEff:\t0000000000000401\nCapBnd:\t0000000000000401\nCapAmb:\t0000000000000000"},
		"has no new privileges":       {line: "grep NoNewPrivs /proc/self/status", want: "NoNewPrivs:\t1"},
		"leaks no descriptor":         {line: "ls /proc/self/fd", want: "0\n1\n2\n3"}, // 3 is ls's own
		"runs as a user": {line: "id; pwd", with: func(c *launch.Config) {
			c.Process.UID, c.Process.GID, c.Process.Groups = 1000, 100, []uint32{7, 8}
			c.Process.WorkingDir = "/srv/new"
		}, want: "uid=1000 gid=100 groups=7,8\n/srv/new"},
		"has ambient capabilities": {line: "grep -E 'CapEff|CapAmb' /proc/self/status", with: func(c *launch.Config) {
			c.Process.UID = 1000
			c.Process.Capabilities.Inheritable = []string{"CAP_NET_BIND_SERVICE"}
			c.Process.Capabilities.Ambient = []string{"CAP_NET_BIND_SERVICE"}
		}, want: "CapEff:\t0000000000000400\nCapAmb:\t0000000000000400"},
		"sets sysctls": {line: "cat /proc/sys/net/ipv4/ip_forward", with: func(c *launch.Config) { c.Info.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"} }, want: "1"},
		"sets limits": {line: "ulimit -n", with: func(c *launch.Config) {
			c.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 77, Hard: 99}}
		}, want: "77"},
		"few descriptors": {line: "ulimit -n", with: func(c *launch.Config) {
			c.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 5, Hard: 5}}
			c.Hold = true
		}, want: "5"},
		"sets oom":  {line: "cat /proc/self/oom_score_adj", with: func(c *launch.Config) { c.Info.OOMScoreAdj = new(333) }, want: "333"},
		"read-only": {line: "touch /x; echo $?", with: func(c *launch.Config) { c.Info.ReadonlyRootfs = true }, want: "touch: /x: Read-only file system\n1"},
		"waits":     {line: "echo ok", with: func(c *launch.Config) { c.Info.Barrier, c.Hold = true, true }, want: "ok"},
		"has a pty": {line: "tty; test -t 1 && echo yes; test -c /dev/console && echo console", with: func(c *launch.Config) { c.Process.Terminal = true }, want: "/dev/pts/0\nyes\nconsole"},
		"cgroup ns": {line: "grep -c . /proc/self/cgroup > /dev/null && echo ok", with: func(c *launch.Config) {
			c.Info.Namespaces = append(c.Info.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		}, want: "ok"},
		// The shell itself reads the time of the kernel's start, and a child the offsets.
		"time ns": {
			line: "cat /proc/self/timens_offsets; " + uptimeIsLong, with: timeNamespace,
			want: "monotonic           0         0\nboottime      8640000         0\nlong",
		},
		"time ns without offsets": {line: "test /proc/self/ns/time -ef /proc/self/ns/time_for_children && echo inside", with: func(c *launch.Config) {
			timeNamespace(c)
			c.Info.TimeOffsets = nil
		}, want: "inside"},
		"time ns beside a joined pid namespace": {line: uptimeIsLong, with: func(c *launch.Config) {
			timeNamespace(c)
			for i := range c.Info.Namespaces {
				if n := &c.Info.Namespaces[i]; n.Type == specs.PIDNamespace {
					n.Path = "/proc/self/ns/pid"
				}
			}
		}, want: "long"},
		"time ns in a user namespace": {line: uptimeIsLong, with: func(c *launch.Config) {
			userNamespace(c)
			timeNamespace(c)
		}, want: "long"},
		"user namespace": {line: "id -u; cat /proc/self/uid_map; touch /made && stat -c %u /made; echo x > /dev/null; hostname; ls /sys/class/net", with: userNamespace, want: "0\n         0     100000      65536\n0\nbox\nlo"},
		"user namespace, user": {line: "id -u; id -G", with: func(c *launch.Config) {
			userNamespace(c)
			c.Process.UID, c.Process.GID, c.Process.Groups = 1000, 1000, []uint32{5}
		}, want: "1000\n1000 5"},
		"user namespace with a pty": {line: "tty; stat -c %u /dev/pts/0", with: func(c *launch.Config) {
			userNamespace(c)
			c.Process.Terminal = true
		}, want: "/dev/pts/0\n0"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t, "sh", "-c", tt.line)
			if tt.with != nil {
				tt.with(c)
			}
			expect(t, c, tt.want)
		})
	}
}

func userNamespace(c *launch.Config) {
	c.Info.Namespaces = append(c.Info.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	c.Info.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	c.Info.GIDMappings = c.Info.UIDMappings
	c.Info.Rootfs.IDMapped = true
}

func timeNamespace(c *launch.Config) {
	c.Info.Namespaces = append(c.Info.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	c.Info.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 8640000}}
}

// uptimeIsLong is what a shell finds of timeNamespace on a host that runs for less.
const uptimeIsLong = "read up rest < /proc/uptime; test ${up%.*} -ge 8640000 && echo long"

func TestOverlayRootfs(t *testing.T) {
	for name, with := range map[string]func(*launch.Config){"host ids": func(*launch.Config) {}, "mapped ids": userNamespace} {
		t.Run(name, func(t *testing.T) {
			c := config(t, "sh", "-c", "touch /new && stat -c %u /new /etc /; mount | grep -c 'overlay on / '")
			dir := t.TempDir()
			upper, work := filepath.Join(dir, "upper"), filepath.Join(dir, "work")
			for _, d := range []string{upper, work} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			c.Info.Rootfs = &containerizer.Rootfs{Lower: []string{t.TempDir(), c.Info.Rootfs.Path}, Upper: upper, Work: work, Volatile: true}
			with(c)
			expect(t, c, "0\n0\n0\n1")
			if _, err := os.Stat(filepath.Join(upper, "new")); err != nil {
				t.Errorf("the writable layer lacks what was written: %v", err)
			}
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			if err != nil || bytes.Contains(mounts, []byte(dir)) {
				t.Errorf("the host's mount table shows the container's: %v", err)
			}
		})
	}
}

func TestBindMounts(t *testing.T) {
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "file"), []byte("data"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := config(t, "sh", "-c", "cat /a/b/c /link/file; touch /ro/x || echo ro; touch /rw/x && echo rw")
	if err := os.Symlink("/etc", filepath.Join(c.Info.Rootfs.Path, "link")); err != nil {
		t.Fatal(err)
	}
	c.Info.Mounts = append(c.Info.Mounts,
		specs.Mount{Destination: "/a/b/c", Source: filepath.Join(host, "file"), Options: []string{"rbind"}},
		specs.Mount{Destination: "/link/file", Source: filepath.Join(host, "file"), Type: "bind"},
		specs.Mount{Destination: "/ro", Source: host, Options: []string{"rbind", "rro"}},
		specs.Mount{Destination: "/rw", Source: host, Options: []string{"bind"}},
	)
	got := runContainer(t, c)
	if want := "datadatatouch: /ro/x: Read-only file system\nro\nrw\n"; got.output != want {
		t.Errorf("container printed %q (%v), want %q", got.output, got.err, want)
	}
	if _, err := os.Stat(filepath.Join(c.Info.Rootfs.Path, "etc/file")); err != nil {
		t.Errorf("the target behind the link was not made inside the root: %v", err)
	}
}

// Others are mounted in a read-only tmpfs before it is that.
func TestReadOnlyTmpfsWithMounts(t *testing.T) {
	c := config(t, "sh", "-c", "touch /outer/inner/x && echo inner; touch /outer/x || echo ro; stat -c %a /outer")
	c.Info.Mounts = append(c.Info.Mounts,
		specs.Mount{Destination: "/outer", Type: "tmpfs", Options: []string{"nodev", "ro", "mode=750"}},
		specs.Mount{Destination: "/outer/inner", Type: "tmpfs"},
	)
	got := runContainer(t, c)
	if want := "inner\ntouch: /outer/x: Read-only file system\nro\n750\n"; got.output != want {
		t.Errorf("container printed %q (%v), want %q", got.output, got.err, want)
	}
}

// A mount target that is a magic link would lead to a descriptor of the launch.
func TestHostileTargets(t *testing.T) {
	for name, link := range map[string]string{"magic link": "/proc/self/fd/5", "magic link below": "/proc/self/fd/5/../../etc", "loop": "/evil", "dangling": "/nowhere/else"} {
		t.Run(name, func(t *testing.T) {
			c := config(t, "true")
			if err := os.Symlink(link, filepath.Join(c.Info.Rootfs.Path, "evil")); err != nil {
				t.Fatal(err)
			}
			c.Info.Mounts = append(c.Info.Mounts, specs.Mount{Destination: "/evil", Source: t.TempDir(), Type: "bind"})
			got := runContainer(t, c)
			if got.err == nil || !strings.Contains(got.err.Error(), `on "/evil"`) {
				t.Errorf("launch: %v, want an error about the mount", got.err)
			}
		})
	}
	t.Run("proc is a link", func(t *testing.T) {
		c := config(t, "true")
		if err := os.Symlink("tmp", filepath.Join(c.Info.Rootfs.Path, "proc")); err != nil {
			t.Fatal(err)
		}
		if got := runContainer(t, c); !errors.Is(got.err, unix.ELOOP) {
			t.Errorf("launch: %v, want ELOOP", got.err)
		}
	})
	t.Run("working directory is a magic link", func(t *testing.T) {
		c := config(t, "true")
		c.Process.WorkingDir = "/proc/self/fd/6"
		if got := runContainer(t, c); !errors.Is(got.err, unix.ELOOP) {
			t.Errorf("launch: %v, want ELOOP", got.err)
		}
	})
}

func TestCommandErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want error
	}{
		"missing":                {[]string{"nonesuch"}, containerizer.ErrCommandNotFound},
		"missing by path":        {[]string{"/bin/nonesuch"}, containerizer.ErrCommandNotFound},
		"directory":              {[]string{"/etc"}, containerizer.ErrCommandNotExecutable},
		"not executable":         {[]string{"/etc/plain"}, containerizer.ErrCommandNotExecutable},
		"not executable in PATH": {[]string{"plain"}, containerizer.ErrCommandNotExecutable},
		"no program":             {[]string{"/etc/garbage"}, containerizer.ErrCommandNotExecutable},
		"nothing":                {nil, containerizer.ErrInvalid},
		"interpreter is missing": {[]string{"/etc/script"}, containerizer.ErrCommandNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t, tt.args...)
			c.Process.Env = []string{"PATH=/bin:/etc"}
			for file, mode := range map[string]os.FileMode{"plain": 0o644, "garbage": 0o755, "script": 0o755} {
				if err := os.WriteFile(filepath.Join(c.Info.Rootfs.Path, "etc", file), []byte("#!/nowhere\n")[map[string]int{"garbage": 2}[file]:], mode); err != nil {
					t.Fatal(err)
				}
			}
			got := runContainer(t, c)
			if !errors.Is(got.err, tt.want) {
				t.Errorf("launch: %v, want %v", got.err, tt.want)
			}
		})
	}
}

func TestInitFindsTheCommand(t *testing.T) {
	for command, want := range map[string]error{"nonesuch": containerizer.ErrCommandNotFound, "/etc/plain": containerizer.ErrCommandNotExecutable, "true": nil} {
		c := config(t, command)
		c.Init = true
		if err := os.WriteFile(filepath.Join(c.Info.Rootfs.Path, "etc/plain"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := runContainer(t, c); !errors.Is(got.err, want) {
			t.Errorf("%s: %v, want %v", command, got.err, want)
		}
	}
}

func TestExecJoins(t *testing.T) {
	for name, with := range map[string]func(*launch.Config){"host ids": func(*launch.Config) {}, "user namespace": userNamespace, "time namespace": timeNamespace} {
		t.Run(name, func(t *testing.T) {
			c := config(t, "sh", "-c", "touch /tmp/ready; sleep 60")
			with(c)
			pid := startContainer(t, c)
			pidfd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(pidfd), "pidfd")
			defer func() { _ = f.Close() }()

			e := config(t, "sh", "-c", "hostname; id -u; grep -E 'CapEff|NoNewPrivs' /proc/self/status; ls /proc/self/ns | wc -l; test $$ -gt 1 && echo joined")
			e.Info = &containerizer.LaunchInfo{}
			joined := uint64(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET)
			if len(c.Info.UIDMappings) > 0 {
				joined |= unix.CLONE_NEWUSER
			}
			want := "box\n0\nCapEff:\t0000000000000401\nNoNewPrivs:\t1\n10\njoined\n"
			if len(c.Info.TimeOffsets) > 0 {
				joined |= unix.CLONE_NEWTIME
				e.Process.Args[2] += "; grep boottime /proc/self/timens_offsets; " + uptimeIsLong
				want += "boottime      8640000         0\nlong\n"
			}
			got := runProgram(t, e, func() (*launch.Program, error) { return launch.CompileExec(e, joined) }, f)
			if got.err != nil || got.output != want {
				t.Errorf("exec printed %q, %v, want %q", got.output, got.err, want)
			}
		})
	}
}

// startContainer starts c and returns the pid of its process, which is killed at
// the end of the test.
func startContainer(t *testing.T, c *launch.Config) int {
	t.Helper()
	p, err := launch.Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	var mapper inputs.IDMapper
	defer mapper.Close()
	root, err := inputs.MountRootfs(c.Info.Rootfs, c.Info.UIDMappings, c.Info.GIDMappings, &mapper)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	files, err := inputs.Open(p.Inputs, inputs.Options{Rootfs: root, IDMap: &mapper, UIDMappings: c.Info.UIDMappings, GIDMappings: c.Info.GIDMappings})
	if err != nil {
		t.Fatal(err)
	}
	defer inputs.Close(files, inputs.Options{Rootfs: root})
	fds := []int{0, 1, 2}
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	im, err := interp.LoadBlock(p.Block)
	if err != nil {
		t.Fatal(err)
	}
	child, err := im.Spawn(fds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(child.PidFD, unix.SIGKILL, nil, 0)
		_, _ = syscall.Wait4(child.PID, nil, syscall.WALL, nil)
		_ = child.Close()
		_ = im.Close()
	})
	for {
		fds := []unix.PollFd{{Fd: int32(child.ProgressFD()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 20000); err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
		switch progress, failure := child.Progress(); progress {
		case interp.ProgressRunning:
			return child.PID
		case interp.ProgressFailed:
			t.Fatal(p.Explain(failure))
		default: // not yet
		}
	}
}

func TestPrint(t *testing.T) {
	c := config(t, "true")
	p, err := launch.Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if _, err := p.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"clone3(new mount, new pid", `# mount proc on "/proc"`, `execve("/bin/true"`, "input  4  rootfs"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the print lacks %q:\n%s", want, out.String())
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	c := config(b, "true")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := launch.Compile(c); err != nil {
			b.Fatal(err)
		}
	}
}

// The floor of a launch: a prepared container, from compilation to its end.
func BenchmarkLaunch(b *testing.B) {
	c := config(b, "true")
	for b.Loop() {
		if got := runContainer(b, c); got.err != nil {
			b.Fatal(got.err)
		}
	}
}
