package e2e_test

import (
	endian "encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// fuse is a file system of this test's own (fuse(4)): a directory with one file in it.
// It answers until it is told to hang, and then nothing ever again. It ends with its
// descriptor, whatever becomes of this process: nobody is stuck for good.
type fuse struct {
	t     *testing.T
	dev   *os.File
	dir   string
	ended chan struct{}
	once  sync.Once

	mu   sync.Mutex
	hung bool
	// asked is closed once somebody waits for an answer that does not come.
	asked  chan struct{}
	waited bool
}

// Requests of the protocol (linux/fuse.h).
const (
	fuseLookup  = 1
	fuseGetattr = 3
	fuseInit    = 26
	fuseOpendir = 27
	fuseStatfs  = 17
	fuseFile    = 2 // the node of the file
)

// mountFuse mounts one on dir, which hangs from the beginning or when it is told to.
func mountFuse(t *testing.T, dir string, hung bool) *fuse {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		t.Skip("there is no /dev/fuse")
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &fuse{t: t, dev: os.NewFile(uintptr(fd), "/dev/fuse"), dir: dir, ended: make(chan struct{}), hung: hung, asked: make(chan struct{})}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("berth-test", dir, "fuse.berth-test", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Fatal(errors.Join(err, f.dev.Close()))
	}
	go func() {
		defer close(f.ended)
		f.serve(fd)
	}()
	t.Cleanup(f.end)
	return f
}

// end ends the connection: whoever waits gets an error.
func (f *fuse) end() {
	f.once.Do(func() {
		if err := unix.Unmount(f.dir, unix.MNT_FORCE|unix.MNT_DETACH); err != nil {
			f.t.Error(err)
		}
		<-f.ended
		_ = f.dev.Close() // it has ended
	})
}

// hang makes the file system answer no more.
func (f *fuse) hang() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hung = true
}

// serve answers until the connection ends.
func (f *fuse) serve(fd int) {
	buf := make([]byte, 1<<17)
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			continue
		case err != nil: // ENODEV: unmounted
			return
		}
		if n < 40 { // struct fuse_in_header
			return
		}
		opcode := endian.NativeEndian.Uint32(buf[4:])
		unique := endian.NativeEndian.Uint64(buf[8:])
		node := endian.NativeEndian.Uint64(buf[16:])
		if f.holds() {
			continue
		}
		body, errno := f.answer(opcode, node, buf[40:n])
		reply := endian.NativeEndian.AppendUint32(nil, uint32(16+len(body))) //nolint:gosec // small
		reply = endian.NativeEndian.AppendUint32(reply, uint32(-int32(errno)))
		reply = endian.NativeEndian.AppendUint64(reply, unique)
		_, _ = unix.Write(fd, append(reply, body...)) // who asked may have been killed
	}
}

// holds says whether a request is to wait.
func (f *fuse) holds() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hung && !f.waited {
		f.waited = true
		close(f.asked)
	}
	return f.hung
}

// answer is the body of an answer, or an error.
func (f *fuse) answer(opcode uint32, node uint64, request []byte) ([]byte, unix.Errno) {
	words := func(n int) []byte { return make([]byte, 8*n) }
	switch opcode {
	case fuseInit: // struct fuse_init_out
		out := words(8)
		copy(out, request[:8]) // the version
		endian.NativeEndian.PutUint32(out[20:], 1<<16)
		return out, 0
	case fuseGetattr: // struct fuse_attr_out
		return append(words(2), attributes(node)...), 0
	case fuseLookup: // struct fuse_entry_out
		if string(request) != "file\x00" {
			return nil, unix.ENOENT
		}
		out := words(5)
		endian.NativeEndian.PutUint64(out, fuseFile)
		return append(out, attributes(fuseFile)...), 0
	case fuseStatfs:
		return words(10), 0
	case fuseOpendir:
		return words(2), 0
	}
	return nil, unix.ENOSYS
}

// attributes are a struct fuse_attr.
func attributes(node uint64) []byte {
	out := make([]byte, 88)
	endian.NativeEndian.PutUint64(out, node)
	mode := uint32(unix.S_IFDIR | 0o755)
	if node == fuseFile {
		mode = unix.S_IFREG | 0o644
	}
	endian.NativeEndian.PutUint32(out[60:], mode)
	endian.NativeEndian.PutUint32(out[64:], 1)
	return out
}
