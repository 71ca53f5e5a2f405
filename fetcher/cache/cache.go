package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// DefaultMaxBytes bounds a cache without a setting, as in Mesos.
const DefaultMaxBytes = 2 << 30

// ErrNoRoom says that something does not fit into the cache.
var ErrNoRoom = fmt.Errorf("no room in the cache: %w", containerizer.ErrResourceExhausted)

// Options of a cache. The zero value works.
type Options struct {
	// MaxBytes bounds entries and unfinished downloads together; 0 is DefaultMaxBytes.
	MaxBytes int64
}

// Cache is a cache below one directory. It is safe for concurrent use, and so are
// several over the same directory.
type Cache struct {
	root string
	max  int64
	once sync.Once
	err  error // of making the directories
	boot string
}

// New returns the cache at root, an absolute path. It does no I/O.
func New(root string, o Options) *Cache {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	return &Cache{root: root, max: o.MaxBytes}
}

// Key names the entry of what a user fetches from a URI.
func Key(user, uri string) string {
	sum := sha256.Sum256([]byte(user + "\x00" + uri))
	return hex.EncodeToString(sum[:])
}

func (c *Cache) path(parts ...string) string {
	return filepath.Join(append([]string{c.root}, parts...)...)
}

// init makes the directories, once per process.
func (c *Cache) init() error {
	c.once.Do(func() {
		for _, d := range []string{"locks", "entries", "ingest", "trash"} {
			if err := os.MkdirAll(c.path(d), 0o700); err != nil {
				c.err = fmt.Errorf("make the artifact cache: %w", class(err))
				return
			}
		}
		if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
			c.boot = strings.TrimSpace(string(b)) // "": nothing older than this use is trusted unseen
		}
	})
	return c.err
}

// class adds the error class to errors of the file system.
func class(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("%w: %w", err, containerizer.ErrResourceExhausted)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", err, containerizer.ErrPermission)
	}
	return err
}

// discard takes a directory out of sight and deletes it. On a full disk, where the
// rename may need space, it is deleted in place.
func (c *Cache) discard(path string) error {
	gone := c.path("trash", fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano()))
	err := os.Rename(path, gone)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		gone = path
	}
	return class(os.RemoveAll(gone))
}

// keys lists what is in a folder.
func (c *Cache) keys(folder string) ([]string, error) {
	d, err := os.Open(c.path(folder))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, class(err)
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// lockAll takes the lock under which space is counted.
func (c *Cache) lockAll(ctx context.Context) (*os.File, error) {
	return wait(ctx, c.path("lock"), syscall.LOCK_EX)
}
