//go:build !race

package interp_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/launch/interp"
	"github.com/berth-dev/berth/containerizer/launch/program"
)

// TestCopyHasNothingOfTheParent looks at the memory of a child that has its own: what is
// writable is its stack, and what the runtime has mapped since.
func TestCopyHasNothingOfTheParent(t *testing.T) {
	var b program.Builder
	b.CopyMemory()
	b.Call(unix.SYS_WRITE, program.Progress, b.Text("H"), 1).With(program.FlagFull)
	b.Call(unix.SYS_READ, program.Progress, b.Zeros(1), 1).With(program.FlagFull)
	b.Call(unix.SYS_CLOSE_RANGE, 3, int(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
	execSh(&b, "exit 3")
	c, err := load(t, &b).Spawn(nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, f := next(t, c); p != interp.ProgressHeld {
		t.Fatalf("progress %v %+v, want held", p, f)
	}
	var sizes [2]int
	for i, pid := range []int{os.Getpid(), c.PID} {
		maps, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/maps")
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(maps) {
			var start, end int
			var perms string
			if _, err := fmt.Sscanf(string(line), "%x-%x %s", &start, &end, &perms); err == nil && perms == "rw-p" {
				sizes[i] += end - start
			}
		}
	}
	if sizes[1] > sizes[0]/4 {
		t.Errorf("the child has %d bytes of writable memory of its own, its parent %d", sizes[1], sizes[0])
	}
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	if p, f := next(t, c); p != interp.ProgressRunning {
		t.Errorf("progress %v %+v, want running", p, f)
	}
	if ws := reap(t, c); ws.ExitStatus() != 3 {
		t.Errorf("exit status %d, want 3", ws.ExitStatus())
	}
}
