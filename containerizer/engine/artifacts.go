package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/berth-dev/berth/containerizer"
)

// fetchArtifacts brings the artifacts of c into its sandbox, unless an earlier launch
// has done so. The sandbox is in ROOT then, because STATE is memory as a rule, and
// stays until the container is destroyed.
func (e *Engine) fetchArtifacts(ctx context.Context, op *operation, c *containerizer.Container, progress func(containerizer.ArtifactProgress)) error {
	if len(c.Spec.Artifacts) == 0 {
		return nil
	}
	if e.opts.Artifacts == nil {
		return fmt.Errorf("artifacts: this engine has no fetcher: %w", containerizer.ErrUnsupported)
	}
	e.step(op, "launch.sandbox")
	dir := e.sandboxDir(c.ID)
	marker := filepath.Join(dir, fetchedFile)
	if b, err := os.ReadFile(marker); err == nil && string(b) == e.bootID {
		return e.linkSandbox(c, dir)
	}
	owner, err := e.ownerOf(c)
	if err != nil {
		return fmt.Errorf("the owner of artifacts: %w", err)
	}
	if err := makeSandbox(dir, owner); err != nil {
		return fmt.Errorf("make the sandbox: %w", outOfSpace(err))
	}
	if err := e.linkSandbox(c, dir); err != nil {
		return err
	}
	e.step(op, "launch.fetch")
	files := filepath.Join(dir, filesFolder)
	if _, err := e.opts.Artifacts.Fetch(ctx, files, c.Spec.Artifacts, containerizer.FetchOptions{Owner: owner, Progress: progress}); err != nil {
		return err
	}
	// A power cut may lose some of it, so another boot fetches again.
	return writeAside(marker, []byte(e.bootID))
}

// ownerOf is whom the sandbox belongs to: the user of c's process, if that can be
// known before it exists.
func (e *Engine) ownerOf(c *containerizer.Container) (*containerizer.Owner, error) {
	if r, is := e.launcher.(containerizer.OwnerResolver); is {
		return r.Owner(c)
	}
	return nil, nil
}

func makeSandbox(dir string, owner *containerizer.Owner) error {
	files := filepath.Join(dir, filesFolder)
	for {
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			err = os.Mkdir(files, 0o755)
		}
		if errors.Is(err, fs.ErrNotExist) { // a sibling took the empty folder of both away
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		break
	}
	if owner == nil {
		return nil
	}
	return os.Chown(files, int(owner.UID), int(owner.GID))
}

// linkSandbox lets the sandbox be found where those without artifacts are.
func (*Engine) linkSandbox(c *containerizer.Container, dir string) error {
	err := os.Symlink(filepath.Join(dir, filesFolder), filepath.Join(c.Dir, sandboxLink))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the sandbox: %w", outOfSpace(err))
	}
	return nil
}

// releaseSandbox removes the sandbox of l in ROOT.
//
// Preconditions: h is l's lock, and no process of l is left.
func (e *Engine) releaseSandbox(ctx context.Context, op *operation, h *held, l *loaded) error {
	return e.undo(ctx, op, h, sandboxEntry(), func(context.Context) error {
		if err := e.removeSandbox(l.id); err != nil {
			return fmt.Errorf("sandbox: %w", err)
		}
		return nil
	})
}

// removeSandbox removes a sandbox, and the folders above that only held it: those of
// ancestors without artifacts.
func (e *Engine) removeSandbox(id containerizer.ContainerID) error {
	if err := os.RemoveAll(e.sandboxDir(id)); err != nil {
		return err
	}
	base, dir := filepath.Join(e.root, sandboxesFolder), filepath.Dir(e.sandboxDir(id))
	for dir != base && os.Remove(dir) == nil { // one that has something stays
		dir = filepath.Dir(dir)
	}
	return nil
}

// strayedSandboxes lists those of no container: of containers without a record that
// were there when the node went down.
//
// Preconditions: the caller has the gate exclusively.
func (e *Engine) strayedSandboxes() ([]containerizer.ContainerID, error) {
	ids, err := tree(filepath.Join(e.root, sandboxesFolder), "")
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(ids, func(id containerizer.ContainerID) bool {
		_, err := os.Lstat(e.dir(id))
		return !errors.Is(err, fs.ErrNotExist)
	}), nil
}

// sandboxes removes those that belong to no container.
func (r *recovery) sandboxes(ctx context.Context) error {
	gate, err := r.e.enterGate(ctx, exclusive)
	if err != nil {
		return err
	}
	defer unlockClose(gate)
	ids, err := r.e.strayedSandboxes()
	if err != nil {
		return err
	}
	for _, id := range ids {
		r.fix(fmt.Sprintf("the sandbox of container %q belongs to no container", id), func() error { return r.e.removeSandbox(id) })
	}
	return nil
}
