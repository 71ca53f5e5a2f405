package engine

import (
	"bytes"
	"encoding/binary"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// memo remembers what this engine wrote into a record of each container, so that a
// record that still has those bytes need not be decoded: preparing a decoder for the
// types of a spec takes a process that ends with its container longer than the
// teardown. Whoever else writes the record changes the bytes.
type memo[T any] struct {
	most int // 0 is maxMemo

	mu sync.Mutex
	m  map[containerizer.ContainerID]memoEntry[T]
}

type memoEntry[T any] struct {
	raw   []byte
	value T
}

// maxMemo bounds what is remembered of containers that others destroyed.
const maxMemo = 4096

// maxParents bounds what is remembered of how parents were launched, which is much.
const maxParents = 64

// put remembers that raw is the encoded value. Nobody changes what value points to.
func (m *memo[T]) put(id containerizer.ContainerID, raw []byte, value T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	most := m.most
	if most == 0 {
		most = maxMemo
	}
	if m.m == nil || len(m.m) >= most {
		m.m = map[containerizer.ContainerID]memoEntry[T]{}
	}
	m.m[id] = memoEntry[T]{bytes.Clone(raw), value} // raw may have much more room than it needs
}

// get returns the value that was encoded as raw.
func (m *memo[T]) get(id containerizer.ContainerID, raw []byte) (value T, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.m[id]
	if !ok || !bytes.Equal(e.raw, raw) {
		return value, false
	}
	return e.value, true
}

// read returns what is remembered of a container by its file at path, or what decode reads
// of that. It is good as long as nobody has written the file.
func (m *memo[T]) read(id containerizer.ContainerID, path string, decode func() (T, error)) (value T, err error) {
	mark, err := fileMark(path)
	if err != nil {
		return value, err
	}
	if value, ok := m.get(id, mark); ok {
		return value, nil
	}
	if value, err = decode(); err != nil {
		return value, err
	}
	if now, err := fileMark(path); err == nil && bytes.Equal(now, mark) { // or it was replaced meanwhile
		m.put(id, mark, value)
	}
	return value, nil
}

// drop forgets a container.
func (m *memo[T]) drop(id containerizer.ContainerID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.m, id)
}

// made is a request with its spec.
type made struct {
	req  request
	spec containerizer.Spec
}

// fileMark is what changes when a file is replaced, or written by a launch that comes
// later.
func fileMark(path string) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	mark := make([]byte, 0, 32)
	for _, v := range []int64{int64(st.Ino), st.Size, st.Ctim.Sec, st.Ctim.Nsec} { //nolint:gosec // compared only
		mark = binary.NativeEndian.AppendUint64(mark, uint64(v)) //nolint:gosec // likewise
	}
	return mark, nil
}
