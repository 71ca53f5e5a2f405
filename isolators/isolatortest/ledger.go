package isolatortest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/berth-dev/berth/containerizer"
)

// Fault says what happens at an acquisition that a [Ledger] was told to spoil.
type Fault int

// Faults.
const (
	// FaultRefuse returns an error and records nothing, as a full disk does.
	FaultRefuse Fault = iota + 1
	// FaultAfterRecord records the acquisition and returns an error, so that the
	// ledger names a resource that never came to be.
	FaultAfterRecord
	// FaultCrash records the acquisition and panics with [ErrCrash], as if the
	// process had been killed between the record and the resource.
	FaultCrash
)

var (
	// ErrFault is returned by a spoilt acquisition.
	ErrFault = errors.New("ledger fault of the test")
	// ErrCrash is what [FaultCrash] panics with.
	ErrCrash = errors.New("crash of the test")
)

type entry struct{ kind, name string }

// Ledger is a [containerizer.Ledger] in memory. The zero value is ready.
type Ledger struct {
	mu      sync.Mutex
	held    []entry
	acquire int // acquisitions so far
	failAt  int
	fault   Fault
}

var _ containerizer.Ledger = (*Ledger)(nil)

// FailAt spoils the n-th acquisition from now on, counted from 1; 0 spoils none.
func (l *Ledger) FailAt(n int, f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acquire, l.failAt, l.fault = 0, n, f
}

// Acquisitions says how many there were since the last FailAt.
func (l *Ledger) Acquisitions() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acquire
}

// Acquire implements [containerizer.Ledger].
func (l *Ledger) Acquire(kind, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if kind == "" || strings.ContainsFunc(kind+name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("acquire %q %q: kind is empty or a control character is in it: %w", kind, name, containerizer.ErrInvalid)
	}
	l.acquire++
	spoil := l.failAt > 0 && l.acquire == l.failAt
	if spoil && l.fault == FaultRefuse {
		return ErrFault
	}
	if e := (entry{kind, name}); !slices.Contains(l.held, e) {
		l.held = append(l.held, e)
	}
	switch {
	case spoil && l.fault == FaultCrash:
		panic(ErrCrash)
	case spoil:
		return ErrFault
	}
	return nil
}

// Release implements [containerizer.Ledger].
func (l *Ledger) Release(kind, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.held, entry{kind, name}); i >= 0 {
		l.held = slices.Delete(l.held, i, i+1)
	}
	return nil
}

// Held implements [containerizer.Ledger].
func (l *Ledger) Held(kind string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, e := range l.held {
		if e.kind == kind {
			names = append(names, e.name)
		}
	}
	return names
}

// All lists everything held, as "kind name".
func (l *Ledger) All() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, e := range l.held {
		all = append(all, e.kind+" "+e.name)
	}
	return all
}
