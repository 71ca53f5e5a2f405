package engine

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

func started(id containerizer.ContainerID) containerizer.Event {
	return containerizer.Event{At: time.Now(), Type: containerizer.EventStarted, ID: id}
}

// TestJournalClockSetBack: events written after the clock was set back are behind
// those written before.
func TestJournalClockSetBack(t *testing.T) {
	folder := t.TempDir()
	ahead := journalNumber(time.Now()) + 5
	if err := os.WriteFile(filepath.Join(folder, strconv.FormatInt(ahead, 10)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	follow, err := newTail(folder, 0)
	if err != nil {
		t.Fatal(err)
	}
	j := journal{folder: folder}
	t.Cleanup(func() { _ = j.close() })
	var last uint64
	for _, id := range []containerizer.ContainerID{"a", "b"} {
		if err := j.add(started(id)); err != nil {
			t.Fatal(err)
		}
		events, _ := follow.next()
		if len(events) != 1 || events[0].ID != id || events[0].Sequence <= last {
			t.Fatalf("after %q was added the journal has %+v, want it alone with a number above %d", id, events, last)
		}
		last = events[0].Sequence
	}
	if number, _ := fromSequence(last); number != ahead {
		t.Errorf("the events are in file %d, want %d", number, ahead)
	}
}

// TestTailSeesLateWriters: a process that had the file before the newest open still
// is heard.
func TestTailSeesLateWriters(t *testing.T) {
	folder := t.TempDir()
	j := journal{folder: folder}
	t.Cleanup(func() { _ = j.close() })
	if err := j.add(started("a")); err != nil {
		t.Fatal(err)
	}
	follow, err := newTail(folder, 0)
	if err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(folder, strconv.FormatInt(j.number+1, 10))
	if err := os.WriteFile(newer, []byte(`{"type":"started","id":"new"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if events, _ := follow.next(); len(events) != 1 || events[0].ID != "new" {
		t.Errorf("the new file gave %+v", events)
	}
	if _, err := j.file.WriteString(`{"type":"started","id":"late"}` + "\n"); err != nil {
		t.Fatal(err)
	}
	if events, _ := follow.next(); len(events) != 1 || events[0].ID != "late" {
		t.Errorf("the older file gave %+v", events)
	}
}

// TestTailDamage: lines that are no events are passed over, however long.
func TestTailDamage(t *testing.T) {
	folder := t.TempDir()
	content := append(make([]byte, 2*tailChunk+5), "\nnonsense\n{\"id\":\"x\"}\n{\"id\":\"half"...)
	if err := os.WriteFile(filepath.Join(folder, "7"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	follow := &tail{folder: folder, offsets: map[int64]int64{}}
	var got []containerizer.Event
	for more := true; more; {
		var events []containerizer.Event
		events, more = follow.next()
		got = append(got, events...)
	}
	if len(got) != 1 || got[0].ID != "x" {
		t.Errorf("got %+v, want the event of x", got)
	}
}

// TestJournalRotatesBySize bounds what a burst leaves.
func TestJournalRotatesBySize(t *testing.T) {
	j := journal{folder: t.TempDir()}
	t.Cleanup(func() { _ = j.close() })
	for range 4 {
		if err := j.add(started("a")); err != nil {
			t.Fatal(err)
		}
		if err := j.file.Truncate(journalBytes + 1); err != nil { // sparse
			t.Fatal(err)
		}
	}
	if n := len(j.numbers()); n != journalKept {
		t.Errorf("%d files are kept, want %d", n, journalKept)
	}
}
