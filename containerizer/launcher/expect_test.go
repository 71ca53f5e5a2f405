package launcher_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
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
		args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && args[len(args)-1] == id {
			pids = append(pids, pid)
		}
	}
	return pids
}

// awaitMonitors waits until there are n monitors for id.
func awaitMonitors(tb testing.TB, id containerizer.ContainerID, n int) []int {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		pids := monitors(tb, id.String())
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
