package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/internal/leanjson"
)

// The journal is how processes of berth hear of what others did, and how Wait
// answers for containers that are gone. A file covers journalSpan, or less when very
// much happens; the one before the current one is kept, so that an event is
// remembered for at least that long. When the clock is set back the newest file stays
// the current one until the clock has caught up.
const (
	journalSpan  = 5 * time.Minute
	journalKept  = 2 // files
	journalBytes = 64 << 20
)

type journal struct {
	folder string

	mu     sync.Mutex
	file   *os.File // the current one, kept open
	number int64
}

func journalNumber(at time.Time) int64 { return at.Unix() / int64(journalSpan/time.Second) }

// add appends events with one write.
func (j *journal) add(events ...containerizer.Event) error {
	var lines []byte
	for _, ev := range events {
		b, err := leanjson.Marshal(ev)
		if err != nil {
			return fmt.Errorf("encode an event: %w", err)
		}
		lines = append(append(lines, b...), '\n')
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.open(journalNumber(time.Now())); err != nil {
		return fmt.Errorf("open the journal: %w", outOfSpace(err))
	}
	if _, err := j.file.Write(lines); err != nil {
		return fmt.Errorf("write the journal: %w", outOfSpace(err))
	}
	return nil
}

// open makes number the current file, or the newest if that is a later one. Who makes
// a file removes the old ones.
//
// Preconditions: j.mu is held.
func (j *journal) open(number int64) error {
	if j.file != nil {
		st, err := j.file.Stat()
		if err == nil && st.Size() > journalBytes {
			number = max(number, j.number+1)
		}
		if j.number >= number {
			return nil
		}
		_ = j.file.Close() // every write was checked
		j.file = nil
	}
	if all := j.numbers(); len(all) > 0 {
		number = max(number, all[len(all)-1])
	}
	path := filepath.Join(j.folder, strconv.FormatInt(number, 10))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err == nil {
			j.prune()
		}
	}
	if err != nil {
		return err
	}
	j.file, j.number = f, number
	return nil
}

func (j *journal) prune() {
	numbers := j.numbers()
	for _, n := range numbers[:max(0, len(numbers)-journalKept)] {
		_ = os.Remove(filepath.Join(j.folder, strconv.FormatInt(n, 10))) // next time, then
	}
}

// numbers lists the files, oldest first.
func (j *journal) numbers() []int64 {
	found, err := os.ReadDir(j.folder)
	if err != nil {
		return nil
	}
	var numbers []int64
	for _, f := range found {
		if n, err := strconv.ParseInt(f.Name(), 10, 64); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// termination looks for how id ended last.
func (j *journal) termination(id containerizer.ContainerID) *containerizer.Termination {
	for _, n := range slices.Backward(j.numbers()) {
		b, err := os.ReadFile(filepath.Join(j.folder, strconv.FormatInt(n, 10)))
		if err != nil {
			continue // pruned meanwhile
		}
		var last *containerizer.Termination
		for _, ev := range parseJournal(b) {
			if ev.ID == id && ev.Termination != nil {
				last = ev.Termination
			}
		}
		if last != nil {
			return last
		}
	}
	return nil
}

// parseJournal yields the events of b's whole lines with the offsets of their ends,
// passing over damaged ones.
func parseJournal(b []byte) iter.Seq2[int64, containerizer.Event] {
	return func(yield func(int64, containerizer.Event) bool) {
		end := int64(0)
		for line := range bytes.Lines(b) {
			end += int64(len(line))
			var ev containerizer.Event
			if line[len(line)-1] != '\n' || json.Unmarshal(line, &ev) != nil {
				continue
			}
			if !yield(end, ev) {
				return
			}
		}
	}
}

// event notes what happened to id. It fails nothing: the state is recorded.
func (e *Engine) event(id containerizer.ContainerID, t *containerizer.Termination, types ...containerizer.EventType) {
	now := time.Now().UTC()
	events := make([]containerizer.Event, 0, len(types))
	for _, typ := range types {
		ev := containerizer.Event{At: now, Type: typ, ID: id}
		if typ == containerizer.EventExited || typ == containerizer.EventDestroyed {
			ev.Termination = t
		}
		events = append(events, ev)
	}
	if err := e.journal.add(events...); err != nil {
		e.log.Warn("an event is lost", fieldID(id), fieldError(err))
	}
}
