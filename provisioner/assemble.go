package provisioner

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/stack"
	"github.com/berth-dev/berth/provisioner/store"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// maxStack is the kernel's OVL_MAX_STACK.
const maxStack = 500

// chainIDs of an image's layers, bottom first.
func chainIDs(i *store.Image) []digest.Digest {
	ids := make([]digest.Digest, len(i.Layers))
	for n, l := range i.Layers {
		ids[n] = l.DiffID
	}
	return identity.ChainIDs(ids)
}

// fixNames are the directories that an image's stack may need besides its layers.
func fixNames(i *store.Image) []string {
	var out []string
	for _, id := range chainIDs(i) {
		out = append(out, store.FixName(id))
	}
	return out
}

// assemble puts the layers into their order, with what is needed between them.
func (p *Provisioner) assemble(ctx context.Context, lease *store.Lease, i *store.Image) error {
	chain := chainIDs(i)
	var names []string // bottom first
	for n, l := range i.Layers {
		rec, err := p.store.Layer(store.LayerName(l.DiffID))
		if err != nil {
			return err
		}
		if slices.Contains(rec.Content.Opaque, "") {
			names = nil // overlayfs merges roots even where one is opaque
		}
		names = append(names, rec.Name)
		if len(names) == 1 && len(rec.Content.Links) == 0 {
			continue // nothing below that could matter
		}
		if len(rec.Content.Implicit) == 0 && len(rec.Content.Links) == 0 {
			continue
		}
		fix, err := p.fix(ctx, lease, store.FixName(chain[n]), names, &rec.Content)
		if err != nil {
			return fmt.Errorf("assemble layer %s with those below: %w", l.DiffID, err)
		}
		if fix {
			names = append(names, store.FixName(chain[n]))
		}
	}
	if len(names) > maxStack {
		return fmt.Errorf("the image needs %d directories, an overlay takes %d: %w", len(names), maxStack, containerizer.ErrUnsupported)
	}
	slices.Reverse(names)
	i.Stack = names
	return p.rootAttributes(i)
}

// fix makes the directory above the last of names (bottom first), if one is needed.
func (p *Provisioner) fix(ctx context.Context, lease *store.Lease, name string, names []string, content *unpack.Result) (bool, error) {
	lock, err := p.store.LockLayer(ctx, name)
	if err != nil {
		return false, err
	}
	defer lock.Release()
	switch _, err := p.store.Layer(name); {
	case err == nil:
		return true, nil
	case !errors.Is(err, containerizer.ErrNotFound):
		if err := p.store.DropLayer(ctx, name); err != nil {
			return false, err
		}
	}
	stage, err := lease.Stage()
	if err != nil {
		return false, err
	}
	target, err := makeTarget(stage)
	if err != nil {
		return false, err
	}
	defer func() { _ = target.Close() }()
	dirs := stack.Paths(names, p.store.LayerPath)
	slices.Reverse(dirs)
	needed, bytes, err := stack.Fix(filepath.Join(stage, "fs"), dirs, content)
	if err != nil || !needed {
		return false, err
	}
	l := &store.Layer{Name: name, Content: unpack.Result{DiskBytes: bytes}}
	return true, p.store.CommitLayer(stage, l)
}

// rootAttributes notes those of the stack's root, for the writable layer.
func (p *Provisioner) rootAttributes(i *store.Image) error {
	var st unix.Stat_t
	path := p.store.LayerPath(i.Stack[0])
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("stat %q: %w", path, err)
	}
	xattrs, err := stack.Xattrs(path)
	if err != nil {
		return fmt.Errorf("attributes of %q: %w", path, err)
	}
	i.Root = store.RootAttributes{Mode: st.Mode & 0o7777, UID: int(st.Uid), GID: int(st.Gid), Xattrs: xattrs}
	return nil
}
