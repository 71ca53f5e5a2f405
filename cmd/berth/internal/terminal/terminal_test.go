package terminal_test

import (
	"context"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/cmd/berth/internal/terminal"
	"github.com/berth-dev/berth/containerizer"
)

// pty opens a pseudo-terminal.
func pty(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	return slave
}

func setSize(t *testing.T, f *os.File, columns, rows uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
}

func flags(t *testing.T, f *os.File) uint32 {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag
}

func TestRawRestores(t *testing.T) {
	slave := pty(t)
	before := flags(t, slave)
	restore, err := terminal.Raw(slave)
	if err != nil {
		t.Fatal(err)
	}
	if flags(t, slave)&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 {
		t.Error("the terminal is not raw")
	}
	restore()
	restore()
	if got := flags(t, slave); got != before {
		t.Errorf("flags %#x after restore, want %#x", got, before)
	}
}

func TestSizesFollowsTheTerminal(t *testing.T) {
	slave := pty(t)
	setSize(t, slave, 80, 24)
	ctx, cancel := context.WithCancel(t.Context())
	sizes := terminal.Sizes(ctx, slave)
	next := func() containerizer.Size {
		select {
		case s := <-sizes:
			return s
		case <-time.After(10 * time.Second):
			t.Fatal("no size")
			return containerizer.Size{}
		}
	}
	if got := next(); got != (containerizer.Size{Columns: 80, Rows: 24}) {
		t.Errorf("first size %+v", got)
	}
	setSize(t, slave, 100, 30)
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != (containerizer.Size{Columns: 100, Rows: 30}) {
		t.Errorf("second size %+v", got)
	}
	cancel()
	if _, open := <-sizes; open {
		t.Error("a size after the end")
	}
}

func TestIsNot(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // only read
	if terminal.Is(f) || terminal.Is(nil) || terminal.Size(f) != (containerizer.Size{}) {
		t.Error("/dev/null is taken for a terminal")
	}
}
