package launcher_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launcher"
	"github.com/berth-dev/berth/containerizer/monitor/client"
)

// monitors are the pids of the processes whose command line ends with id.
func monitors(tb testing.TB, id string) (pids []int) {
	tb.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range files {
		text, _ := os.ReadFile(f) // it may have ended
		args := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && args[len(args)-1] == id {
			pids = append(pids, pid)
		}
	}
	return pids
}

// awaitMonitors waits until there are n monitors for id.
func awaitMonitors(tb testing.TB, id containerizer.ContainerID, n int) []int {
	tb.Helper()
	return await(tb, n, func() []int { return monitors(tb, id.String()) })
}

// await waits until n processes are found.
func await(tb testing.TB, n int, find func() []int) []int {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		pids := find()
		if len(pids) == n {
			return pids
		}
		if time.Now().After(deadline) {
			tb.Fatalf("monitors: %v, want %d", pids, n)
		}
	}
}

// A monitor that is expected is the one that the launch uses.
func TestExpect(t *testing.T) {
	l := newLauncher(t)
	r := request(t, "echo out")
	l.Expect(r.Container.ID)
	l.Expect(r.Container.ID) // once is enough
	early := awaitMonitors(t, r.Container.ID, 1)
	l.Prepare(testContext(t), r.Container)
	if pids := monitors(t, r.Container.ID.String()); !slices.Equal(pids, early) {
		t.Errorf("monitors at the launch: %v, want %v", pids, early)
	}
	if out, end := run(t, l, r); out != "out\n" || end.ExitCode != 0 {
		t.Errorf("got %q, %+v", out, end)
	}
}

// Nothing stays of a monitor whose launch did not come.
func TestExpectInVain(t *testing.T) {
	l := newLauncher(t)
	id := containerizer.NewContainerID()
	l.Expect(id)
	l.Close()
	awaitMonitors(t, id, 0)
}

// A launcher that keeps monitors gives a root one that runs already, and ends with Close
// those that nobody needed.
func TestSpares(t *testing.T) {
	path, err := monitorBinary()
	if err != nil || os.Getuid() != 0 {
		t.Skipf("containers need root, and berth-monitor: %v", err)
	}
	mark := filepath.Join(t.TempDir(), "no-such-command")
	l, err := launcher.New(launcher.Options{Monitor: path, ExitCommand: []string{mark}, Spares: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	waiting := strings.Repeat(".", client.MaxLate)
	spares := func() []int {
		return slices.DeleteFunc(monitors(t, waiting), func(pid int) bool {
			line, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline") // it may have ended
			return !strings.Contains(string(line), mark)
		})
	}
	if pids := spares(); len(pids) != 0 {
		t.Errorf("spare monitors before the first launch: %v", pids)
	}
	for range 3 {
		before := spares()
		r := request(t, "echo out")
		l.Prepare(testContext(t), r.Container)
		if pids := awaitMonitors(t, r.Container.ID, 1); len(before) > 0 && !slices.Contains(before, pids[0]) {
			t.Errorf("the monitor of the container is %v, none of %v", pids, before)
		}
		if out, end := run(t, l, r); out != "out\n" || end.ExitCode != 0 {
			t.Errorf("got %q, %+v", out, end)
		}
		await(t, 2, spares)
	}
	// One that has died is not used.
	for _, pid := range await(t, 2, spares) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	await(t, 0, spares)
	if out, _ := run(t, l, request(t, "echo again")); out != "again\n" {
		t.Errorf("got %q", out)
	}
	await(t, 2, spares)
	l.Close()
	await(t, 0, spares)
}
