package daemon_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/cmd/internal/daemon"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/client"
	"github.com/berth-dev/berth/containerizer/engine"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/test/fixtures"
)

// The crash tests kill a daemon, or a container's monitor, at every step of every
// operation, of real containers, and look whether nothing is left behind and nobody
// disturbed. Which steps there are is learnt from a run in which nothing is killed.

const (
	// dirEnv has the node's folder for a child that is a daemon.
	dirEnv = "BERTH_DAEMON_DIR"
	// victim begins the ids whose steps count.
	victim = "crash"
	// armFile holds at which step to kill whom, counted from when it appeared; stepsFile
	// collects their names.
	armFile, stepsFile = "arm", "steps"
	// spareFile holds the pid of the monitor that is not to be killed.
	spareFile = "spare"
	// killedFile holds how many monitors were killed at the armed step.
	killedFile = "killed"
)

func TestMain(m *testing.M) {
	args := os.Args
	switch {
	case len(args) > 3 && args[len(args)-3] == "system" && args[len(args)-2] == "reap":
		exit(reap(args[2], args[4], args[len(args)-1]))
	case len(args) > 2 && args[len(args)-2] == "system" && args[len(args)-1] == "sweep":
		os.Exit(0)
	case os.Getenv(dirEnv) != "":
		exit(serve(os.Getenv(dirEnv)))
	}
	os.Exit(m.Run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func settings(dir string) config.Config {
	return config.Config{
		Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"), Monitor: filepath.Join(dir, "berth-monitor"),
		Cgroup: config.Cgroup{Parent: "/berth-daemontest-" + filepath.Base(filepath.Dir(filepath.Dir(dir)))},
	}
}

func parts() wiring.Parts {
	return wiring.Parts{
		Fetcher:   func(config.Config) containerizer.Fetcher { return nil },
		Artifacts: func(config.Config) (containerizer.Artifacts, error) { return noArtifacts{}, nil },
		Resident:  true, SpareMonitors: 2,
	}
}

type noArtifacts struct{ containerizer.Artifacts }

// reap does as `berth --root ROOT --state STATE system reap ID` does.
func reap(root, state, id string) error {
	cfg := settings(filepath.Dir(root))
	cfg.Root, cfg.State = root, state
	e, err := wiring.New(cfg, "/nonexistent", log.Nop(), parts()).Engine(context.Background())
	if err != nil {
		return err
	}
	embedded, _ := e.(*engine.Engine)
	return embedded.Reap(context.Background(), containerizer.ContainerID(id))
}

// serve is the daemon that dies.
func serve(dir string) error {
	p := parts()
	p.OnStep = (&killer{dir: dir}).step
	cfg := settings(dir)
	logger, err := wiring.Logger("warn")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // ends when the test does
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return daemon.Run(ctx, daemon.Options{
		Config: cfg, Node: wiring.New(cfg, "/nonexistent", logger, p), Log: logger, Metrics: daemon.NewMetrics(), Version: "test",
	})
}

// whom says who is killed.
type whom string

const (
	nobody     whom = "nobody"
	theDaemon  whom = "daemon"
	theMonitor whom = "monitor"
)

// killer notes the steps of victims, and kills at the armed one.
type killer struct {
	dir string

	mu    sync.Mutex
	armed string
	count int
}

func (k *killer) step(id containerizer.ContainerID, name string) {
	if !strings.HasPrefix(id.String(), victim) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	b, err := os.ReadFile(filepath.Join(k.dir, armFile))
	if err != nil {
		return
	}
	if k.armed != string(b) {
		k.armed, k.count = string(b), 0
	}
	var at int
	var who whom
	if _, err := fmt.Sscan(k.armed, &at, &who); err != nil {
		return
	}
	if k.count == at && who != nobody {
		_ = os.Remove(filepath.Join(k.dir, armFile))
		if who == theDaemon {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it arrives
		}
		k.killMonitors()
		return
	}
	k.count++
	f, err := os.OpenFile(filepath.Join(k.dir, stepsFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintln(f, name) // a missing one shows as a step too few
	_ = f.Close()
}

// killMonitors kills those of the node but the one to spare, waits until they are dead,
// and notes how many there were.
func (k *killer) killMonitors() {
	spared, _ := os.ReadFile(filepath.Join(k.dir, spareFile)) // the test misses it
	links, _ := filepath.Glob("/proc/[0-9]*/exe")             // a good pattern
	monitor, err := os.Stat(filepath.Join(k.dir, "berth-monitor"))
	if err != nil {
		return
	}
	dead := 0
	for _, l := range links {
		// Its mount is its own: the link does not tell its path.
		program, err := os.Stat(l)
		if err != nil || !os.SameFile(program, monitor) {
			continue
		}
		pid := filepath.Base(filepath.Dir(l))
		if n, err := strconv.Atoi(pid); err == nil && pid != string(spared) && end(n) {
			dead++
		}
	}
	_ = os.WriteFile(filepath.Join(k.dir, killedFile), []byte(strconv.Itoa(dead)), 0o600) // the test misses it
}

// end kills a process and waits for its death.
func end(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false // it has ended
	}
	defer func() { _ = unix.Close(fd) }() // only read
	if unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) != nil {
		return false
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000) //nolint:gosec // a descriptor
	return err == nil && n == 1
}

// crashNode is a node whose daemon or monitors die.
type crashNode struct {
	*testing.T

	dir, rootfs string
	armed       int // how often
	kills       int // steps at which somebody was killed
	child       *exec.Cmd
	alive       io.Closer // its standard input
	client      *client.Client
}

func newCrashNode(t *testing.T) *crashNode {
	t.Helper()
	n := &crashNode{T: t, dir: filepath.Join(t.TempDir(), "n")}
	n.rootfs = filepath.Join(n.dir, "rootfs")
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("there is no busybox to make a root filesystem of")
	}
	content, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{filepath.Join(n.rootfs, "bin"), filepath.Join(n.dir, "root")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sh", "sleep", "true"} {
		if err := os.WriteFile(filepath.Join(n.rootfs, "bin", name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(n.dir, "berth-monitor"), "./cmd/berth-monitor")
	build.Dir = filepath.Join("..", "..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build berth-monitor: %v\n%s", err, b)
	}
	t.Cleanup(n.clear)
	return n
}

func (n *crashNode) spec(script string) *containerizer.Spec {
	return &containerizer.Spec{
		RootfsPath: n.rootfs, Process: containerizer.Process{Args: []string{"/bin/sh", "-c", script}},
		Network: containerizer.Network{None: true},
	}
}

// start starts a daemon and waits until it has recovered.
func (n *crashNode) start() {
	n.Helper()
	n.child = exec.CommandContext(context.WithoutCancel(n.Context()), os.Args[0]) //nolint:gosec // ourselves
	n.child.Env = append(os.Environ(), dirEnv+"="+n.dir)
	n.child.Stderr = os.Stderr
	in, err := n.child.StdinPipe()
	if err == nil {
		err = n.child.Start()
	}
	if err != nil {
		n.Fatal(err)
	}
	n.alive = in
	if n.client, err = client.New("unix://"+filepath.Join(n.dir, "state", "berth.sock"), nil); err != nil {
		n.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(n.Context(), 20*time.Second)
	defer cancel()
	if err := n.client.WaitReady(ctx); err != nil {
		n.Fatal(err)
	}
}

// wait waits until the daemon has ended.
func (n *crashNode) wait() {
	n.Helper()
	_ = n.client.Close()
	_ = n.alive.Close()
	done := time.AfterFunc(20*time.Second, func() { _ = n.child.Process.Kill() })
	_ = n.child.Wait() // killed, as a rule
	if !done.Stop() {
		n.Error("the daemon did not end")
	}
}

func (n *crashNode) clear() {
	if n.child != nil && n.child.ProcessState == nil {
		_ = n.alive.Close()
		_ = n.child.Wait()
	}
	e, err := wiring.New(settings(n.dir), "/nonexistent", log.Nop(), parts()).Engine(context.Background())
	if err != nil {
		n.Error(err)
		return
	}
	all, err := e.List(context.Background(), containerizer.Filter{})
	if err != nil {
		n.Error(err)
	}
	for i := range all {
		if err := e.Destroy(context.Background(), all[i].ID); err != nil {
			n.Error(err)
		}
	}
	embedded, _ := e.(*engine.Engine)
	if err := embedded.Close(context.Background()); err != nil {
		n.Error(err)
	}
	fixtures.RemoveGroups(settings(n.dir).Cgroup.Parent)
}

// crashScenarios are sequences of calls. They go on after an error: the daemon may be
// dead.
func crashScenarios(n *crashNode) map[string]func(ctx context.Context, e *client.Engine) {
	const id = containerizer.ContainerID(victim)
	const forever = "while :; do sleep 1000; done"
	return map[string]func(ctx context.Context, e *client.Engine){
		"life": func(ctx context.Context, e *client.Engine) {
			spec := n.spec(forever)
			spec.Name = "crash-name"
			_, _ = e.Launch(ctx, id, spec, containerizer.LaunchOptions{})
			if p, err := e.Exec(ctx, id, &containerizer.Process{Args: []string{"/bin/true"}}, nil); err == nil {
				_, _ = p.Wait(ctx)
				_ = p.Close()
			}
			_ = e.Pause(ctx, id)
			_ = e.Resume(ctx, id)
			limit := int64(64 << 20)
			_ = e.Update(ctx, id, &containerizer.Resources{Linux: specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}})
			_ = e.Rename(ctx, id, "crash-other")
			_ = e.Stop(ctx, id, new(time.Duration))
			_, _ = e.Start(ctx, id, containerizer.LaunchOptions{})
			_ = e.Destroy(ctx, id)
		},
		"prepared": func(ctx context.Context, e *client.Engine) {
			_ = e.Prepare(ctx, id, n.spec(forever))
			_, _ = e.Start(ctx, id, containerizer.LaunchOptions{})
			_ = e.Destroy(ctx, id)
		},
		"removed by itself": func(ctx context.Context, e *client.Engine) {
			spec := n.spec("exit 0")
			spec.AutoRemove = true
			_, _ = e.Launch(ctx, id, spec, containerizer.LaunchOptions{})
			_, _ = e.Wait(ctx, id)
			_ = e.Destroy(ctx, id)
		},
		"pod": func(ctx context.Context, e *client.Engine) {
			pod := n.spec("")
			pod.Process, pod.Class = containerizer.Process{}, containerizer.ClassPodSandbox
			_, _ = e.Launch(ctx, id, pod, containerizer.LaunchOptions{})
			_, _ = e.Launch(ctx, id.Child("a"), n.spec(forever), containerizer.LaunchOptions{})
			_ = e.Destroy(ctx, id)
		},
		"nested": func(ctx context.Context, e *client.Engine) {
			_, _ = e.Launch(ctx, id, n.spec(forever), containerizer.LaunchOptions{})
			child := n.spec("exit 0")
			child.RootfsPath = "" // in its parent's
			_, _ = e.Launch(ctx, id.Child("a"), child, containerizer.LaunchOptions{})
			_, _ = e.Wait(ctx, id.Child("a"))
			_ = e.Destroy(ctx, id)
		},
	}
}

// TestDiesAtEveryStep is the fault matrix of the daemon.
func TestDiesAtEveryStep(t *testing.T) {
	everyStep(t, (*crashNode).die)
}

// TestMonitorDiesAtEveryStep is that of monitors.
func TestMonitorDiesAtEveryStep(t *testing.T) {
	everyStep(t, (*crashNode).loseMonitor)
}

// everyStep runs the scenarios once for each of their steps, with what kills somebody
// there.
func everyStep(t *testing.T, kill func(n *crashNode, run func(context.Context, *client.Engine), i int)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	n := newCrashNode(t)
	n.start()
	const stays = containerizer.ContainerID("stays")
	if _, err := n.client.Containers.Launch(t.Context(), stays, n.spec("while :; do sleep 1000; done"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	bystander, err := n.client.Containers.Status(t.Context(), stays)
	if err == nil {
		err = os.WriteFile(filepath.Join(n.dir, spareFile), []byte(strconv.Itoa(bystander.MonitorPID)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	total, tried := 0, 0
	for name, run := range crashScenarios(n) {
		before := n.kills
		steps := n.learn(run)
		if len(steps) < 8 {
			t.Errorf("%s: only the steps %q were seen", name, steps)
		}
		total += len(steps)
		for i, step := range steps {
			if n := slices.Index(steps, step); n != i && slices.Contains(steps[i+1:], step) && os.Getenv("BERTH_ALL_STEPS") == "" {
				continue // the first and the last of those with one name
			}
			tried++
			t.Run(fmt.Sprintf("%s/%d %s", name, i, step), func(t *testing.T) {
				outer := n.T
				n.T = t
				defer func() { n.T = outer }()
				kill(n, run, i)
				n.check(bystander)
			})
			if t.Failed() {
				return // the node is not what the others expect
			}
		}
		if few := 2; n.kills-before < few {
			t.Errorf("%s: at only %d steps somebody was killed, want at least %d", name, n.kills-before, few)
		}
	}
	t.Logf("killed at %d of the %d steps tried, of %d", n.kills, tried, total)
	n.wait()
}

// learn runs a scenario with nothing killed and returns its steps.
func (n *crashNode) learn(run func(context.Context, *client.Engine)) []string {
	n.Helper()
	n.arm(0, nobody)
	ctx, cancel := context.WithTimeout(n.Context(), time.Minute)
	defer cancel()
	run(ctx, n.client.Containers)
	_ = os.Remove(filepath.Join(n.dir, armFile))
	b, err := os.ReadFile(filepath.Join(n.dir, stepsFile))
	if err != nil {
		n.Fatal(err)
	}
	return strings.Fields(string(b))
}

func (n *crashNode) arm(at int, who whom) {
	n.Helper()
	_ = os.Remove(filepath.Join(n.dir, stepsFile))
	n.armed++ // the count of steps begins anew
	aside := filepath.Join(n.dir, armFile+".new")
	err := os.WriteFile(aside, fmt.Appendf(nil, "%d %s %d", at, who, n.armed), 0o600)
	if err == nil {
		err = os.Rename(aside, filepath.Join(n.dir, armFile))
	}
	if err != nil {
		n.Fatal(err)
	}
}

// loseMonitor has the monitor killed at step i of a scenario, under a daemon that goes
// on. No call may wait for a monitor that is gone.
func (n *crashNode) loseMonitor(run func(context.Context, *client.Engine), i int) {
	n.Helper()
	n.arm(i, theMonitor)
	ctx, cancel := context.WithTimeout(n.Context(), 30*time.Second)
	defer cancel()
	run(ctx, n.client.Containers)
	if err := ctx.Err(); err != nil {
		n.Errorf("a call still waits: %v", err)
	}
	_ = os.Remove(filepath.Join(n.dir, armFile)) // fewer steps than at the first time
	// Before a monitor is started and after it has ended there is none to be killed.
	if b, err := os.ReadFile(filepath.Join(n.dir, killedFile)); err == nil && string(b) != "0" {
		n.kills++
	}
	_ = os.Remove(filepath.Join(n.dir, killedFile))
}

// die has the daemon killed at step i of a scenario, and starts the next one.
func (n *crashNode) die(run func(context.Context, *client.Engine), i int) {
	n.Helper()
	n.arm(i, theDaemon)
	ctx, cancel := context.WithTimeout(n.Context(), 30*time.Second)
	ended := make(chan struct{})
	child := n.child
	go func() { // calls to a dead daemon are not worth waiting for
		defer close(ended)
		_ = child.Wait()
		cancel()
	}()
	run(ctx, n.client.Containers)
	if _, err := os.Stat(filepath.Join(n.dir, armFile)); errors.Is(err, fs.ErrNotExist) {
		n.kills++
	} else { // fewer steps than at the first time, such as by a race that is none of ours
		_ = child.Process.Signal(syscall.SIGKILL)
	}
	<-ended
	cancel()
	_ = n.client.Close()
	_ = n.alive.Close()
	_ = os.Remove(filepath.Join(n.dir, armFile))
	n.start()
}

// check holds the invariant: nobody is disturbed, nothing leaks, the next call works.
func (n *crashNode) check(bystander *containerizer.Status) {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), 30*time.Second)
	defer cancel()
	e := n.client.Containers
	if s, err := e.Status(ctx, bystander.ID); err != nil || s.State != containerizer.StateRunning || s.PID != bystander.PID {
		n.Errorf("the bystander is %+v, %v", s, err)
	}
	all, err := e.List(ctx, containerizer.Filter{})
	if err != nil {
		n.Fatal(err)
	}
	for i := range all {
		if s := &all[i]; s.Interrupted || len(s.Owed) > 0 || s.State == containerizer.StatePreparing || s.State == containerizer.StateDestroying {
			n.Errorf("after recovery container %q is %s, interrupted %v, owes %q", s.ID, s.State, s.Interrupted, s.Owed)
		}
	}
	const id = containerizer.ContainerID(victim)
	if err := e.Destroy(ctx, id); err != nil {
		n.Errorf("Destroy = %v", err)
	}
	spec := n.spec("exit 3")
	spec.Name = "crash-name"
	if _, err := e.Launch(ctx, id, spec, containerizer.LaunchOptions{}); err != nil {
		n.Errorf("the next Launch = %v", err)
	}
	if t, err := e.Wait(ctx, id); err != nil || t.ExitCode != 3 {
		n.Errorf("it ended as %+v, %v", t, err)
	}
	if err := e.Destroy(ctx, id); err != nil {
		n.Errorf("Destroy = %v", err)
	}
	if left := n.leftovers(); len(left) > 0 {
		n.Errorf("left behind: %q", left)
	}
}

// shared are control groups of several containers, which stay for the next one.
var shared = regexp.MustCompile(`^devices\.[0-9a-f]+$`)

// leftovers lists what there is of victims.
func (n *crashNode) leftovers() []string {
	n.Helper()
	var left []string
	for _, d := range []string{"state/containers", "state/names", "state/owed", "root/records", "root/sandboxes"} {
		found, err := os.ReadDir(filepath.Join(n.dir, d))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			n.Fatal(err)
		}
		for _, f := range found {
			if f.Name() != "stays" && f.Name() != ".lock" {
				left = append(left, filepath.Join(d, f.Name()))
			}
		}
	}
	parent := settings(n.dir).Cgroup.Parent
	groups, err := filepath.Glob("/sys/fs/cgroup/*" + parent + "/*")
	if err != nil {
		n.Fatal(err)
	}
	unified, err := filepath.Glob("/sys/fs/cgroup" + parent + "/*")
	if err != nil {
		n.Fatal(err)
	}
	for _, g := range slices.Concat(groups, unified) {
		if st, err := os.Stat(g); err == nil && st.IsDir() && !strings.Contains(g, "stays") && !shared.MatchString(filepath.Base(g)) {
			left = append(left, g)
		}
	}
	return left
}
