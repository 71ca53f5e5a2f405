package logfile_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer/monitor/internal/logfile"
)

var moment = time.Date(2024, 2, 29, 23, 59, 59, 7_000_001, time.UTC)

const momentText = "2024-02-29T23:59:59.007000001Z"

// open returns a writer of the file "log" in dir.
func open(tb testing.TB, dir string, maxBytes int64, keep int) *logfile.Writer {
	tb.Helper()
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	var w logfile.Writer
	if err := w.Open(fd, "log", maxBytes, keep, logfile.NewBuffer()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(w.Close)
	return &w
}

func write(w *logfile.Writer, stream int, text string) {
	w.Write(stream, []byte(text), moment.Unix(), int64(moment.Nanosecond()))
}

func end(w *logfile.Writer, stream int) {
	w.End(stream, moment.Unix(), int64(moment.Nanosecond()))
}

func read(tb testing.TB, dir, name string) string {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func TestEntries(t *testing.T) {
	long := strings.Repeat("x", logfile.MaxLine)
	for _, tt := range []struct {
		name   string
		writes []string
		want   []string // tag and text, all of stdout
	}{
		{"line", []string{"hello\n"}, []string{"F hello"}},
		{"empty lines", []string{"\n\n"}, []string{"F ", "F "}},
		{"in pieces", []string{"he", "l", "lo\nwor", "ld\n"}, []string{"F hello", "F world"}},
		{"no newline at the end", []string{"a\nb"}, []string{"F a", "P b"}},
		{"carriage return", []string{"a\r\n"}, []string{"F a\r"}},
		{"longest line", []string{long + "\n"}, []string{"F " + long}},
		{"too long", []string{long + "yz\n"}, []string{"P " + long, "F yz"}},
		{"too long in pieces", []string{long[:100], long[100:], "y", "z\n"}, []string{"P " + long, "F yz"}},
		{"longest without newline", []string{long}, []string{"P " + long}},
		{"three parts", []string{long + long + "z\n"}, []string{"P " + long, "P " + long, "F z"}},
		{"nothing", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			w := open(t, dir, 0, 0)
			for _, s := range tt.writes {
				write(w, logfile.Stdout, s)
				w.Flush()
			}
			end(w, logfile.Stdout)
			var want string
			for _, e := range tt.want {
				want += momentText + " stdout " + e + "\n"
			}
			if diff := cmp.Diff(want, read(t, dir, "log")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if w.Lost != 0 {
				t.Errorf("%d bytes lost", w.Lost)
			}
		})
	}
}

func TestStreamsKeepTheirLines(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 0, 0)
	write(w, logfile.Stdout, "out ")
	write(w, logfile.Stderr, "err ")
	write(w, logfile.Stdout, "1\n")
	write(w, logfile.Stderr, "2\n")
	w.Flush()
	want := momentText + " stdout F out 1\n" + momentText + " stderr F err 2\n"
	if diff := cmp.Diff(want, read(t, dir, "log")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTimes(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 0, 0)
	var want []string
	for range 2000 {
		at := time.Unix(rand.Int64N(8_000_000_000)-2_000_000_000, rand.Int64N(1e9)).UTC()
		w.Write(logfile.Stdout, []byte("\n"), at.Unix(), int64(at.Nanosecond()))
		want = append(want, at.Format("2006-01-02T15:04:05.000000000Z07:00")+" stdout F ")
	}
	w.Flush()
	got := strings.Split(strings.TrimSuffix(read(t, dir, "log"), "\n"), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// entries returns the entries of a log without their times.
func entries(tb testing.TB, log string) []string {
	tb.Helper()
	var list []string
	for line := range strings.Lines(log) {
		at, rest, _ := strings.Cut(line, " ")
		if _, err := time.Parse(time.RFC3339Nano, at); err != nil || !strings.HasSuffix(line, "\n") {
			tb.Fatalf("torn entry %q", line)
		}
		list = append(list, strings.TrimSuffix(rest, "\n"))
	}
	return list
}

func TestRotation(t *testing.T) {
	const maxBytes = 1000
	for _, keep := range []int{0, 1, 2, 4} {
		t.Run(fmt.Sprint("keep ", keep), func(t *testing.T) {
			dir := t.TempDir()
			w := open(t, dir, maxBytes, keep)
			for i := range 200 {
				write(w, logfile.Stdout, fmt.Sprintf("line %d\n", i))
				if i%7 == 0 {
					w.Flush()
				}
			}
			w.Flush()
			files, _ := filepath.Glob(filepath.Join(dir, "*"))
			if len(files) != max(keep, 1) {
				t.Errorf("files %v, want %d", files, max(keep, 1))
			}
			next := 199
			for i := range files {
				name := "log"
				if i > 0 {
					name = fmt.Sprint("log.", i)
				}
				text := read(t, dir, name)
				if len(text) > maxBytes {
					t.Errorf("%s has %d bytes", name, len(text))
				}
				list := entries(t, text)
				for j, entry := range slices.Backward(list) {
					if want := fmt.Sprintf("stdout F line %d", next); entry != want {
						t.Fatalf("%s entry %d is %q, want %q", name, j, entry, want)
					}
					next--
				}
			}
		})
	}
}

func TestRotationCountsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "log"), bytes.Repeat([]byte("old line\n"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	w := open(t, dir, 920, 2)
	write(w, logfile.Stdout, "new\n")
	w.Flush()
	if got := entries(t, read(t, dir, "log")); !cmp.Equal(got, []string{"stdout F new"}) {
		t.Errorf("new file has %q", got)
	}
}

func TestEntryLongerThanMaximum(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 100, 3)
	for _, s := range []string{"a\n", strings.Repeat("b", 300) + "\n", "c\n"} {
		write(w, logfile.Stdout, s)
	}
	w.Flush()
	got := append(entries(t, read(t, dir, "log.2")), append(entries(t, read(t, dir, "log.1")), entries(t, read(t, dir, "log"))...)...)
	want := []string{"stdout F a", "stdout F " + strings.Repeat("b", 300), "stdout F c"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 0, 0)
	write(w, logfile.Stdout, "one\n")
	w.Flush()
	if err := os.Rename(filepath.Join(dir, "log"), filepath.Join(dir, "moved")); err != nil {
		t.Fatal(err)
	}
	write(w, logfile.Stdout, "two\n")
	w.Flush()
	if err := w.Reopen(); err != nil {
		t.Fatal(err)
	}
	write(w, logfile.Stdout, "three\n")
	w.Flush()
	if got := entries(t, read(t, dir, "moved")); !cmp.Equal(got, []string{"stdout F one", "stdout F two"}) {
		t.Errorf("moved file has %q", got)
	}
	if got := entries(t, read(t, dir, "log")); !cmp.Equal(got, []string{"stdout F three"}) {
		t.Errorf("new file has %q", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fifo", "link", "missing/log"} {
		fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		var w logfile.Writer
		if err := w.Open(fd, name, 0, 0, logfile.NewBuffer()); err == nil {
			w.Close()
			t.Errorf("%s was opened", name)
		}
		if err := syscall.Close(fd); err != syscall.EBADF {
			t.Errorf("%s: the directory was left open: %v", name, err)
		}
	}
}

func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small filesystem")
	}
	dir := t.TempDir()
	if err := syscall.Mount("log-test", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 48<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	w := open(t, dir, 0, 0)
	total := 0
	for i := range 1000 {
		write(w, logfile.Stdout, fmt.Sprintf("line %d\n", i))
		total += len(momentText+" stdout F ") + len(fmt.Sprintf("line %d\n", i))
		if i%50 == 49 {
			w.Flush()
		}
	}
	before := entries(t, read(t, dir, "log"))
	lost := w.Lost
	if size := len(read(t, dir, "log")); lost == 0 || uint64(total) != lost+uint64(size) {
		t.Errorf("%d bytes written, %d lost, want %d in all", size, lost, total)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	write(w, logfile.Stdout, "again\n")
	w.Flush()
	after := entries(t, read(t, dir, "log"))
	want := append(before, fmt.Sprintf("stderr F berth-monitor: %d bytes of the log could not be written", lost), "stdout F again")
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Whatever the pieces, the log holds the bytes that came in.
func FuzzWrite(f *testing.F) {
	f.Add([]byte("hello\nworld\n"), uint64(3), int64(0))
	f.Add(bytes.Repeat([]byte("long"), 9000), uint64(5), int64(300))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64, maxBytes int64) {
		dir := t.TempDir()
		if maxBytes %= 5000; maxBytes < 0 {
			maxBytes = 0
		}
		text = text[:min(len(text), 1<<17)]
		if maxBytes > 0 { // a file an entry at the worst
			text = text[:min(len(text), 1<<9)]
		}
		w := open(t, dir, maxBytes, 1<<15)
		pieces := rand.New(rand.NewPCG(seed, 0))
		for rest := text; len(rest) > 0; {
			n := 1 + pieces.IntN(len(rest))
			write(w, logfile.Stderr, string(rest[:n]))
			if pieces.IntN(2) == 0 {
				w.Flush()
			}
			rest = rest[n:]
		}
		end(w, logfile.Stderr)
		log := read(t, dir, "log")
		for i := 1; ; i++ {
			b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("log.", i)))
			if err != nil {
				break
			}
			log = string(b) + log
		}
		var got []byte
		for _, e := range bytes.SplitAfter([]byte(log), []byte("\n")) {
			if len(e) == 0 {
				continue
			}
			e, ok := bytes.CutPrefix(e, []byte(momentText+" stderr "))
			if !ok || len(e) > logfile.MaxLine+3 {
				t.Fatalf("entry %q", e)
			}
			if e[0] == 'P' {
				e = e[:len(e)-1]
			}
			got = append(got, e[2:]...)
		}
		if !bytes.Equal(got, text) {
			t.Errorf("log holds %q, want %q", got, text)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	w := open(b, b.TempDir(), 10<<20, 2)
	chunk := bytes.Repeat([]byte(strings.Repeat("x", 79)+"\n"), 400)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		w.Write(logfile.Stdout, chunk, moment.Unix(), 0)
		w.Flush()
	}
}
