package selinux

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/berth-dev/berth/containerizer"
)

const (
	// ledgerLevel is the kind of a reserved level in the ledger.
	ledgerLevel = "selinux-level"
	// attempts is how many random pairs are tried; there are over 500 000.
	attempts = 512
)

// levels reserves levels for containers, over all processes of berth: a pair of
// categories belongs to the container that the symbolic link called after it names.
// Making a link is atomic and fails if there is one.
type levels struct{ dir string }

// reserve returns a level of c's own: the one it has, or a new one.
func (l levels) reserve(c *containerizer.Container) (string, error) {
	for _, name := range c.Ledger.Held(ledgerLevel) {
		if owner, err := os.Readlink(filepath.Join(l.dir, name)); err == nil && owner == c.ID.String() {
			return level(name), nil
		}
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return "", fmt.Errorf("reserve an SELinux level: %w", err)
	}
	for range attempts {
		name := randomPair()
		if err := c.Ledger.Acquire(ledgerLevel, name); err != nil {
			return "", err
		}
		err := os.Symlink(c.ID.String(), filepath.Join(l.dir, name))
		if err == nil {
			return level(name), nil
		}
		if err := c.Ledger.Release(ledgerLevel, name); err != nil {
			return "", err
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("reserve an SELinux level: %w", err)
		}
	}
	return "", fmt.Errorf("reserve an SELinux level: %d tries found none that is free in %q: %w",
		attempts, l.dir, containerizer.ErrResourceExhausted)
}

// free removes what is reserved for c. A link of another container under a name in
// c's ledger is left: c asked for that pair and did not get it.
func (l levels) free(c *containerizer.Container) error {
	for _, name := range c.Ledger.Held(ledgerLevel) {
		path := filepath.Join(l.dir, filepath.Base(name))
		owner, err := os.Readlink(path)
		if err == nil && owner == c.ID.String() {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("free the SELinux level %s: %w", level(name), err)
		}
		if err := c.Ledger.Release(ledgerLevel, name); err != nil {
			return err
		}
	}
	return nil
}

// recover frees the pairs of containers that are not live, and returns those.
func (l levels) recover(live []*containerizer.Container) (orphans []containerizer.ContainerID, err error) {
	entries, err := os.ReadDir(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list SELinux levels: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(l.dir, e.Name())
		target, err := os.Readlink(path)
		if err != nil {
			continue // no reservation
		}
		owner := containerizer.ContainerID(target)
		if slices.ContainsFunc(live, func(c *containerizer.Container) bool { return c.ID == owner }) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return orphans, fmt.Errorf("free the SELinux level %s: %w", level(e.Name()), err)
		}
		orphans = append(orphans, owner)
	}
	return orphans, nil
}

func level(pair string) string { return sharedLevel + ":" + pair }

// randomPair returns two different categories, "cX,cY" with X below Y.
func randomPair() string {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
		x, y := binary.LittleEndian.Uint16(b[:])%categories, binary.LittleEndian.Uint16(b[2:])%categories
		if x != y {
			return fmt.Sprintf("c%d,c%d", min(x, y), max(x, y))
		}
	}
}
