package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/internal/leanjson"
	"github.com/berth-dev/berth/containerizer/internal/rawfile"
)

// held is a container whose lock is ours.
type held struct {
	id     containerizer.ContainerID
	dir    string
	ledger *ledger
}

func (h *held) unlock() { unlockClose(h.ledger.file) }

// place makes l's folder: complete, locked, and in one step. It sets l.dir. The
// error is fs.ErrExist for an existing container, fs.ErrNotExist without parent.
//
// Preconditions: the caller is in the gate.
func (e *Engine) place(l *loaded, first entries) (_ *held, err error) {
	tmp, err := os.MkdirTemp(filepath.Join(e.state, containersFolder), newPrefix)
	if err != nil {
		return nil, fmt.Errorf("make a folder for container %q: %w", l.id, outOfSpace(err))
	}
	var f *os.File
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
			if f != nil {
				unlockClose(f)
			}
		}
	}()
	f, err = os.OpenFile(filepath.Join(tmp, ledgerFile), os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the ledger of container %q: %w", l.id, outOfSpace(err))
	}
	if _, err = tryLock(f, exclusive); err != nil {
		return nil, err
	}
	led, err := newLedger(f, first)
	if err != nil {
		return nil, err
	}
	raw, err := writeNew(filepath.Join(tmp, specFile), &l.req)
	if err != nil {
		return nil, err
	}
	if l.spec != nil {
		e.requests.put(l.id, raw, made{l.req, *l.spec})
	}
	if l.st.State != containerizer.StatePreparing {
		if _, err = writeNew(filepath.Join(tmp, statusFile), &l.st); err != nil {
			return nil, err
		}
	}
	l.dir = e.dir(l.id)
	if err = moveIn(tmp, l.dir, l.id); err != nil {
		return nil, err
	}
	return &held{id: l.id, dir: l.dir, ledger: led}, nil
}

// moveIn renames tmp to dir, which must not exist. A parent's folder of children
// is made with the first.
func moveIn(tmp, dir string, id containerizer.ContainerID) error {
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.ENOENT) && !id.IsRoot() {
		if err := os.Mkdir(filepath.Dir(dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, dir, unix.RENAME_NOREPLACE)
	}
	return err
}

// writeNew writes a file that nobody can see yet, and returns its content.
func writeNew(path string, v any) ([]byte, error) {
	b, err := leanjson.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %q: %w", path, err)
	}
	if err := rawfile.Write(path, b); err != nil {
		return nil, outOfSpace(err)
	}
	return b, nil
}

// hold takes the lock of container id. blocked is as for waitLock. The error is
// ErrNotFound when the container does not exist, or is gone by the time its lock
// is free.
func (e *Engine) hold(ctx context.Context, id containerizer.ContainerID, blocked func()) (*held, error) {
	if _, err := containerizer.ParseContainerID(string(id)); err != nil {
		return nil, err
	}
	for {
		dir := e.dir(id)
		// A folder without ledger is damaged; it gets a new one, so that it can be removed.
		f, err := os.OpenFile(filepath.Join(dir, ledgerFile), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return nil, fmt.Errorf("container %q: %w", id, containerizer.ErrNotFound)
		}
		if err != nil {
			return nil, fmt.Errorf("open the ledger of container %q: %w", id, outOfSpace(err))
		}
		if err := waitLock(ctx, f, exclusive, blocked); err != nil {
			_ = f.Close() // nothing was written
			return nil, fmt.Errorf("wait for another process that works on container %q: %w", id, err)
		}
		if !stillThere(f) {
			unlockClose(f) // destroyed, and perhaps made anew, while we waited
			continue
		}
		led, err := loadLedger(f)
		if err != nil {
			unlockClose(f)
			return nil, fmt.Errorf("container %q: %w", id, err)
		}
		return &held{id: id, dir: dir, ledger: led}, nil
	}
}

// stillThere says whether f is the file under its path.
func stillThere(f *os.File) bool {
	now, err := os.Lstat(f.Name())
	if err != nil {
		return false
	}
	opened, err := f.Stat()
	return err == nil && os.SameFile(now, opened)
}

// holdLoaded is hold and load.
func (e *Engine) holdLoaded(ctx context.Context, id containerizer.ContainerID) (*held, *loaded, error) {
	h, err := e.hold(ctx, id, nil)
	if err != nil {
		return nil, nil, err
	}
	l, err := e.load(id)
	if err != nil {
		h.unlock()
		return nil, nil, err
	}
	return h, l, nil
}

// remove makes the container's folder disappear in one step and deletes it. The
// lock stays until everything is gone. It returns errChildren when a child came
// in between.
func (e *Engine) remove(h *held) error {
	children := filepath.Join(h.dir, childrenFolder)
	switch err := unix.Rmdir(children); {
	case errors.Is(err, unix.ENOTEMPTY):
		return errChildren
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("remove %q: %w", children, err)
	}
	dead := filepath.Join(e.state, containersFolder, deadPrefix+rand.Text())
	if err := unix.Rename(h.dir, dead); err != nil {
		return fmt.Errorf("take the folder %q away: %w", h.dir, err)
	}
	return os.RemoveAll(dead)
}

var errChildren = errors.New("a child came in between")
