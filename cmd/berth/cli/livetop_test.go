package cli_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/containerizer"
)

// seenScreen collects what a terminal shows.
type seenScreen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func watchScreen(master *os.File) *seenScreen {
	s := &seenScreen{}
	go func() { // ends with the terminal
		var buf [4096]byte
		for {
			n, err := master.Read(buf[:])
			if err != nil {
				return
			}
			s.mu.Lock()
			s.b.Write(buf[:n])
			s.mu.Unlock()
		}
	}()
	return s
}

// take returns what was shown since the last call, once it has all of want.
func (s *seenScreen) take(t *testing.T, want ...string) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		got, missing := s.b.String(), false
		for _, w := range want {
			missing = missing || !strings.Contains(got, w)
		}
		if !missing {
			s.b.Reset()
		}
		s.mu.Unlock()
		if !missing {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("the screen shows %q, want %q", got, want)
		}
	}
}

func measuredUsage() containerizer.Usage {
	return containerizer.Usage{
		CPU:     &containerizer.CPUUsage{Total: time.Hour, Pressure: &containerizer.Pressure{Some: containerizer.PressureLine{Avg10: 1.5}}},
		Memory:  &containerizer.MemoryUsage{Bytes: 64 << 20, WorkingSetBytes: 32 << 20, LimitBytes: 128 << 20, Pressure: &containerizer.Pressure{Some: containerizer.PressureLine{Avg10: 2.5}}},
		IO:      &containerizer.IOUsage{ReadBytes: 1000, WriteBytes: 2000, Pressure: &containerizer.Pressure{Some: containerizer.PressureLine{Avg10: 3.5}}},
		PIDs:    &containerizer.PIDsUsage{Current: 7},
		Network: []containerizer.NetworkUsage{{Interface: "lo", RxBytes: 99}, {Interface: "eth0", RxBytes: 5, TxBytes: 6}},
		Disk:    &containerizer.DiskUsage{Bytes: 3 << 20, Inodes: 12},
	}
}

func TestTopOfAll(t *testing.T) {
	n := newNode(t)
	n.usage.now = measuredUsage()
	for _, name := range []string{"alpha", "beta"} {
		n.must("run", "-d", "--name", name, "test", "/bin/sleep", "1000")
	}
	lines := strings.Split(n.must("top"), "\n")
	if len(lines) != 3 {
		t.Fatalf("top printed %q, want a heading and two lines", lines)
	}
	want := "alpha 0.0 32M 25.0 0 0 0 0 7 1.5 2.5 3.5 3M running"
	if _, got, _ := strings.Cut(strings.Join(strings.Fields(lines[1]), " "), " "); got != want {
		t.Errorf("top printed %q, want %q", got, want)
	}
	n.fails(125, `--sort "shoe size": there are name, cpu,`, "top", "--sort", "shoe size")
	n.fails(125, "--interval 1ms is shorter than", "top", "--interval", "1ms")
	n.fails(125, "--sort is for the table of all containers", "top", "--sort", "cpu", "alpha")
}

func TestStatsFields(t *testing.T) {
	n := newNode(t)
	n.usage.now = measuredUsage()
	n.must("run", "-d", "--name", "alpha", "test", "/bin/sleep", "1000")
	const form = "{{.CPUPressure}} {{.MemPressure}} {{.IOPressure}} {{.DiskUsage}} {{.DiskInodes}}"
	if got, want := n.must("stats", "--no-stream", "--format", form), "1.50% 2.50% 3.50% 3.15MB 12"; got != want {
		t.Errorf("stats: %q, want %q", got, want)
	}
}

// TestTopOnTerminal: the table is drawn again and again, on a screen of its own, in
// the size of the terminal, and leaves it as it was.
func TestTopOnTerminal(t *testing.T) {
	n := newNode(t)
	n.usage.now = measuredUsage()
	for i := range 5 {
		n.must("run", "-d", "--name", fmt.Sprintf("box%d", i), "test", "/bin/sleep", "1000")
	}
	master, slave := pty(t)
	resize := func(rows, columns uint16) {
		t.Helper()
		if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
			t.Fatal(err)
		}
	}
	resize(40, 200)
	before := localModes(t, slave)
	screen := watchScreen(master)
	ended := make(chan int, 1)
	start := func() {
		go func() {
			app := &cli.App{
				In: slave, Out: slave, Err: slave,
				Open: func(s cli.Settings) (cli.Node, error) { return &opened{node: n, settings: s}, nil },
			}
			ended <- app.Main([]string{"top", "--interval", "200ms"})
		}()
	}
	leave := func(key string) {
		t.Helper()
		if _, err := master.WriteString(key); err != nil {
			t.Fatal(err)
		}
		select {
		case code := <-ended:
			if code != 0 {
				t.Errorf("top ends with %d", code)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("top does not end")
		}
		screen.take(t, "\x1b[?25h\x1b[?1049l")
		if got := localModes(t, slave); got != before {
			t.Errorf("local modes %#x afterwards, want %#x", got, before)
		}
	}

	start()
	first := screen.take(t, "\x1b[?1049h", "box0", "box4", "by cpu", "running")
	if strings.Index(first, "box0") > strings.Index(first, "box4") {
		t.Errorf("equal rows are not by name: %q", first)
	}
	screen.take(t, "\x1b[H", "box4") // drawn again
	if _, err := master.WriteString("m"); err != nil {
		t.Fatal(err)
	}
	screen.take(t, "by memory")
	if _, err := master.WriteString("\x1b[B"); err != nil { // down
		t.Fatal(err)
	}
	eventually(t, "nothing is scrolled", func() bool { return !strings.Contains(lastFrame(screen.take(t, "\x1b[J")), "box0") })
	resize(4, 30)
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil { // nobody's controlling terminal
		t.Fatal(err)
	}
	eventually(t, "the table is not made smaller", func() bool {
		frame := lastFrame(screen.take(t, "\x1b[J"))
		if strings.Count(frame, "\r\n") != 3 {
			return false
		}
		for line := range strings.SplitSeq(frame, "\r\n") {
			if text := strings.NewReplacer("\x1b[H", "", "\x1b[7m", "", "\x1b[m", "", "\x1b[K", "", "\x1b[J", "").Replace(line); len(text) > 30 {
				t.Errorf("the line %q is wider than the screen", text)
			}
		}
		return true
	})
	leave("q")
}

// lastFrame is the last whole table on the screen.
func lastFrame(shown string) string {
	end := strings.LastIndex(shown, "\x1b[J")
	if end < 0 {
		return ""
	}
	begin := strings.LastIndex(shown[:end], "\x1b[H")
	return shown[max(begin, 0):end]
}

// eventually waits until something is so.
func eventually(t *testing.T, problem string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatal(problem)
		}
	}
}
