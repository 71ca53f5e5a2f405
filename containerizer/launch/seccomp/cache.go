package seccomp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const (
	// fileMagic begins a cache file, with the version of its form. After it come the
	// key, the flags (4 bytes), the instructions, and a SHA-256 of all of this.
	fileMagic  = "berth seccomp 1\n"
	headerSize = len(fileMagic) + sha256.Size + 4
	// maxFileSize is that of the largest program.
	maxFileSize = headerSize + maxInstructions*sockFilterSize + sha256.Size

	// maxFiles bounds the directory, as profiles may come from outside; the oldest
	// half goes when it is reached.
	maxFiles = 256
	// maxRecent bounds the programs held in memory.
	maxRecent = 32
	fileExt   = ".bpf"
)

// Cache compiles profiles and remembers the programs, in memory and as files. It
// is safe for concurrent use, by several processes too: files are written aside
// and renamed. A file that is damaged or missing costs a compilation.
type Cache struct {
	dir string

	mu     sync.Mutex
	recent map[key]*Filter
}

// NewCache returns a cache that keeps its files in dir, which is made (0700) when
// first needed. With "" it remembers in memory only.
func NewCache(dir string) *Cache {
	return &Cache{dir: dir, recent: map[key]*Filter{}}
}

// Filter returns the program of profile p. It compiles what it does not have;
// errors are those of [Compile]. A directory that cannot be used is no error: the
// filter is as good without.
func (c *Cache) Filter(p *specs.LinuxSeccomp) (*Filter, error) {
	k := profileKey(p)
	c.mu.Lock()
	f := c.recent[k]
	c.mu.Unlock()
	if f != nil {
		return f, nil
	}
	if f = c.read(k); f == nil {
		var err error
		if f, err = Compile(p); err != nil {
			return nil, err
		}
		_ = c.write(k, f) // the next one compiles again, nothing else
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.recent) >= maxRecent {
		clear(c.recent)
	}
	c.recent[k] = f
	return f, nil
}

func fileName(k key) string { return hex.EncodeToString(k[:]) + fileExt }

// read returns the filter in the file for k, nil if there is no good one.
func (c *Cache) read(k key) *Filter {
	if c.dir == "" {
		return nil
	}
	file, err := os.Open(filepath.Join(c.dir, fileName(k)))
	if err != nil {
		return nil
	}
	defer file.Close() //nolint:errcheck // only read from
	var buf [maxFileSize + 1]byte
	n, err := io.ReadFull(file, buf[:])
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil // empty, too long or unreadable
	}
	f, err := decodeFilter(k, buf[:n])
	if err != nil {
		return nil
	}
	return f
}

// write stores f. Without sync: after a crash of the node an incomplete file fails
// its checksum.
func (c *Cache) write(k key, f *Filter) (err error) {
	if c.dir == "" {
		return nil
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	c.trim()
	file, err := os.CreateTemp(c.dir, "new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // nothing more to do; trim takes it some day
		}
	}()
	_, err = file.Write(encodeFilter(k, f))
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(c.dir, fileName(k)))
}

// trim removes the older half of the files once there are too many, left-overs of
// killed writers included.
func (c *Cache) trim() {
	entries, err := os.ReadDir(c.dir)
	if err != nil || len(entries) < maxFiles {
		return
	}
	files := make([]fs.FileInfo, 0, len(entries))
	for _, e := range entries {
		info, err := e.Info()
		ours := strings.HasSuffix(e.Name(), fileExt) || strings.HasPrefix(e.Name(), "new-")
		if err == nil && ours && info.Mode().IsRegular() {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files[:len(files)/2] {
		_ = os.Remove(filepath.Join(c.dir, f.Name())) // somebody else may have, or it stays
	}
}

func encodeFilter(k key, f *Filter) []byte {
	b := make([]byte, 0, headerSize+len(f.Instructions)*sockFilterSize+sha256.Size)
	b = append(b, fileMagic...)
	b = append(b, k[:]...)
	b = binary.NativeEndian.AppendUint32(b, uint32(f.Flags))
	b = appendInstructions(b, f.Instructions)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func decodeFilter(k key, data []byte) (*Filter, error) {
	body := len(data) - sha256.Size
	if body < headerSize+sockFilterSize || (body-headerSize)%sockFilterSize != 0 {
		return nil, fmt.Errorf("%d bytes are not the size of a cached filter", len(data))
	}
	if !bytes.HasPrefix(data, []byte(fileMagic)) || !bytes.Equal(data[len(fileMagic):headerSize-4], k[:]) {
		return nil, errors.New("it is not the file of this profile")
	}
	if sum := sha256.Sum256(data[:body]); !bytes.Equal(sum[:], data[body:]) {
		return nil, errors.New("its checksum is wrong")
	}
	f := &Filter{Flags: uint(binary.NativeEndian.Uint32(data[headerSize-4:]))}
	f.Instructions = make([]SockFilter, 0, (body-headerSize)/sockFilterSize)
	for b := data[headerSize:body]; len(b) > 0; b = b[sockFilterSize:] {
		f.Instructions = append(f.Instructions, SockFilter{
			Code: binary.NativeEndian.Uint16(b), JT: b[2], JF: b[3], K: binary.NativeEndian.Uint32(b[4:]),
		})
	}
	return f, nil
}
