package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/internal/rawfile"
)

// The ledger file has one line an acquisition or release:
//
//	A <tab> owner <tab> kind <tab> name <newline>
//	R <tab> owner <tab> kind <tab> name <newline>
//
// A line is one write(2). A last line without newline was cut off before its
// resource was acquired; it does not count, and the next writer removes it.

// ownEntries is the owner of the engine's own entries. Isolators' are named by
// them, and none is called so.
const ownEntries = "engine"

// Kinds of the engine's own entries.
const (
	kindOp        = "op"        // a change in progress of a container that stays
	kindName      = "name"      // the claim of a name
	kindLauncher  = "launcher"  // Launcher.Launch may have been called
	kindIsolator  = "isolator"  // Isolator.Prepare may have been called, by name
	kindProvision = "provision" // Provisioner.Provision may have been called
	kindSandbox   = "sandbox"   // the sandbox in ROOT may exist
)

type ledgerEntry struct{ owner, kind, name string }

// Entries that a container has once.

func sandboxEntry() ledgerEntry { return ledgerEntry{ownEntries, kindSandbox, "artifacts"} }
func imageEntry() ledgerEntry   { return ledgerEntry{ownEntries, kindProvision, "image"} }
func processEntry() ledgerEntry { return ledgerEntry{ownEntries, kindLauncher, "process"} }

func (e ledgerEntry) line(op byte) string {
	return string(op) + "\t" + e.owner + "\t" + e.kind + "\t" + e.name + "\n"
}

// entries is what is held, in order of acquisition.
type entries []ledgerEntry

func (h *entries) apply(op byte, e ledgerEntry) {
	i := slices.Index(*h, e)
	switch {
	case op == 'A' && i < 0:
		*h = append(*h, e)
	case op == 'R' && i >= 0:
		*h = slices.Delete(*h, i, i+1)
	}
}

func (h entries) names(owner, kind string) []string {
	var names []string
	for _, e := range h {
		if e.owner == owner && e.kind == kind {
			names = append(names, e.name)
		}
	}
	return names
}

func (h entries) has(owner, kind string) bool {
	return slices.ContainsFunc(h, func(e ledgerEntry) bool { return e.owner == owner && e.kind == kind })
}

// parseLedger reads the whole lines of b. Lines it does not understand are
// passed over: a damaged ledger must still tell what it can.
func parseLedger(b []byte) (held entries, whole int) {
	whole = bytes.LastIndexByte(b, '\n') + 1
	for line := range bytes.Lines(b[:whole]) {
		f := strings.Split(string(line[:len(line)-1]), "\t")
		if len(f) != 4 || len(f[0]) != 1 || f[1] == "" || f[2] == "" {
			continue
		}
		held.apply(f[0][0], ledgerEntry{f[1], f[2], f[3]})
	}
	return held, whole
}

// ledger is a container's ledger, opened by the holder of its lock.
type ledger struct {
	file *os.File

	mu   sync.Mutex // also orders the writes
	held entries
}

// newLedger writes a fresh ledger to f.
func newLedger(f *os.File, first entries) (*ledger, error) {
	l := &ledger{file: f}
	return l, l.add(first...)
}

// loadLedger reads the ledger in f, whose lock the caller holds.
func loadLedger(f *os.File) (*ledger, error) {
	b, err := readAllAt(f)
	if err != nil {
		return nil, err
	}
	held, whole := parseLedger(b)
	if whole < len(b) {
		if err := f.Truncate(int64(whole)); err != nil {
			return nil, fmt.Errorf("cut the torn line of the ledger: %w", err)
		}
	}
	return &ledger{file: f, held: held}, nil
}

func readAllAt(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	b := make([]byte, st.Size())
	n, err := f.ReadAt(b, 0)
	if n < len(b) && err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	return b[:n], nil
}

// add records acquisitions in one write.
func (l *ledger) add(es ...ledgerEntry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, e := range es {
		if !slices.Contains(l.held, e) {
			b.WriteString(e.line('A'))
		}
	}
	if b.Len() == 0 {
		return nil
	}
	if err := l.write(b.String()); err != nil {
		return err
	}
	for _, e := range es {
		l.held.apply('A', e)
	}
	return nil
}

// drop records that e is released. On a full disk it is only forgotten here: what
// is on disk then has it released once more after a crash, which does no harm, and
// must not keep a teardown from making room.
func (l *ledger) drop(e ledgerEntry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.held, e) {
		return nil
	}
	if len(l.held) == 1 { // nothing left: start over, so that restarts do not grow it
		if err := l.file.Truncate(0); err != nil {
			return fmt.Errorf("empty the ledger: %w", err)
		}
	} else if err := l.write(e.line('R')); err != nil && !errors.Is(err, containerizer.ErrResourceExhausted) {
		return err
	}
	l.held.apply('R', e)
	return nil
}

// write appends s with one system call. A short write is taken back.
//
// Preconditions: l.mu is held.
func (l *ledger) write(s string) error {
	n, err := l.file.WriteString(s)
	if err == nil {
		return nil
	}
	if n > 0 {
		if st, serr := l.file.Stat(); serr == nil {
			_ = l.file.Truncate(st.Size() - int64(n)) // a torn line is harmless where this fails
		}
	}
	return fmt.Errorf("write the ledger: %w", outOfSpace(err))
}

// has says whether e is held.
func (l *ledger) has(e ledgerEntry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.held, e)
}

func (l *ledger) snapshot() entries {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.held)
}

// ownedLedger is the view that one isolator has.
type ownedLedger struct {
	*ledger
	owner string
}

var _ containerizer.Ledger = ownedLedger{}

// Acquire implements [containerizer.Ledger].
func (l ownedLedger) Acquire(kind, name string) error {
	if kind == "" || hasControl(kind) || hasControl(name) {
		return fmt.Errorf("record the acquisition of %q %q: the kind is empty or a control character is in it: %w", kind, name, containerizer.ErrInvalid)
	}
	return l.add(ledgerEntry{l.owner, kind, name})
}

// Release implements [containerizer.Ledger].
func (l ownedLedger) Release(kind, name string) error {
	return l.drop(ledgerEntry{l.owner, kind, name})
}

// Held implements [containerizer.Ledger].
func (l ownedLedger) Held(kind string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held.names(l.owner, kind)
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// readLedger reads a ledger without lock; none is an empty one.
func readLedger(path string) (entries, error) {
	b, err := rawfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	held, _ := parseLedger(b)
	return held, err
}

// readerLedger is the view for calls that hold no lock (usage, signals). It reads
// the file when asked, and records nothing.
type readerLedger struct{ path, owner string }

var _ containerizer.Ledger = readerLedger{}

// Acquire implements [containerizer.Ledger].
func (readerLedger) Acquire(kind, name string) error {
	return fmt.Errorf("record the acquisition of %q %q: the container is not locked by this call: %w", kind, name, containerizer.ErrFailedPrecondition)
}

// Release implements [containerizer.Ledger].
func (readerLedger) Release(kind, name string) error {
	return fmt.Errorf("record the release of %q %q: the container is not locked by this call: %w", kind, name, containerizer.ErrFailedPrecondition)
}

// Held implements [containerizer.Ledger].
func (l readerLedger) Held(kind string) []string {
	held, err := readLedger(l.path)
	if err != nil {
		return nil
	}
	return held.names(l.owner, kind)
}
