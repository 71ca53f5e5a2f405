package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
)

// Scheme reads files of the node.
type Scheme struct{}

var _ uri.Scheme = Scheme{}

// New returns the scheme.
func New() Scheme { return Scheme{} }

// Names implements [uri.Scheme].
func (Scheme) Names() []string { return []string{"file"} }

// Open implements [uri.Scheme].
func (Scheme) Open(_ context.Context, r uri.Request) (*uri.Response, error) {
	if h := r.URL.Host; h != "" && h != "localhost" {
		return nil, fmt.Errorf("fetch %q: a file of the host %q is not one of this node (file:///PATH is): %w", r.Reference, h, containerizer.ErrInvalid)
	}
	f, err := openAs(r.URL.Path, r.Owner)
	if err != nil {
		return nil, fmt.Errorf("fetch %q: %w", r.Reference, class(err))
	}
	resp, err := answer(f, r)
	if err != nil || resp.NotModified {
		_ = f.Close() // nothing was read
	}
	return resp, err
}

func answer(f *os.File, r uri.Request) (*uri.Response, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("fetch %q: %w", r.Reference, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("fetch %q: it is no regular file: %w", r.Reference, containerizer.ErrInvalid)
	}
	version := fmt.Sprintf("%d:%d:%d:%d.%d:%d.%d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec)
	resp := &uri.Response{Body: f, Size: st.Size, Version: version}
	switch {
	case r.Version != version:
	case r.Offset == 0:
		return &uri.Response{NotModified: true}, nil
	case r.Offset <= st.Size:
		if _, err := f.Seek(r.Offset, io.SeekStart); err != nil {
			return nil, fmt.Errorf("fetch %q: %w", r.Reference, err)
		}
		resp.Offset = r.Offset
	}
	return resp, nil
}

func class(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: %w", err, containerizer.ErrNotFound)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", err, containerizer.ErrPermission)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
	}
	return err
}

// open does not wait for a writer of a FIFO, nor become the reader of a terminal.
func open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

// openAs opens a file with the rights of owner.
func openAs(path string, owner *containerizer.Owner) (*os.File, error) {
	if owner == nil || owner.UID == 0 || os.Geteuid() != 0 {
		return open(path)
	}
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result)
	go func() {
		// The thread gives up its rights for good: it ends with the goroutine, because it
		// is not unlocked (runtime.LockOSThread).
		runtime.LockOSThread()
		if err := become(owner); err != nil {
			done <- result{nil, err}
			return
		}
		f, err := open(path)
		done <- result{f, err}
	}()
	r := <-done
	return r.f, r.err
}

// become takes the rights of owner in this thread. Leaving root for the file system
// user gives up the capabilities that pass over permissions (credentials(7)).
func become(owner *containerizer.Owner) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); errno != 0 {
		return fmt.Errorf("give up groups: %w", errno)
	}
	// Neither call says whether it worked; asking for an impossible id tells the present one.
	_, _ = unix.SetfsgidRetGid(int(owner.GID))
	_, _ = unix.SetfsuidRetUid(int(owner.UID))
	gid, _ := unix.SetfsgidRetGid(-1)
	uid, _ := unix.SetfsuidRetUid(-1)
	if uint32(uid) != owner.UID || uint32(gid) != owner.GID {
		return fmt.Errorf("become user %d:%d for reading a file: %w", owner.UID, owner.GID, unix.EPERM)
	}
	return nil
}
