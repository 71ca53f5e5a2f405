package terminal

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/berth-dev/berth/containerizer"
)

// Is says whether f is a terminal.
func Is(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// Raw puts the terminal into raw mode: keys go to the container untouched.
// restore brings it back; it may be called several times.
func Raw(f *os.File) (restore func(), err error) { return raw(f, 0) }

// Expect is Raw for the moment before a container runs: its output is shown as it
// comes already, and the keys that interrupt still interrupt.
func Expect(f *os.File) (restore func(), err error) { return raw(f, unix.ISIG) }

// raw keeps the local modes in keep (termios(3)).
func raw(f *os.File, keep uint32) (restore func(), err error) {
	fd := int(f.Fd())
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("raw mode of the terminal: %w", err)
	}
	restore = sync.OnceFunc(func() { _ = term.Restore(fd, old) }) // nothing else can be done
	if keep == 0 {
		return restore, nil
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err == nil {
		t.Lflag |= keep
		err = unix.IoctlSetTermios(fd, unix.TCSETS, t)
	}
	if err != nil {
		restore()
		return nil, fmt.Errorf("mode of the terminal: %w", err)
	}
	return restore, nil
}

// Size is the size of f, the zero value when it cannot be told.
func Size(f *os.File) containerizer.Size {
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 || height <= 0 || width > 0xffff || height > 0xffff {
		return containerizer.Size{}
	}
	return containerizer.Size{Columns: uint16(width), Rows: uint16(height)}
}

// Sizes sends the size of f, and sends it again whenever it changes, until ctx
// ends.
func Sizes(ctx context.Context, f *os.File) <-chan containerizer.Size {
	out := make(chan containerizer.Size, 1)
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	if s := Size(f); s != (containerizer.Size{}) {
		out <- s
	}
	go func() {
		defer close(out)
		defer signal.Stop(changed)
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			select {
			case out <- Size(f):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}
