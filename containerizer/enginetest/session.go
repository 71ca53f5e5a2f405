package enginetest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// session follows the output file of a container, and feeds its standard input.
type session struct {
	quit chan struct{}
	once sync.Once
	done chan struct{}
	err  error // set before done is closed
}

func newSession(dir string, streams containerizer.IO, offset int64) *session {
	s := &session{quit: make(chan struct{}), done: make(chan struct{})}
	if streams.Stdin != nil {
		go s.feed(dir, streams.Stdin) // ends with the client's stream
	}
	go func() {
		defer close(s.done)
		s.err = s.follow(dir, streams.Stdout, offset)
	}()
	return s
}

func (*session) feed(dir string, from io.Reader) {
	f, err := os.OpenFile(filepath.Join(dir, stdinFIFO), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	for deadline := time.Now().Add(5 * time.Second); errors.Is(err, syscall.ENXIO) && time.Now().Before(deadline); {
		time.Sleep(poll) // until the monitor has opened it
		f, err = os.OpenFile(filepath.Join(dir, stdinFIFO), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	}
	if err != nil {
		return
	}
	defer f.Close()         //nolint:errcheck // a pipe
	_, _ = io.Copy(f, from) // the process may end before its input
}

func (s *session) follow(dir string, to io.Writer, offset int64) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		_, err := os.Stat(filepath.Join(dir, exitFile))
		ended := err == nil
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		n, err := copyFrom(to, filepath.Join(dir, outFile), offset)
		if err != nil {
			return err
		}
		offset += n
		if ended {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.quit:
			return nil
		}
	}
}

func copyFrom(to io.Writer, path string, offset int64) (int64, error) {
	f, err := os.Open(path)
	if err != nil || to == nil {
		return 0, nil // no output yet
	}
	defer f.Close() //nolint:errcheck // only read
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return 0, err
	}
	return io.Copy(to, f)
}

// Wait implements [containerizer.Session].
func (s *session) Wait() error {
	<-s.done
	return s.err
}

// Detach implements [containerizer.Session].
func (s *session) Detach() { s.once.Do(func() { close(s.quit) }) }

// execProcess is a plain child of this process.
type execProcess struct {
	pid     int
	session *execSession
	done    chan struct{}
	t       *containerizer.Termination // set before done is closed
}

type execSession struct{ p *execProcess }

// Wait implements [containerizer.Session].
func (s *execSession) Wait() error {
	<-s.p.done
	return nil
}

// Detach implements [containerizer.Session].
func (*execSession) Detach() {}

// PID implements [containerizer.ExecProcess].
func (p *execProcess) PID() int { return p.pid }

// Session implements [containerizer.ExecProcess].
func (p *execProcess) Session() containerizer.Session {
	if p.session == nil {
		return nil
	}
	return p.session
}

// Wait implements [containerizer.ExecProcess].
func (p *execProcess) Wait(ctx context.Context) (*containerizer.Termination, error) {
	select {
	case <-p.done:
		return p.t, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Signal implements [containerizer.ExecProcess].
func (p *execProcess) Signal(_ context.Context, sig int) error {
	return syscall.Kill(p.pid, syscall.Signal(sig))
}

// Close implements [containerizer.ExecProcess].
func (*execProcess) Close() error { return nil }
