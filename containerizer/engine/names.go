package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/berth-dev/berth/containerizer"
)

// A name is a symbolic link in STATE/names to the id of its container. It counts
// while that container exists and has the name among its own; a link that does
// not count is left over and is taken over.

func (e *Engine) namePath(name string) string {
	return filepath.Join(e.state, namesFolder, name)
}

// lookupName returns the container called name, "" when there is none.
func (e *Engine) lookupName(name string) containerizer.ContainerID {
	target, err := os.Readlink(e.namePath(name))
	if err != nil {
		return ""
	}
	id, err := containerizer.ParseContainerID(target)
	if err != nil {
		return "" // not one of ours: left over
	}
	l, err := e.read(id)
	switch {
	case errors.Is(err, containerizer.ErrNotFound):
		return ""
	case err != nil:
		return id // a damaged container keeps its name
	case !slices.Contains(l.names(), name):
		return ""
	}
	return id
}

// claimName gives name to id, whose records name it already. ErrAlreadyExists
// when another container has it.
func (e *Engine) claimName(led *ledger, name string, id containerizer.ContainerID) error {
	if err := led.add(ledgerEntry{ownEntries, kindName, name}); err != nil {
		return err
	}
	for {
		err := os.Symlink(string(id), e.namePath(name))
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("claim name %q: %w", name, outOfSpace(err))
		}
		switch owner := e.lookupName(name); owner {
		case id:
			return nil
		case "":
			if err := e.dropStaleName(name); err != nil {
				return err
			}
		default:
			return fmt.Errorf("name %q is in use by container %q: %w", name, owner.Short(), containerizer.ErrAlreadyExists)
		}
	}
}

// dropStaleName removes a link that does not count. A lock on the folder of names
// keeps two from removing it, and so one from removing the other's new one.
func (e *Engine) dropStaleName(name string) error {
	f, err := os.OpenFile(filepath.Join(e.state, namesFolder, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return outOfSpace(err)
	}
	defer unlockClose(f)
	for locked := false; !locked; {
		if locked, err = tryLock(f, exclusive); err != nil {
			return err
		}
	}
	if e.lookupName(name) != "" {
		return nil // claimed since
	}
	if err := os.Remove(e.namePath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the left-over name %q: %w", name, err)
	}
	return nil
}

// releaseName gives name up if it is id's.
func (e *Engine) releaseName(led *ledger, name string, id containerizer.ContainerID) error {
	if target, err := os.Readlink(e.namePath(name)); err == nil && target == string(id) {
		if err := os.Remove(e.namePath(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("give up name %q: %w", name, err)
		}
	}
	return led.drop(ledgerEntry{ownEntries, kindName, name})
}
