package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// step is how much is reserved at once for a download of unknown size.
const step = 16 << 20

// Slot is the right to make or check one entry. One holder at a time has it, in any
// process; it is used by one goroutine.
type Slot struct {
	c    *Cache
	ctx  context.Context //nolint:containedctx // a slot lives within one call
	key  string
	lock *os.File

	file      *os.File // of the download
	version   string
	reserved  int64
	abandoned bool
}

// state is the content of state.json.
type state struct {
	Version string `json:"version"`
	Boot    string `json:"boot"`
}

// Acquire waits for the slot of key. ctx bounds all that the slot waits for.
func (c *Cache) Acquire(ctx context.Context, key string) (*Slot, error) {
	if err := c.init(); err != nil {
		return nil, err
	}
	lock, err := wait(ctx, c.path("locks", key), syscall.LOCK_EX)
	if err != nil {
		return nil, err
	}
	return &Slot{c: c, ctx: ctx, key: key, lock: lock}, nil
}

func (s *Slot) ingest(name ...string) string {
	return s.c.path(append([]string{"ingest", s.key}, name...)...)
}

// Entry returns the entry, or nil when there is none. The caller closes it; it stays
// good after the slot is released.
func (s *Slot) Entry() (*Entry, error) { return s.c.open(s.key) }

// Use notes that the entry is used now, and has this version.
func (s *Slot) Use() error {
	now := time.Now()
	err := os.Chtimes(s.c.path("entries", s.key, "record.json"), now, now)
	if errors.Is(err, os.ErrNotExist) { // evicted: whoever has it open reads on
		return nil
	}
	return class(err)
}

// Resume returns what an earlier download left, and its version; nil when there is
// nothing that could be gone on with.
func (s *Slot) Resume() (*os.File, string) {
	b, err := readSmall(s.ingest("state.json"))
	if err != nil {
		return nil, ""
	}
	var st state
	if json.Unmarshal(b, &st) != nil || st.Version == "" || strings.ContainsAny(st.Version, "\r\n\x00") || st.Boot != s.c.boot || st.Boot == "" {
		return nil, ""
	}
	f, err := os.OpenFile(s.ingest("data"), os.O_RDWR, 0)
	if err != nil {
		return nil, ""
	}
	s.file, s.version = f, st.Version
	return f, st.Version
}

// Begin prepares for a download of size bytes (-1 is unknown) and returns the file
// for it. With keep it goes on with the file of Resume or of an earlier Begin.
// Errors: ErrNoRoom.
func (s *Slot) Begin(keep, size int64, version string) (*os.File, error) {
	if s.abandoned {
		return s.file, nil
	}
	if keep == 0 {
		if err := s.create(version); err != nil {
			return nil, err
		}
	}
	if size < 0 {
		size = keep + step
	}
	return s.file, s.reserve(size)
}

// create makes an empty file for a download in place of what is there.
func (s *Slot) create(version string) error {
	if err := s.drop(); err != nil {
		return err
	}
	s.version, s.reserved = version, 0
	if err := os.Mkdir(s.ingest(), 0o700); err != nil {
		return fmt.Errorf("begin a download into the cache: %w", class(err))
	}
	if err := write(s.ingest("state.json"), state{version, s.c.boot}); err != nil {
		return fmt.Errorf("begin a download into the cache: %w", err)
	}
	f, err := os.OpenFile(s.ingest("data"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("begin a download into the cache: %w", class(err))
	}
	s.file = f
	return nil
}

// Room makes sure that there is room for size bytes. Errors: ErrNoRoom.
func (s *Slot) Room(size int64) error {
	if s.abandoned || size <= s.reserved {
		return nil
	}
	if err := s.reserve(max(size, 2*s.reserved)); err == nil || !errors.Is(err, ErrNoRoom) {
		return err
	}
	return s.reserve(size)
}

// reserve sets n bytes aside, and makes room for them.
func (s *Slot) reserve(n int64) error {
	if n <= s.reserved {
		return nil
	}
	all, err := s.c.lockAll(s.ctx)
	if err != nil {
		return err
	}
	defer func() { _ = all.Close() }() // a lock
	if err := s.c.makeRoom(n, s.key); err != nil {
		return err
	}
	if err := os.WriteFile(s.ingest("reserved"), []byte(strconv.FormatInt(n, 10)), 0o600); err != nil {
		return fmt.Errorf("reserve %d bytes of the cache: %w", n, class(err))
	}
	s.reserved = n
	return nil
}

// Abandon gives the download up as an entry; its file goes on without a name, and
// takes no room of the cache. Whoever has it closes it.
func (s *Slot) Abandon() error {
	s.abandoned = true
	return s.c.discard(s.ingest())
}

// Drop removes the unfinished download.
func (s *Slot) Drop() error {
	if s.abandoned {
		return nil
	}
	return s.drop()
}

func (s *Slot) drop() error {
	if s.file != nil {
		_ = s.file.Close() // nothing of it is wanted
		s.file = nil
	}
	return s.c.discard(s.ingest())
}

// Commit makes the download the entry, and opens it.
func (s *Slot) Commit(r Record) (*Entry, error) {
	if s.file == nil || s.abandoned {
		return nil, fmt.Errorf("commit a cache entry without a download: %w", containerizer.ErrFailedPrecondition)
	}
	r.Boot, r.Fetched = s.c.boot, time.Now().UTC()
	if err := write(s.ingest("record.json"), &r); err != nil {
		return nil, err
	}
	err := s.file.Close() // reports a failed write on some file systems
	s.file = nil
	for _, name := range []string{"state.json", "reserved"} {
		err = errors.Join(err, os.Remove(s.ingest(name)))
	}
	if err != nil {
		return nil, errors.Join(class(err), s.drop())
	}
	all, err := s.c.lockAll(s.ctx)
	if err != nil {
		return nil, errors.Join(err, s.drop())
	}
	defer func() { _ = all.Close() }() // a lock
	if err := s.c.discard(s.c.path("entries", s.key)); err != nil {
		return nil, errors.Join(err, s.drop())
	}
	if err := os.Rename(s.ingest(), s.c.path("entries", s.key)); err != nil {
		return nil, errors.Join(class(err), s.drop())
	}
	e, err := s.Entry()
	if err == nil && e == nil {
		err = fmt.Errorf("the new cache entry is gone: %w", containerizer.ErrUnavailable)
	}
	return e, err
}

// Discard removes the unfinished download and the entry: they are not what was wanted.
func (s *Slot) Discard() error {
	return errors.Join(s.Drop(), s.c.discard(s.c.path("entries", s.key)))
}

// Release gives the slot up. An unfinished download stays for the next holder, unless
// nobody could go on with it.
func (s *Slot) Release() error {
	var err error
	if s.file != nil && !s.abandoned {
		if st, serr := s.file.Stat(); s.version == "" || serr != nil || st.Size() == 0 {
			err = s.drop()
		} else {
			_ = os.Remove(s.ingest("reserved")) // what is there counts
		}
	}
	if s.file != nil && !s.abandoned {
		_ = s.file.Close() // it is unfinished
	}
	_ = os.Remove(s.lock.Name()) // one that stays is removed by PruneCache
	return errors.Join(err, s.lock.Close())
}
