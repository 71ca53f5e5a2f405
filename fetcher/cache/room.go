package cache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Usage is what the cache takes.
type Usage struct {
	Entries, UsedEntries int
	Bytes, UsedBytes     int64
	MaxBytes             int64
}

// item is an entry or an unfinished download.
type item struct {
	folder, key string
	bytes       int64
	used        time.Time
}

// makeRoom makes room for n bytes of key's download, by removing others.
//
// Preconditions: lockAll is held.
func (c *Cache) makeRoom(n int64, key string) error {
	if n > c.max {
		return fmt.Errorf("%d bytes of at most %d: %w", n, c.max, ErrNoRoom)
	}
	c.emptyTrash()
	items, err := c.items()
	if err != nil {
		return err
	}
	var total int64
	for _, i := range items {
		if i.folder != "ingest" || i.key != key {
			total += i.bytes
		}
	}
	for _, i := range items {
		if total+n <= c.max {
			return nil
		}
		if i.folder == "ingest" && i.key == key {
			continue
		}
		gone, err := c.evict(i)
		if err != nil {
			return err
		}
		if gone {
			total -= i.bytes
		}
	}
	if total+n > c.max {
		return fmt.Errorf("%d bytes beside %d that are in use, of at most %d: %w", n, total, c.max, ErrNoRoom)
	}
	return nil
}

// emptyTrash deletes what a process that was killed left.
func (c *Cache) emptyTrash() {
	names, err := c.keys("trash")
	if err != nil {
		return
	}
	for _, name := range names {
		_ = os.RemoveAll(c.path("trash", name)) // tried again the next time
	}
}

// items lists everything: unfinished downloads first, then entries, each by age of
// their last use. What disappears meanwhile is left out.
func (c *Cache) items() ([]item, error) {
	var all []item
	for _, f := range []struct{ folder, clock string }{{"ingest", "data"}, {"entries", "record.json"}} {
		keys, err := c.keys(f.folder)
		if err != nil {
			return nil, err
		}
		from := len(all)
		for _, key := range keys {
			i := item{folder: f.folder, key: key}
			if st, err := os.Lstat(c.path(f.folder, key, f.clock)); err == nil {
				i.used = st.ModTime()
			}
			if st, err := os.Lstat(c.path(f.folder, key, "data")); err == nil {
				i.bytes = st.Size()
			}
			if f.folder == "ingest" && !c.free(key) {
				i.bytes = max(i.bytes, c.reservation(key))
			}
			all = append(all, i)
		}
		slices.SortFunc(all[from:], func(a, b item) int { return a.used.Compare(b.used) })
	}
	return all, nil
}

func (c *Cache) reservation(key string) int64 {
	b, err := readSmall(c.path("ingest", key, "reserved"))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// free says whether nobody has the slot of key.
func (c *Cache) free(key string) bool {
	f, err := os.Open(c.path("locks", key))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	defer func() { _ = f.Close() }() // a lock
	return flock(f, syscall.LOCK_SH) == nil
}

// evict removes an item that nobody uses.
//
// Preconditions: lockAll is held.
func (c *Cache) evict(i item) (gone bool, err error) {
	if i.folder == "ingest" {
		lock, err := try(c.path("locks", i.key), syscall.LOCK_EX)
		if errors.Is(err, errBusy) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer func() { _ = lock.Close() }() // a lock
		_ = os.Remove(lock.Name())          // one that stays is removed by Prune
		return true, c.discard(c.path(i.folder, i.key))
	}
	data, err := os.Open(c.path(i.folder, i.key, "data"))
	if err == nil {
		defer func() { _ = data.Close() }() // a lock
		if err := flock(data, syscall.LOCK_EX); errors.Is(err, errBusy) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return true, c.discard(c.path(i.folder, i.key)) // one without data is damaged
}

// Prune removes what was not used for a time and is not in use now, and says how
// many bytes that were.
func (c *Cache) Prune(ctx context.Context, unused time.Duration) (int64, error) {
	if _, err := os.Lstat(c.root); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err := c.init(); err != nil {
		return 0, err
	}
	all, err := c.lockAll(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = all.Close() }() // a lock
	c.emptyTrash()
	items, err := c.items()
	if err != nil {
		return 0, err
	}
	var bytes int64
	var errs []error
	for _, i := range items {
		if unused > 0 && time.Since(i.used) < unused {
			continue
		}
		gone, err := c.evict(i)
		if gone {
			bytes += i.bytes
		}
		errs = append(errs, err)
	}
	return bytes, errors.Join(append(errs, c.dropLocks())...)
}

// dropLocks removes lock files that killed processes left.
func (c *Cache) dropLocks() error {
	keys, err := c.keys("locks")
	for _, key := range keys {
		if f, err := try(c.path("locks", key), syscall.LOCK_EX); err == nil {
			_ = os.Remove(f.Name()) // harmless where it stays
			_ = f.Close()           // a lock
		}
	}
	return err
}

// Usage tells what the cache takes. It waits for nobody.
func (c *Cache) Usage() (*Usage, error) {
	items, err := c.items()
	if err != nil {
		return nil, err
	}
	u := &Usage{MaxBytes: c.max}
	for _, i := range items {
		u.Bytes += i.bytes
		if i.folder == "entries" {
			u.Entries++
		}
		if c.inUse(i) {
			u.UsedBytes += i.bytes
			if i.folder == "entries" {
				u.UsedEntries++
			}
		}
	}
	return u, nil
}

func (c *Cache) inUse(i item) bool {
	if !c.free(i.key) {
		return true
	}
	f, err := os.Open(c.path(i.folder, i.key, "data"))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // a lock
	return i.folder == "entries" && errors.Is(flock(f, syscall.LOCK_EX), errBusy)
}
