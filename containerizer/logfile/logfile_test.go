package logfile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/logfile"
)

// at is the time of record n.
func at(n int) time.Time { return time.Date(2026, 1, 2, 3, 4, n, 5, time.UTC) }

func record(n int, tag, text string) string {
	return at(n).Format(time.RFC3339Nano) + " stdout " + tag + " " + text + "\n"
}

func write(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// collect joins the contents of records; lines end in '|'.
func collect(t *testing.T, path string, o logfile.Options) string {
	t.Helper()
	var b strings.Builder
	err := logfile.Read(t.Context(), path, o, func(e logfile.Entry) error {
		b.Write(e.Content)
		if !e.Partial {
			b.WriteByte('|')
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	write(t, path+".2", record(1, "F", "one")+record(2, "F", "two"))
	write(t, path+".1", record(3, "F", "three")+record(4, "P", "fo"))
	write(t, path, record(4, "F", "ur")+record(5, "F", "")+record(6, "F", "six"))
	write(t, path+".bak", record(9, "F", "not ours"))
	for name, c := range map[string]struct {
		o    logfile.Options
		want string
	}{
		"all":             {logfile.Options{Tail: logfile.All}, "one|two|three|four||six|"},
		"none":            {logfile.Options{}, ""},
		"last":            {logfile.Options{Tail: 1}, "six|"},
		"three":           {logfile.Options{Tail: 3}, "four||six|"},
		"four":            {logfile.Options{Tail: 4}, "three|four||six|"},
		"across":          {logfile.Options{Tail: 5}, "two|three|four||six|"},
		"more than there": {logfile.Options{Tail: 50}, "one|two|three|four||six|"},
		"since":           {logfile.Options{Tail: logfile.All, Since: at(5)}, "|six|"},
		"until":           {logfile.Options{Tail: logfile.All, Until: at(2)}, "one|two|"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, collect(t, path, c.o)); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

// A tail must be the end of the whole, whatever the blocks it is read in.
func TestTailAgreesWithWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var text strings.Builder
	for i := range 4000 {
		text.WriteString(record(i%60, "F", strings.Repeat("x", i%257)+fmt.Sprint(i)))
	}
	write(t, path, text.String())
	whole := strings.SplitAfter(collect(t, path, logfile.Options{Tail: logfile.All}), "|")
	whole = whole[:len(whole)-1]
	for _, n := range []int{1, 2, 99, 1000, 3999, 4000} {
		want := strings.Join(whole[len(whole)-n:], "")
		if got := collect(t, path, logfile.Options{Tail: n}); got != want {
			t.Errorf("tail of %d differs: %d bytes, want %d", n, len(got), len(want))
		}
	}
}

func TestReadWithoutFile(t *testing.T) {
	if got := collect(t, filepath.Join(t.TempDir(), "log"), logfile.Options{Tail: logfile.All}); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestReadDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, "garbage\n"+record(1, "F", "one")+strings.TrimSuffix(record(2, "F", "cut"), "\n"))
	if got := collect(t, path, logfile.Options{Tail: logfile.All}); got != "garbage|one|cut|" {
		t.Errorf("got %q", got)
	}
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, record(1, "F", "one")+record(2, "F", "two"))
	ended := make(chan struct{})
	lines := make(chan string)
	result := make(chan error, 1)
	go func() {
		result <- logfile.Read(t.Context(), path, logfile.Options{Tail: 1, Ended: ended}, func(e logfile.Entry) error {
			lines <- string(e.Content)
			return nil
		})
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-lines:
			if got != want {
				t.Fatalf("line %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no line %q", want)
		}
	}
	expect("two")
	write(t, path, record(3, "F", "three")+strings.TrimSuffix(record(4, "F", "four"), "four\n"))
	expect("three")
	write(t, path, "four\n")
	expect("four")
	// Rotated twice before the reader looks.
	write(t, path, record(5, "F", "five"))
	rotate(t, path, record(6, "F", "six"))
	rotate(t, path, record(7, "F", "seven"))
	expect("five")
	expect("six")
	expect("seven")
	write(t, path, record(8, "F", "eight"))
	expect("eight")
	close(ended)
	select {
	case err := <-result:
		if err != nil {
			t.Fatal(err)
		}
	case l := <-lines:
		t.Fatalf("unexpected line %q", l)
	case <-time.After(10 * time.Second):
		t.Fatal("the reader does not end")
	}
}

func rotate(t *testing.T, path, text string) {
	t.Helper()
	for _, r := range [][2]string{{path + ".1", path + ".2"}, {path, path + ".1"}} {
		if err := os.Rename(r[0], r[1]); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	write(t, path, text)
}

func TestFollowEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := logfile.Read(ctx, path, logfile.Options{Tail: logfile.All, Ended: make(chan struct{})}, func(logfile.Entry) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestFollowUntil(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write(t, path, record(1, "F", "one"))
	o := logfile.Options{Tail: logfile.All, Ended: make(chan struct{}), Until: time.Now().Add(20 * time.Millisecond)}
	if got := collect(t, path, o); got != "one|" {
		t.Errorf("got %q", got)
	}
}

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"90s":                  now.Add(-90 * time.Second),
		"2026-01-02":           time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
		"2026-01-02T03:04":     time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC),
		"2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"1136073845.5":         time.Unix(1136073845, 500000000),
	} {
		got, err := logfile.ParseTime(s, now)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "yesterday", "2026-13-01", "1e99"} {
		if got, err := logfile.ParseTime(s, now); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(record(1, "F", "a")+record(2, "P", "b")), 1)
	f.Add([]byte("x\n\n\n"), 2)
	f.Add([]byte(""), 0)
	f.Fuzz(func(t *testing.T, data []byte, tail int) {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		full := 0
		err := logfile.Read(t.Context(), path, logfile.Options{Tail: tail % 50}, func(e logfile.Entry) error {
			if !e.Partial {
				full++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n := tail % 50; n >= 0 && full > n {
			t.Errorf("%d lines, want at most %d", full, n)
		}
	})
}
