package translate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// Sandbox is where a container's files are. Those of a tree are below that of its root,
// which only we can replace; the rest of the path is written by containers, and is
// resolved below the root only.
type Sandbox struct {
	root string // absolute path of the root container's
	rel  string // below it; "." is itself
}

// SandboxOf is the sandbox of id in the tree whose root has its own at the absolute
// path root.
func SandboxOf(root string, id containerizer.ContainerID) Sandbox {
	b := Sandbox{root: root, rel: "."}
	for _, e := range strings.Split(id.String(), ".")[1:] {
		b.rel = filepath.Join(b.rel, "containers", e)
	}
	return b
}

// Path is the absolute path on the host.
func (b Sandbox) Path() string { return filepath.Join(b.root, b.rel) }

// mount binds the sandbox, or what is at rel below it.
func (b Sandbox) mount(rel, destination string, options ...string) containerizer.Mount {
	m := containerizer.Mount{Type: containerizer.MountBind, Source: b.root, Destination: destination, Options: options}
	if sub := filepath.Join(b.rel, rel); sub != "." {
		m.SubPath = sub
	}
	return m
}

// Create makes the sandbox for owner, and the folders above. It may be there already.
func (b Sandbox) Create(owner containerizer.Owner) error {
	if err := os.MkdirAll(b.root, 0o750); err != nil { //nolint:gosec // the mode of Mesos
		return fmt.Errorf("make the sandbox: %w", err)
	}
	return b.Within(func(root *os.Root) error {
		if b.rel != "." {
			if err := root.MkdirAll(filepath.Dir(b.rel), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make the sandbox: %w", err)
			}
			if err := root.Mkdir(b.rel, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make the sandbox: %w", err)
			}
		}
		return root.Lchown(b.rel, int(owner.UID), int(owner.GID))
	})
}

// Within does f with the root's sandbox, which exists.
func (b Sandbox) Within(f func(*os.Root) error) error {
	root, err := os.OpenRoot(b.root)
	if err != nil {
		return fmt.Errorf("open the sandbox: %w", err)
	}
	return errors.Join(f(root), root.Close())
}

// makeFolder makes a folder in the sandbox, which belongs to whom the sandbox does.
func (b Sandbox) makeFolder(rel string, owner containerizer.Owner) error {
	return b.Within(func(root *os.Root) error {
		path := b.rel
		for part := range strings.SplitSeq(filepath.Clean(rel), "/") {
			path = filepath.Join(path, part)
			err := root.Mkdir(path, 0o755)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			if err == nil {
				err = root.Lchown(path, int(owner.UID), int(owner.GID))
			}
			if err != nil {
				return fmt.Errorf("make %q in the sandbox: %w", rel, err)
			}
		}
		return nil
	})
}

// Output opens the file of the sandbox that a stream goes to.
func (b Sandbox) Output(name string, owner containerizer.Owner) (f *os.File, err error) {
	err = b.Within(func(root *os.Root) error {
		var err error
		f, err = root.OpenFile(filepath.Join(b.rel, name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return fmt.Errorf("open %q of the sandbox: %w", name, err)
		}
		return f.Chown(int(owner.UID), int(owner.GID))
	})
	return f, err
}

// Exists says whether there is one, of a root.
func (b Sandbox) Exists() bool {
	info, err := os.Lstat(b.root)
	return err == nil && info.IsDir()
}

// Remove removes the sandbox. It is a no-op when there is none.
func (b Sandbox) Remove() error {
	if b.rel == "." {
		return os.RemoveAll(b.root)
	}
	err := b.Within(func(root *os.Root) error { return root.RemoveAll(b.rel) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
