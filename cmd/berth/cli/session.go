package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/cmd/berth/internal/terminal"
	"github.com/berth-dev/berth/containerizer"
)

// errDetached says that the user typed the detach keys.
var errDetached = errors.New("detached")

// streams say what of the client is connected to a process.
type streams struct {
	stdin, stdout, stderr bool
	// tty: the process has a pseudo-terminal.
	tty bool
	// detachKeys leave the process, with a tty.
	detachKeys string
	// sigProxy passes signals on to the process, without a tty.
	sigProxy bool
}

// session is the client's side of a process's streams.
type session struct {
	app  *App
	o    streams
	io   containerizer.IO
	left chan struct{} // closed once the detach keys are typed
	end  context.CancelFunc
	// restore brings the terminal back to what it was; nil when it still is that.
	restore func()
}

// newSession prepares the streams. The terminal is left as it is until launching.
func (a *App) newSession(ctx context.Context, o streams) (*session, error) {
	s := &session{app: a, o: o, left: make(chan struct{})}
	keys, err := terminal.ParseDetachKeys(o.detachKeys)
	if err != nil {
		return nil, err
	}
	if o.stdin && o.tty && !terminal.Is(a.In) {
		return nil, sentencef(containerizer.ErrFailedPrecondition, "input to a process with a terminal (-i with -t) has to be a terminal itself")
	}
	if o.stdin {
		s.io.Stdin = a.In
		if o.tty && len(keys) > 0 {
			s.io.Stdin = &terminal.DetachReader{
				In: a.In, Keys: keys, Detached: sync.OnceFunc(func() { close(s.left) }),
			}
		}
	}
	if o.stdout {
		s.io.Stdout = a.Out
	}
	if o.stderr && !o.tty {
		s.io.Stderr = a.Err
	}
	ctx, s.end = context.WithCancel(ctx)
	if f := a.screen(); o.tty && f != nil {
		s.io.Resize = terminal.Sizes(ctx, f)
	}
	return s, nil
}

// screen is the client's terminal, nil without one.
func (a *App) screen() *os.File {
	if out, ok := a.Out.(*os.File); ok && terminal.Is(out) {
		return out
	}
	if terminal.Is(a.In) {
		return a.In
	}
	return nil
}

// consoleSize is the size to make a pseudo-terminal with; nil when unknown.
func (a *App) consoleSize() *specs.Box {
	f := a.screen()
	if f == nil {
		return nil
	}
	s := terminal.Size(f)
	if s == (containerizer.Size{}) {
		return nil
	}
	return &specs.Box{Width: uint(s.Columns), Height: uint(s.Rows)}
}

// launching runs start, which makes the process or attaches to it, with the terminal
// ready for the first byte of its output.
func (s *session) launching(start func() error) error {
	if s.o.stdin && s.o.tty {
		restore, err := terminal.Expect(s.app.In)
		if err != nil {
			return err
		}
		s.restore = restore
	}
	err := start()
	if err != nil {
		s.reset()
	}
	return err
}

// reset brings the terminal back.
func (s *session) reset() {
	if s.restore != nil {
		s.restore()
		s.restore = nil
	}
}

// target is a process as a session sees it.
type target struct {
	session containerizer.Session // nil when nothing is pumped
	wait    func(context.Context) (*containerizer.Termination, error)
	signal  func(context.Context, int) error
}

// follow connects the terminal and signals until the process ends or the user
// leaves (errDetached).
func (s *session) follow(ctx context.Context, t target) (*containerizer.Termination, error) {
	defer s.end()
	defer s.reset()
	if s.o.stdin && s.o.tty {
		restore, err := terminal.Raw(s.app.In)
		if err != nil {
			return nil, err
		}
		if s.restore == nil {
			s.restore = restore
		}
	}
	if s.o.sigProxy && !s.o.tty {
		ctx = context.WithoutCancel(ctx) // signals are the process's now
		defer s.forward(ctx, t.signal)()
	}
	if err := s.pump(ctx, t.session); err != nil {
		return nil, err
	}
	return t.wait(ctx)
}

// pump waits for the end of the output.
func (s *session) pump(ctx context.Context, c containerizer.Session) error {
	if c == nil {
		return nil
	}
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = c.Wait()
	}()
	select {
	case <-ended:
		if errors.Is(err, io.ErrClosedPipe) || errors.Is(err, syscall.EPIPE) {
			return nil // who read our output left; the process goes on
		}
		return err
	case <-s.left:
		c.Detach()
		<-ended
		return errDetached
	case <-ctx.Done():
		c.Detach()
		<-ended
		return ctx.Err()
	}
}

// forced is how many interrupts end a client whose container does not.
const forced = 3

// forward passes signals on until the returned function is called. The third
// interrupt that changes nothing ends the client, as with Docker.
func (s *session) forward(ctx context.Context, send func(context.Context, int) error) (stop func()) {
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, forwardedSignals()...)
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		interrupts := 0
		for {
			select {
			case <-done:
				return
			case sig := <-signals:
				s.pass(ctx, sig, &interrupts, send)
			}
		}
	}()
	return func() {
		close(done) // the signals stay asked for: the command is about to end
		<-stopped
	}
}

// pass passes one signal on.
func (s *session) pass(ctx context.Context, sig os.Signal, interrupts *int, send func(context.Context, int) error) {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return
	}
	if number == syscall.SIGINT || number == syscall.SIGTERM {
		if *interrupts++; *interrupts == forced {
			_, _ = fmt.Fprintln(s.app.Err, "berth: interrupted three times; the container is left to itself")
			os.Exit(exitSignal + int(number))
		}
	}
	if err := send(ctx, int(number)); err != nil && !errors.Is(err, containerizer.ErrFailedPrecondition) {
		_, _ = fmt.Fprintf(s.app.Err, "berth: pass on signal %d: %s\n", number, message(err))
	}
}

// forwardedSignals are what people and supervisors send to a foreground command.
// Each costs two hand-overs between threads to ask for, so it is not all 64: the
// others end the client as they would any program, and the container goes on.
func forwardedSignals() []os.Signal {
	return []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT, syscall.SIGALRM,
	}
}
