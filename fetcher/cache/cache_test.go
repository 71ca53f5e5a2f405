package cache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/cache"
)

func acquire(t *testing.T, c *cache.Cache, key string) *cache.Slot {
	t.Helper()
	s, err := c.Acquire(t.Context(), cache.Key("", key))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func release(t *testing.T, s *cache.Slot) {
	t.Helper()
	if err := s.Release(); err != nil {
		t.Error(err)
	}
}

// fill makes an entry, which stays open.
func fill(t *testing.T, c *cache.Cache, key string, content []byte) *cache.Entry {
	t.Helper()
	s := acquire(t, c, key)
	defer release(t, s)
	f, err := s.Begin(0, int64(len(content)), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	e, err := s.Commit(cache.Record{URI: key, Version: "v1", Bytes: int64(len(content)), SHA256: digest.FromBytes(content)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func put(t *testing.T, c *cache.Cache, key string, content []byte) {
	t.Helper()
	if err := fill(t, c, key, content).Close(); err != nil {
		t.Fatal(err)
	}
}

// get returns the content of an entry, nil without one.
func get(t *testing.T, c *cache.Cache, key string) []byte {
	t.Helper()
	s := acquire(t, c, key)
	defer release(t, s)
	e, err := s.Entry()
	if err != nil {
		t.Fatal(err)
	}
	if e == nil {
		return nil
	}
	defer e.Close() //nolint:errcheck // read only
	if err := s.Use(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(e.File)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func usage(t *testing.T, c *cache.Cache, entries int, bytes, used int64) {
	t.Helper()
	u, err := c.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if u.Entries != entries || u.Bytes != bytes || u.UsedBytes != used {
		t.Errorf("%d entries, %d bytes, %d in use; want %d, %d and %d", u.Entries, u.Bytes, u.UsedBytes, entries, bytes, used)
	}
}

// age makes an entry look unused for a time.
func age(t *testing.T, root, key string, d time.Duration) {
	t.Helper()
	when := time.Now().Add(-d)
	if err := os.Chtimes(filepath.Join(root, "entries", cache.Key("", key), "record.json"), when, when); err != nil {
		t.Fatal(err)
	}
}

func TestEntries(t *testing.T) {
	root := t.TempDir()
	c := cache.New(root, cache.Options{})
	usage(t, c, 0, 0, 0)
	if get(t, c, "a") != nil {
		t.Error("an empty cache has an entry")
	}
	put(t, c, "a", []byte("one"))
	put(t, c, "b", []byte("other"))
	put(t, c, "a", []byte("second"))
	for _, c := range []*cache.Cache{c, cache.New(root, cache.Options{})} { // another process
		if got := get(t, c, "a"); string(got) != "second" {
			t.Errorf("got %q", got)
		}
		usage(t, c, 2, 11, 0)
	}
	if cache.Key("u", "x") == cache.Key("", "x") || cache.Key("a\x00b", "c") != cache.Key("a", "b\x00c") {
		t.Error("keys do not tell users apart")
	}
}

func TestLeastRecentlyUsedGoesFirst(t *testing.T) {
	root := t.TempDir()
	c := cache.New(root, cache.Options{MaxBytes: 100})
	for i, key := range []string{"old", "used", "new"} {
		put(t, c, key, make([]byte, 30))
		age(t, root, key, time.Duration(10-i)*time.Hour)
	}
	if get(t, c, "used") == nil {
		t.Fatal("an entry is gone")
	}
	age(t, root, "old", 5*time.Hour)
	age(t, root, "new", 6*time.Hour)
	put(t, c, "more", make([]byte, 30))
	for key, want := range map[string]bool{"new": false, "old": true, "used": true, "more": true} {
		if got := get(t, c, key) != nil; got != want {
			t.Errorf("%q is there: %v, want %v", key, got, want)
		}
	}
	usage(t, c, 3, 90, 0)
}

func TestWhatIsReadStays(t *testing.T) {
	c := cache.New(t.TempDir(), cache.Options{MaxBytes: 100})
	open := fill(t, c, "open", []byte(strings.Repeat("x", 60)))
	usage(t, c, 1, 60, 60)
	s := acquire(t, c, "more")
	if _, err := s.Begin(0, 60, "v"); !errors.Is(err, cache.ErrNoRoom) || !errors.Is(err, containerizer.ErrResourceExhausted) {
		t.Errorf("error %v", err)
	}
	release(t, s)
	if n, err := c.Prune(t.Context(), 0); n != 0 || err != nil {
		t.Errorf("prune removes %d bytes, %v", n, err)
	}
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, c, "more", make([]byte, 60))
	usage(t, c, 1, 60, 0)
}

func TestReservations(t *testing.T) {
	root := t.TempDir()
	c, other := cache.New(root, cache.Options{MaxBytes: 100}), cache.New(root, cache.Options{MaxBytes: 100})
	a := acquire(t, c, "a")
	if _, err := a.Begin(0, 70, "v"); err != nil {
		t.Fatal(err)
	}
	usage(t, other, 0, 70, 70)
	b := acquire(t, other, "b")
	if _, err := b.Begin(0, 70, "v"); !errors.Is(err, cache.ErrNoRoom) {
		t.Errorf("70 bytes beside 70 of 100: %v", err)
	}
	f, err := b.Begin(0, 20, "v")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Room(25); err != nil {
		t.Errorf("growing within the room: %v", err)
	}
	if err := b.Room(31); !errors.Is(err, cache.ErrNoRoom) {
		t.Errorf("growing beyond the room: %v", err)
	}
	if err := b.Abandon(); err != nil {
		t.Fatal(err)
	}
	if err := b.Room(1000); err != nil {
		t.Errorf("what was given up grows: %v", err)
	}
	if _, err := f.WriteString("still mine"); err != nil {
		t.Error(err)
	}
	usage(t, c, 0, 70, 70)
	release(t, b)
	release(t, a)
	usage(t, c, 0, 0, 0) // nothing was written to it
	if _, err := acquire(t, c, "c").Begin(0, 101, "v"); !errors.Is(err, cache.ErrNoRoom) {
		t.Errorf("more than the cache: %v", err)
	}
}

func TestOneHolderAtATime(t *testing.T) {
	root := t.TempDir()
	c := cache.New(root, cache.Options{})
	s := acquire(t, c, "a")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := cache.New(root, cache.Options{}).Acquire(ctx, cache.Key("", "a")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	got := make(chan []byte)
	go func() { got <- get(t, c, "a") }()
	f, err := s.Begin(0, 3, "v")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("one"); err != nil {
		t.Fatal(err)
	}
	e, err := s.Commit(cache.Record{Bytes: 3, SHA256: digest.FromString("one")})
	if err != nil {
		t.Fatal(err)
	}
	release(t, s)
	if b := <-got; string(b) != "one" {
		t.Errorf("who waited finds %q", b)
	}
	_ = e.Close()
}

// boot pretends that the entry was made before the node was started again.
func boot(t *testing.T, root, key string) {
	t.Helper()
	path := filepath.Join(root, "entries", cache.Key("", key), "record.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := cache.ParseRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	r.Boot = "another"
	if b, err = json.Marshal(r); err == nil {
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDamage(t *testing.T) {
	content := []byte("content")
	for name, c := range map[string]struct {
		damage func(t *testing.T, root, dir string)
		good   bool
	}{
		"none":         {func(*testing.T, string, string) {}, true},
		"another boot": {func(t *testing.T, root, _ string) { t.Helper(); boot(t, root, "a") }, true},
		"lost by a power cut": {func(t *testing.T, root, dir string) {
			t.Helper()
			boot(t, root, "a")
			write(t, dir+"/data", "c\x00\x00\x00\x00\x00t")
		}, false},
		"short":               {func(t *testing.T, _, dir string) { t.Helper(); write(t, dir+"/data", "cont") }, false},
		"no data":             {func(_ *testing.T, _, dir string) { _ = os.Remove(dir + "/data") }, false},
		"torn record":         {func(t *testing.T, _, dir string) { t.Helper(); write(t, dir+"/record.json", `{"uri":"a","by`) }, false},
		"empty record":        {func(t *testing.T, _, dir string) { t.Helper(); write(t, dir+"/record.json", "") }, false},
		"record without data": {func(t *testing.T, _, dir string) { t.Helper(); write(t, dir+"/record.json", "{}") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			put(t, cache.New(root, cache.Options{}), "a", content)
			c.damage(t, root, filepath.Join(root, "entries", cache.Key("", "a")))
			again := cache.New(root, cache.Options{})
			for range 2 {
				if got := get(t, again, "a"); c.good != bytes.Equal(got, content) || !c.good && got != nil {
					t.Errorf("got %q", got)
				}
			}
			if !c.good {
				usage(t, again, 0, 0, 0)
			}
			put(t, again, "a", content)
			if got := get(t, again, "a"); !bytes.Equal(got, content) {
				t.Errorf("after that %q", got)
			}
		})
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPrune(t *testing.T) {
	root := t.TempDir()
	c := cache.New(filepath.Join(root, "none"), cache.Options{})
	if n, err := c.Prune(t.Context(), 0); n != 0 || err != nil {
		t.Errorf("no cache: %d, %v", n, err)
	}
	c = cache.New(root, cache.Options{})
	put(t, c, "old", make([]byte, 10))
	put(t, c, "new", make([]byte, 20))
	age(t, root, "old", 2*time.Hour)
	if n, err := c.Prune(t.Context(), time.Hour); n != 10 || err != nil {
		t.Errorf("what is old: %d, %v", n, err)
	}
	if n, err := c.Prune(t.Context(), 0); n != 20 || err != nil {
		t.Errorf("the rest: %d, %v", n, err)
	}
	for _, folder := range []string{"entries", "ingest", "locks", "trash"} {
		if left, err := os.ReadDir(filepath.Join(root, folder)); len(left) > 0 || err != nil {
			t.Errorf("in %s is %v, %v", folder, left, err)
		}
	}
}

const childEnv = "BERTH_CACHE_CHILD"

// TestMain is the process that dies in the middle of a download.
func TestMain(m *testing.M) {
	root := os.Getenv(childEnv)
	if root == "" {
		os.Exit(m.Run())
	}
	s, err := cache.New(root, cache.Options{MaxBytes: 100}).Acquire(context.Background(), cache.Key("", "a"))
	if err != nil {
		os.Exit(3)
	}
	f, err := s.Begin(0, 90, "v7")
	if err != nil {
		os.Exit(4)
	}
	if _, err := f.WriteString("the first part"); err != nil {
		os.Exit(5)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func die(t *testing.T, root string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+root)
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child ends with %v", err)
	}
}

// A killed download is gone on with, and its reservation does not count meanwhile.
func TestKilled(t *testing.T) {
	t.Run("resume", func(t *testing.T) {
		root := t.TempDir()
		die(t, root)
		c := cache.New(root, cache.Options{MaxBytes: 100})
		usage(t, c, 0, 14, 0)
		s := acquire(t, c, "a")
		f, version := s.Resume()
		if f == nil || version != "v7" {
			t.Fatalf("there is %v of version %q", f, version)
		}
		if b, err := io.ReadAll(f); string(b) != "the first part" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if again, err := s.Begin(14, 90, "v7"); again != f || err != nil {
			t.Errorf("it goes on with %v, %v", again, err)
		}
		release(t, s)
	})
	t.Run("another wants the room", func(t *testing.T) {
		root := t.TempDir()
		die(t, root)
		c := cache.New(root, cache.Options{MaxBytes: 100})
		put(t, c, "b", make([]byte, 100))
		usage(t, c, 1, 100, 0)
		s := acquire(t, c, "a")
		if f, _ := s.Resume(); f != nil {
			t.Error("the unfinished download is still there")
		}
		release(t, s)
	})
	t.Run("dropped", func(t *testing.T) {
		root := t.TempDir()
		die(t, root)
		c := cache.New(root, cache.Options{MaxBytes: 100})
		s := acquire(t, c, "a")
		s.Resume()
		if err := s.Drop(); err != nil {
			t.Fatal(err)
		}
		release(t, s)
		usage(t, c, 0, 0, 0)
	})
}

// A full disk is said to be full, and its space comes back.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("mounting a tmpfs:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	c := cache.New(root, cache.Options{})
	s := acquire(t, c, "a")
	f, err := s.Begin(0, 4<<20, "v")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 4<<20)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	if _, err := s.Commit(cache.Record{Bytes: 4 << 20, SHA256: digest.FromString("")}); !errors.Is(err, containerizer.ErrResourceExhausted) {
		t.Errorf("error %v", err)
	}
	if err := s.Drop(); err != nil {
		t.Error(err)
	}
	release(t, s)
	usage(t, c, 0, 0, 0)
	put(t, c, "b", make([]byte, 512<<10))
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"uri":"a","version":"v","bytes":1,"sha256":"sha256:` + strings.Repeat("0", 64) + `"}`))
	f.Add([]byte(`{"bytes":-1}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := cache.ParseRecord(b)
		if err != nil {
			if !errors.Is(err, containerizer.ErrDataCorrupt) {
				t.Errorf("%v has no class", err)
			}
			return
		}
		if r.Bytes < 0 || r.SHA256.Validate() != nil || strings.ContainsAny(r.Version, "\r\n") || r.Has("") {
			t.Errorf("%+v is accepted", r)
		}
	})
}
