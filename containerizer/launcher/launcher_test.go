package launcher_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launcher"
)

// monitorBinary builds berth-monitor once.
var monitorBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "berth-monitor-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "berth-monitor")
	cmd := exec.Command("go", "build", "-o", path, "github.com/berth-dev/berth/cmd/berth-monitor")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := monitorBinary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

func newLauncher(tb testing.TB) *launcher.Launcher {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("containers need root")
	}
	path, err := monitorBinary()
	if err != nil {
		tb.Fatalf("build berth-monitor: %v", err)
	}
	l, err := launcher.New(launcher.Options{
		Monitor:     path,
		ExitCommand: []string{"/bin/true"},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// rootfs makes a root filesystem of busybox, with a user database.
func rootfs(tb testing.TB) string {
	tb.Helper()
	box, err := exec.LookPath("busybox")
	if err != nil {
		tb.Skip("needs busybox-static")
	}
	data, err := os.ReadFile(box)
	if err != nil {
		tb.Fatal(err)
	}
	root := tb.TempDir()
	for path, text := range map[string]string{
		"bin/busybox": string(data),
		"etc/passwd":  "root:x:0:0::/root:/bin/sh\nworker:x:1000:100::/home/worker:/bin/sh\n1234:x:0:0::/:/bin/sh\n",
		"etc/group":   "root:x:0:\nusers:x:100:\naudio:x:29:worker,root\n",
	} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(path)), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	for name := range strings.FieldsSeq("sh cat id sleep echo env tty stty") {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
			tb.Fatal(err)
		}
	}
	return root
}

// request describes a container that runs a shell line.
func request(tb testing.TB, line string) containerizer.LaunchRequest {
	tb.Helper()
	info := &containerizer.LaunchInfo{
		Rootfs: &containerizer.Rootfs{Path: rootfs(tb)},
		Namespaces: []specs.LinuxNamespace{
			{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"newinstance", "ptmxmode=0666", "mode=0620"}},
		},
		Devices:  []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}},
		Hostname: "box",
	}
	return containerizer.LaunchRequest{
		Container: &containerizer.Container{
			ID:   containerizer.NewContainerID(),
			Dir:  tb.TempDir(),
			Spec: &containerizer.Spec{Process: containerizer.Process{Args: []string{"sh", "-c", line}}, Log: containerizer.LogConfig{Driver: containerizer.LogNone}},
		},
		Info: info,
	}
}

// buffer is a writer that several goroutines may look at.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	tb.Cleanup(cancel)
	return ctx
}

// run launches r attached, and returns its output and end.
func run(tb testing.TB, l *launcher.Launcher, r containerizer.LaunchRequest) (string, *containerizer.Termination) {
	tb.Helper()
	ctx := testContext(tb)
	var out buffer
	r.IO = &containerizer.IO{Stdout: &out, Stderr: &out}
	launched, err := l.Launch(ctx, r)
	if err != nil {
		tb.Fatalf("launch: %v", err)
	}
	if err := launched.Session.Wait(); err != nil {
		tb.Errorf("session: %v", err)
	}
	end, err := l.Wait(ctx, r.Container)
	if err != nil {
		tb.Fatalf("wait: %v", err)
	}
	cleanup(tb, l, r)
	return out.String(), end
}

func cleanup(tb testing.TB, l *launcher.Launcher, r containerizer.LaunchRequest) {
	tb.Helper()
	if err := l.Cleanup(testContext(tb), r.Container); err != nil {
		tb.Errorf("cleanup: %v", err)
	}
	left, err := os.ReadDir(r.Container.Dir)
	if err != nil || len(left) > 0 {
		tb.Errorf("cleanup left %v, %v", left, err)
	}
}

func TestLaunch(t *testing.T) {
	l := newLauncher(t)
	for name, tt := range map[string]struct {
		line string
		with func(*containerizer.LaunchRequest)
		want string
		code int
	}{
		"output and exit code": {line: "echo out; echo err >&2; exit 3", want: "out\nerr\n", code: 3},
		"environment":          {line: "echo $HOSTNAME $HOME $PATH", want: "box /root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"},
		"root has its groups":  {line: "id -u; id -g; id -G", want: "0\n0\n0 29\n"},
		"named user": {
			line: "id -u; id -g; id -G; echo $HOME", with: func(r *containerizer.LaunchRequest) { r.Container.Spec.Process.User = "worker" },
			want: "1000\n100\n100 29\n/home/worker\n",
		},
		"number is no name": {line: "id -u", with: func(r *containerizer.LaunchRequest) { r.Container.Spec.Process.User = "1234" }, want: "1234\n"},
		"user and group": {line: "id -u; id -G", with: func(r *containerizer.LaunchRequest) {
			r.Container.Spec.Process.User = "1000:audio"
			r.Container.Spec.Process.AdditionalGroups = []string{"users", "77"}
		}, want: "1000\n29 77 100\n"},
		"barrier": {line: "echo on", with: func(r *containerizer.LaunchRequest) {
			r.Info.Barrier = true
			r.Isolate = func(_ context.Context, pid int) error {
				_, err := os.Stat("/proc/" + itoa(pid) + "/ns/net")
				return err
			}
		}, want: "on\n"},
		"terminal": {line: "tty; stty size", with: func(r *containerizer.LaunchRequest) {
			r.Container.Spec.Process.Terminal = true
			r.Container.Spec.Process.ConsoleSize = &specs.Box{Width: 99, Height: 33}
		}, want: "/dev/pts/0\r\n33 99\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, tt.line)
			if tt.with != nil {
				tt.with(&r)
			}
			out, end := run(t, l, r)
			if out != tt.want || end.ExitCode != tt.code {
				t.Errorf("output %q, exit code %d, want %q, %d", out, end.ExitCode, tt.want, tt.code)
			}
		})
	}
}

func itoa(n int) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

func TestLaunchErrors(t *testing.T) {
	l := newLauncher(t)
	isolateErr := errors.New("no address")
	for name, tt := range map[string]struct {
		with func(*containerizer.LaunchRequest)
		want error
	}{
		"unknown user":  {func(r *containerizer.LaunchRequest) { r.Container.Spec.Process.User = "nobody" }, containerizer.ErrInvalid},
		"unknown group": {func(r *containerizer.LaunchRequest) { r.Container.Spec.Process.User = "0:nobody" }, containerizer.ErrInvalid},
		"huge id":       {func(r *containerizer.LaunchRequest) { r.Container.Spec.Process.User = "4294967295" }, containerizer.ErrInvalid},
		"no command":    {func(r *containerizer.LaunchRequest) { r.Container.Spec.Process.Args = []string{"nonesuch"} }, containerizer.ErrCommandNotFound},
		"not executable": {
			func(r *containerizer.LaunchRequest) { r.Container.Spec.Process.Args = []string{"/etc"} },
			containerizer.ErrCommandNotExecutable,
		},
		"failed mount": {func(r *containerizer.LaunchRequest) {
			r.Info.Mounts = append(r.Info.Mounts, specs.Mount{Destination: "/x", Type: "nosuchfs"})
		}, containerizer.ErrUnsupported},
		"missing source": {func(r *containerizer.LaunchRequest) {
			r.Info.Mounts = append(r.Info.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/nowhere"})
		}, containerizer.ErrInvalid},
		"isolator": {func(r *containerizer.LaunchRequest) {
			r.Info.Barrier = true
			r.Isolate = func(context.Context, int) error { return isolateErr }
		}, isolateErr},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "exit 0")
			tt.with(&r)
			if _, err := l.Launch(testContext(t), r); !errors.Is(err, tt.want) {
				t.Errorf("launch: %v, want %v", err, tt.want)
			}
			cleanup(t, l, r)
		})
	}
}

func TestHeldStartStatusSignal(t *testing.T) {
	l := newLauncher(t)
	ctx := testContext(t)
	r := request(t, "sleep 60")
	r.Hold = true
	if _, err := l.Launch(ctx, r); err != nil {
		t.Fatal(err)
	}
	other := newLauncher(t) // as another process would
	if err := other.Start(ctx, r.Container); err != nil {
		t.Fatal(err)
	}
	s, err := other.Status(r.Container)
	if err != nil || !s.Running || s.PID == 0 || s.MonitorPID == 0 || s.Termination != nil {
		t.Errorf("status %+v, %v, want running", s, err)
	}
	if err := other.Signal(ctx, r.Container, int(syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	end, err := other.Wait(ctx, r.Container)
	if err != nil || end.Signal != int(syscall.SIGKILL) || end.ExitCode != 137 {
		t.Errorf("wait: %+v, %v, want SIGKILL", end, err)
	}
	if s, err := other.Status(r.Container); err != nil || s.Running || s.Termination == nil {
		t.Errorf("status %+v, %v, want ended", s, err)
	}
	if err := other.Signal(ctx, r.Container, 15); !errors.Is(err, containerizer.ErrFailedPrecondition) {
		t.Errorf("signal to what has ended: %v, want ErrFailedPrecondition", err)
	}
	cleanup(t, other, r)
}

func TestHeldCommandNotFound(t *testing.T) {
	l := newLauncher(t)
	r := request(t, "")
	r.Hold = true
	r.Container.Spec.Process.Args = []string{"nonesuch"}
	if _, err := l.Launch(testContext(t), r); err != nil {
		t.Fatal(err)
	}
	if err := l.Start(testContext(t), r.Container); !errors.Is(err, containerizer.ErrCommandNotFound) {
		t.Errorf("start: %v, want ErrCommandNotFound", err)
	}
	cleanup(t, l, r)
}

func TestMonitorKilled(t *testing.T) {
	l := newLauncher(t)
	ctx := testContext(t)
	r := request(t, "sleep 60")
	launched, err := l.Launch(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(launched.MonitorPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	other := newLauncher(t)
	if s, err := other.Status(r.Container); err != nil || !s.Running {
		t.Errorf("status %+v, %v: the process runs on without its monitor", s, err)
	}
	if err := other.Signal(ctx, r.Container, int(syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	end, err := other.Wait(ctx, r.Container)
	if err != nil || end.Reason != containerizer.ReasonUnknown {
		t.Errorf("wait: %+v, %v, want an unknown end", end, err)
	}
	cleanup(t, other, r)
}

func TestExec(t *testing.T) {
	l := newLauncher(t)
	ctx := testContext(t)
	for _, userns := range []bool{false, true} {
		r := request(t, "sleep 60")
		want := "box\n"
		if userns {
			ids := []specs.LinuxIDMapping{{HostID: 200000, Size: 65536}}
			r.Info.UIDMappings, r.Info.GIDMappings = ids, ids
			r.Info.Rootfs.IDMapped = true
			r.Info.Namespaces = append(r.Info.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			_ = os.Chmod(r.Info.Rootfs.Path, 0o755)
			want = "box\n         0     200000      65536\n"
		}
		if _, err := l.Launch(ctx, r); err != nil {
			t.Fatal(err)
		}
		line := "cat /proc/sys/kernel/hostname"
		if userns {
			line += " /proc/self/uid_map"
		}
		var out buffer
		e, err := newLauncher(t).Exec(ctx, containerizer.ExecRequest{
			Container: r.Container, Info: r.Info, ID: r.Container.ID.Child("exec"),
			Process: &containerizer.Process{Args: []string{"sh", "-c", line + "; exit 5"}},
			IO:      &containerizer.IO{Stdout: &out},
		})
		if err != nil {
			t.Fatal(err)
		}
		end, err := e.Wait(ctx)
		if err != nil || end.ExitCode != 5 {
			t.Errorf("exec ended %+v, %v, want code 5", end, err)
		}
		if err := e.Session().Wait(); err != nil || out.String() != want {
			t.Errorf("exec printed %q, %v, want %q", out.String(), err, want)
		}
		_ = e.Close()
		if err := l.Signal(ctx, r.Container, int(syscall.SIGKILL)); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Wait(ctx, r.Container); err != nil {
			t.Fatal(err)
		}
		cleanup(t, l, r)
	}
}

func TestSandboxAndChild(t *testing.T) {
	l := newLauncher(t)
	ctx := testContext(t)
	pod := request(t, "")
	pod.Container.Spec = &containerizer.Spec{Class: containerizer.ClassPodSandbox}
	pod.Info = &containerizer.LaunchInfo{
		Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace}},
		Hostname:   "pod", LoopbackUp: true, Sysctl: map[string]string{"net.ipv4.ip_forward": "1"},
	}
	if launched, err := l.Launch(ctx, pod); err != nil || launched.PID != 0 {
		t.Fatalf("launch: %+v, %v", launched, err)
	}
	if s, err := l.Status(pod.Container); err != nil || !s.Running {
		t.Errorf("status %+v, %v, want running", s, err)
	}
	child := request(t, "cat /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_forward")
	child.Container.ID = pod.Container.ID.Child("app")
	child.Container.Dir = filepath.Join(pod.Container.Dir, "children", "app")
	if err := os.MkdirAll(child.Container.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	child.Info.Hostname = ""
	child.Info.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}
	for _, kind := range []specs.LinuxNamespaceType{specs.UTSNamespace, specs.NetworkNamespace, specs.IPCNamespace} {
		path, err := l.NamespacePath(pod.Container, kind)
		if err != nil {
			t.Fatal(err)
		}
		child.Info.Namespaces = append(child.Info.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
	}
	out, end := run(t, l, child)
	if out != "pod\n1\n" || end.ExitCode != 0 {
		t.Errorf("child printed %q, ended %+v", out, end)
	}
	_ = os.RemoveAll(filepath.Join(pod.Container.Dir, "children"))
	cleanup(t, l, pod)
}

func BenchmarkLaunch(b *testing.B) {
	l := newLauncher(b)
	r := request(b, "")
	r.Container.Spec.Process.Args = []string{"/bin/busybox", "true"}
	ctx := context.Background()
	for b.Loop() {
		if _, err := l.Launch(ctx, r); err != nil {
			b.Fatal(err)
		}
		if _, err := l.Wait(ctx, r.Container); err != nil {
			b.Fatal(err)
		}
		if err := l.Cleanup(ctx, r.Container); err != nil {
			b.Fatal(err)
		}
	}
}
