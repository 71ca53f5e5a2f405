package client

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// Exit tells how a process ended.
type Exit struct {
	Status     syscall.WaitStatus
	FinishedAt time.Time
	// LogLost counts bytes that could not be written to the log.
	LogLost uint64
}

// Signal sends a signal to the process of an element.
func (c *Client) Signal(ctx context.Context, name string, signal syscall.Signal) error {
	if signal <= 0 || signal > 64 {
		return fmt.Errorf("signal %d: %w", int(signal), containerizer.ErrInvalid)
	}
	_, err := c.ask(ctx, wire.Header{Type: wire.TypeSignal}, wire.Signal{Signal: uint8(signal), Name: []byte(name)}, wire.TypeOK)
	return about(name, err)
}

// Wait returns how the process of an element ended, once it has. The monitor
// forgets an element when its output has ended too: ErrNotFound then, and the exit
// record has the answer.
func (c *Client) Wait(ctx context.Context, name string) (Exit, error) {
	r, err := c.ask(ctx, wire.Header{Type: wire.TypeWait}, wire.Name(name), wire.TypeExited)
	if r.kind == wire.TypeFailed {
		return Exit{}, about(name, programError(r.body))
	}
	if err != nil {
		return Exit{}, about(name, err)
	}
	return exit(r.body)
}

// ReopenLog opens the log file of an element anew, after it was renamed.
func (c *Client) ReopenLog(ctx context.Context, name string) error {
	_, err := c.ask(ctx, wire.Header{Type: wire.TypeReopenLog}, wire.Name(name), wire.TypeOK)
	return about(name, err)
}

// Force says whether living processes are killed.
type Force bool

// Shutdown ends the monitor without its exit command. Without force it is
// ErrFailedPrecondition while processes live; with force they are killed.
func (c *Client) Shutdown(ctx context.Context, force Force) error {
	var flags uint16
	if force {
		flags = wire.ShutdownForce
	}
	if _, err := c.ask(ctx, wire.Header{Type: wire.TypeShutdown, Flags: flags}, nil, wire.TypeOK); err != nil {
		return fmt.Errorf("shut the monitor down: %w", err)
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Element is what a monitor knows of one container or exec session.
type Element struct {
	Name       string
	State      wire.State
	Exec       bool
	PID        int
	StartTicks uint64
	StartedAt  time.Time // zero before its execve
	Sessions   int
	LogLost    uint64
}

// List returns the elements that are alive, or whose output is.
func (c *Client) List(ctx context.Context) ([]Element, error) {
	tag, k, err := c.open(1024+1, nil)
	if err != nil {
		return nil, err
	}
	defer c.forget(tag)
	if err := c.send(wire.Header{Type: wire.TypeList, Tag: tag}, nil); err != nil {
		return nil, err
	}
	var list []Element
	for {
		r, err := c.next(ctx, k)
		switch {
		case err != nil:
			return nil, err
		case r.kind == wire.TypeOK:
			return list, nil
		case r.kind != wire.TypeElement:
			return nil, unexpected(r.kind)
		}
		m, err := wire.ParseElement(r.body)
		if err != nil {
			return nil, err
		}
		list = append(list, Element{
			Name: string(m.Name), State: m.State, Exec: m.Exec != 0, PID: int(m.PID), StartTicks: m.StartTicks,
			StartedAt: moment(m.StartedAt), Sessions: int(m.Sessions), LogLost: m.LogLost,
		})
	}
}

// Namespace is one that a monitor holds open.
type Namespace struct {
	// Kind is a CLONE_NEW* flag.
	Kind uint64
	// FD is its number in the monitor: /proc/MONITOR/fd/FD opens it.
	FD int
}

// End says whether a process that was there for its namespaces is ended.
type End bool

// HoldNamespaces keeps namespaces of an element's process open in the monitor, by
// CLONE_NEW* flags. With end the process, which is at the barrier or held, is
// ended, and the element lives on as its namespaces; no kinds end that.
func (c *Client) HoldNamespaces(ctx context.Context, name string, kinds uint64, end End) ([]Namespace, error) {
	m := wire.HoldNamespaces{Kinds: wire.NamespaceSet(kinds), Name: []byte(name)}
	if end {
		m.End = 1
	}
	r, err := c.ask(ctx, wire.Header{Type: wire.TypeHoldNamespaces}, m, wire.TypeNamespaces)
	closeAll(r.fds) // the path is enough
	if err != nil {
		return nil, about(name, err)
	}
	held, err := wire.ParseNamespaces(r.body)
	if err != nil {
		return nil, err
	}
	list := make([]Namespace, len(held.Held))
	for i, n := range held.Held {
		list[i] = Namespace{Kind: uint64(n.Kind), FD: int(n.FD)}
	}
	return list, nil
}

// about says which element an error is about.
func about(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("process %q: %w", name, err)
}

func exit(body []byte) (Exit, error) {
	m, err := wire.ParseExited(body)
	return Exit{Status: syscall.WaitStatus(m.WaitStatus), FinishedAt: moment(m.FinishedAt), LogLost: m.LogLost}, err
}

func programError(body []byte) error {
	m, err := wire.ParseFailed(body)
	if err != nil {
		return err
	}
	return &ProgramError{Op: m.Op, Errno: syscall.Errno(m.Errno)}
}

// moment is the time of nanoseconds since 1970; 0 is the zero time.
func moment(ns uint64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(ns))
}
