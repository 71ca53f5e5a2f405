package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
)

// Record describes an entry. The first two fields are for people.
type Record struct {
	URI  string `json:"uri"`
	User string `json:"user,omitempty"`
	// Version is what the origin is asked to compare; "" is unknown.
	Version string        `json:"version,omitempty"`
	Bytes   int64         `json:"bytes"`
	SHA256  digest.Digest `json:"sha256"`
	// Checksum is another digest that the content was compared with.
	Checksum digest.Digest `json:"checksum,omitempty"`
	Fetched  time.Time     `json:"fetched"`
	// Boot is the boot whose page cache vouches for the content.
	Boot string `json:"boot"`
}

// maxRecord bounds what is read of a record.
const maxRecord = 64 << 10

// ParseRecord reads a record. Errors: ErrDataCorrupt.
func ParseRecord(b []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("cache record: %w: %w", err, containerizer.ErrDataCorrupt)
	}
	if r.Bytes < 0 || r.SHA256.Validate() != nil || r.SHA256.Algorithm() != digest.SHA256 ||
		r.Checksum != "" && r.Checksum.Validate() != nil || strings.ContainsAny(r.Version, "\r\n\x00") {
		return nil, fmt.Errorf("cache record: a field is not valid: %w", containerizer.ErrDataCorrupt)
	}
	return &r, nil
}

// Has says whether the content is known to have this digest.
func (r *Record) Has(d digest.Digest) bool { return d != "" && (r.SHA256 == d || r.Checksum == d) }

func readRecord(path string) (*Record, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	return ParseRecord(b)
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	return io.ReadAll(io.LimitReader(f, maxRecord))
}

// write writes a small file aside and renames it.
func write(path string, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encode %q: %w", path, err)
	}
	tmp := path + ".new" // the directory is locked by the caller
	err := os.WriteFile(tmp, b.Bytes(), 0o600)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // the first error counts
		return class(err)
	}
	return nil
}

// Entry is a file of the cache that is being read. It stays as long as it is open.
type Entry struct {
	Record
	// File is open for reading.
	File *os.File
}

// Close lets go of the entry.
func (e *Entry) Close() error { return e.File.Close() }

// open opens the entry key. It is nil when there is none or it cannot be used; what
// is damaged is removed.
//
// Preconditions: the caller has the lock of key.
func (c *Cache) open(key string) (*Entry, error) {
	dir := c.path("entries", key)
	r, err := readRecord(dir + "/record.json")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errors.Join(ignoreCorrupt(err), c.discard(dir))
	}
	f, err := os.Open(dir + "/data")
	if err != nil {
		return nil, c.discard(dir)
	}
	if err := shared(f); err != nil { // it is being removed
		_ = f.Close() // nothing was read
		if errors.Is(err, errBusy) {
			err = nil
		}
		return nil, err
	}
	if err := c.trust(key, r, f); err != nil {
		_ = f.Close() // nothing of it is wanted
		return nil, errors.Join(ignoreCorrupt(err), c.discard(dir))
	}
	return &Entry{Record: *r, File: f}, nil
}

// shared locks an entry for reading. Somebody who only looks whether it is in use
// has it for a moment.
func shared(f *os.File) error {
	for range 100 {
		err := flock(f, syscall.LOCK_SH)
		if !errors.Is(err, errBusy) {
			return err
		}
		if _, serr := os.Lstat(f.Name()); serr != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return errBusy
}

func ignoreCorrupt(err error) error {
	if errors.Is(err, containerizer.ErrDataCorrupt) {
		return nil
	}
	return err
}

// trust makes sure that f is what r says: by its size in the boot that made it, by
// its digest once in a later one.
func (c *Cache) trust(key string, r *Record, f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() != r.Bytes {
		return fmt.Errorf("the entry has %d bytes, not %d: %w", st.Size(), r.Bytes, containerizer.ErrDataCorrupt)
	}
	if r.Boot == c.boot && c.boot != "" {
		return nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if digest.NewDigest(digest.SHA256, sum) != r.SHA256 {
		return fmt.Errorf("the entry has another digest than recorded: %w", containerizer.ErrDataCorrupt)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r.Boot, r.Checksum = c.boot, "" // that was not compared again
	return write(c.path("entries", key, "record.json"), r)
}
