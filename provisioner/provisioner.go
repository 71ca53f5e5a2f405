package provisioner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner/stack"
	"github.com/berth-dev/berth/provisioner/store"
	"github.com/berth-dev/berth/provisioner/unpack"
)

var (
	_ containerizer.Provisioner       = (*Provisioner)(nil)
	_ containerizer.VolumeProvisioner = (*Provisioner)(nil)
	_ containerizer.Images            = (*Provisioner)(nil)
	_ containerizer.ImageMover        = (*Provisioner)(nil)
	_ containerizer.ImagePinner       = (*Provisioner)(nil)
	_ containerizer.Recoverer         = (*Provisioner)(nil)
)

// Backends, as in Options.
const (
	// BackendAuto is overlay where the store's file system can be part of one.
	BackendAuto = ""
	// BackendOverlay describes an overlay of shared layers.
	BackendOverlay = "overlay"
	// BackendCopy copies an image's layers for each container.
	BackendCopy = "copy"
)

// Options of a provisioner. The zero value works, but cannot pull.
type Options struct {
	// UnpackCommand runs a program that calls apply.ChildMain with its last argument.
	UnpackCommand []string
	// Limits of one layer.
	Limits unpack.Limits
	// Parallel is how many layers are fetched and unpacked at once, by all pulls of
	// this provisioner together; 0 is by the processors. It bounds connections and
	// memory: a layer takes about 16 MiB, one whose compression has a large window
	// more.
	Parallel int
	// Backend is BackendAuto, BackendOverlay or BackendCopy.
	Backend string
	// Trust says which images may be used.
	Trust Trust
	// Pressure says when images go to make room.
	Pressure Pressure
	// Log may be nil.
	Log *log.Logger
}

// Provisioner keeps images and makes root filesystems.
type Provisioner struct {
	fetcher containerizer.Fetcher
	store   *store.Store
	o       Options
	log     *log.Logger
	slots   chan struct{} // one for each layer under way
	written written
}

// New returns a provisioner over the store in the directory root. It does no I/O;
// the directory is made when something is first put into it.
func New(root string, fetcher containerizer.Fetcher, o Options) (*Provisioner, error) {
	if !filepath.IsAbs(root) {
		return nil, fmt.Errorf("image store %q is not an absolute path: %w", root, containerizer.ErrInvalid)
	}
	switch o.Backend {
	case BackendAuto, BackendOverlay, BackendCopy:
	default:
		return nil, fmt.Errorf("there is no backend %q (%q and %q are possible): %w", o.Backend, BackendOverlay, BackendCopy, containerizer.ErrInvalid)
	}
	if o.Parallel <= 0 {
		// One more than processors: while a layer ends and the next one begins, another one
		// uses its processor.
		o.Parallel = max(2, min(runtime.GOMAXPROCS(0)+1, 4))
	}
	return &Provisioner{
		fetcher: fetcher, store: store.New(filepath.Clean(root)), o: o, log: o.Log, slots: make(chan struct{}, o.Parallel),
	}, nil
}

// Provision makes the root filesystem of a container.
func (p *Provisioner) Provision(ctx context.Context, id containerizer.ContainerID, source containerizer.ImageSource) (*containerizer.Provisioned, error) {
	return p.provision(ctx, id, store.RootUse, source)
}

// ProvisionVolume makes the content of an image available as the n-th volume of a
// container.
func (p *Provisioner) ProvisionVolume(ctx context.Context, id containerizer.ContainerID, n int, source containerizer.ImageSource) (*containerizer.Provisioned, error) {
	if n < 0 {
		return nil, fmt.Errorf("volume number %d of container %q: %w", n, id, containerizer.ErrInvalid)
	}
	source.ReadOnly = true
	return p.provision(ctx, id, n, source)
}

func (p *Provisioner) provision(ctx context.Context, id containerizer.ContainerID, n int, source containerizer.ImageSource) (*containerizer.Provisioned, error) {
	if id == "" {
		return nil, fmt.Errorf("provision for an empty container id: %w", containerizer.ErrInvalid)
	}
	u, err := p.store.ReadUse(id, n)
	if err == nil {
		return p.again(ctx, u, n, source)
	}
	if !errors.Is(err, containerizer.ErrNotFound) {
		return nil, fmt.Errorf("container %q: %w", id, err)
	}
	f, err := p.find(ctx, source)
	if err != nil {
		return nil, err
	}
	defer f.release()
	if err := p.allowed(ctx, source, f.name, f.image); err != nil {
		return nil, err
	}
	u = &store.Use{
		ID: id, Source: source, Reference: f.name, Manifest: f.image.Manifest.Digest, Stack: f.image.Stack, BootID: p.store.BootID(),
		Rootfs: p.rootfs(id, n, source, f.image),
	}
	err = p.store.WriteUse(u, n)
	f.release() // the record keeps the layers from now on
	if err == nil {
		err = p.make(ctx, u, f.image)
	}
	if err != nil {
		err = fmt.Errorf("provision image %q for container %q: %w", source.Reference, id, err)
		return nil, errors.Join(err, p.undo(id, n))
	}
	p.store.Touch(u.Manifest)
	return result(u, f.image), nil
}

func result(u *store.Use, i *store.Image) *containerizer.Provisioned {
	config := i.Config
	return &containerizer.Provisioned{Rootfs: u.Rootfs, Config: &config, Manifest: u.Manifest, Reference: u.Reference}
}

// rootfs describes what will be there.
func (p *Provisioner) rootfs(id containerizer.ContainerID, n int, source containerizer.ImageSource, i *store.Image) *containerizer.Rootfs {
	dir := p.store.ContainerDir(id)
	backend := p.o.Backend
	if backend == BackendAuto {
		backend = i.Backend
	}
	if backend == BackendCopy {
		name := "rootfs"
		if n != store.RootUse {
			name = fmt.Sprintf("volume-%d", n)
		}
		return &containerizer.Rootfs{Path: filepath.Join(dir, name)}
	}
	r := &containerizer.Rootfs{Lower: stack.Paths(i.Stack, p.store.LayerPath)}
	if source.ReadOnly {
		if len(r.Lower) == 1 { // an overlay without a writable layer has at least two
			r.Lower = append(r.Lower, p.store.Empty())
		}
		return r
	}
	r.Upper, r.Work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	r.Volatile = !source.Durable
	return r
}

// make makes the directories of what u describes.
func (p *Provisioner) make(ctx context.Context, u *store.Use, i *store.Image) error {
	if u.Rootfs.Path != "" {
		return stack.Copy(ctx, u.Rootfs.Path, stack.Paths(i.Stack, p.store.LayerPath))
	}
	if u.Rootfs.Upper == "" {
		return nil
	}
	return makeWritable(u.Rootfs, i.Root)
}

// makeWritable makes the writable layer. The overlay's root shows the attributes
// of the upper directory.
func makeWritable(r *containerizer.Rootfs, a store.RootAttributes) error {
	if err := os.Mkdir(r.Upper, os.FileMode(a.Mode&0o777)); err != nil {
		return fmt.Errorf("make the writable layer: %w", class(err))
	}
	if err := os.Mkdir(r.Work, 0o700); err != nil {
		return fmt.Errorf("make the writable layer: %w", class(err))
	}
	if a.UID != 0 || a.GID != 0 {
		if err := os.Chown(r.Upper, a.UID, a.GID); err != nil {
			return fmt.Errorf("make the writable layer: %w", err)
		}
	}
	for name, value := range a.Xattrs {
		if err := unix.Setxattr(r.Upper, name, value, 0); err != nil && err != unix.EOPNOTSUPP {
			return fmt.Errorf("make the writable layer: set extended attribute %q: %w", name, err)
		}
	}
	// The umask may have taken bits, and mkdir(2) takes no special ones.
	if err := chmod(r.Upper, a.Mode); err != nil {
		return fmt.Errorf("make the writable layer: %w", err)
	}
	return nil
}

// again returns what was provisioned before, with the writable layer's content.
func (p *Provisioner) again(ctx context.Context, u *store.Use, n int, source containerizer.ImageSource) (*containerizer.Provisioned, error) {
	// How the image was to be fetched makes no difference any more.
	had, want := u.Source, source
	had.Pull, want.Pull = "", ""
	had.Auth, want.Auth = nil, nil
	if had != want {
		return nil, fmt.Errorf("container %q has image %q already: %w", u.ID, u.Source.Reference, containerizer.ErrAlreadyExists)
	}
	i, err := p.store.Image(u.Manifest)
	if err != nil {
		return nil, fmt.Errorf("image %q of container %q: %w", u.Reference, u.ID, err)
	}
	if err := p.allowed(ctx, source, u.Reference, i); err != nil {
		return nil, err
	}
	if u.Rootfs.Upper != "" {
		if err := p.renew(u, n, i); err != nil {
			return nil, fmt.Errorf("writable layer of container %q: %w", u.ID, err)
		}
	}
	p.store.Touch(u.Manifest)
	return result(u, i), nil
}

// renew makes a volatile writable layer usable again. In the same boot all of it
// is there, and only the kernel's mark is in the way
// (Documentation/filesystems/overlayfs.rst, "Volatile mount"). After another
// boot nobody knows what of it is there: it is replaced.
func (p *Provisioner) renew(u *store.Use, n int, i *store.Image) error {
	_, err := os.Lstat(u.Rootfs.Upper)
	missing := errors.Is(err, os.ErrNotExist)
	if u.Rootfs.Volatile && u.BootID == p.store.BootID() && !missing {
		return class(os.RemoveAll(filepath.Join(u.Rootfs.Work, "work", "incompat")))
	}
	if !u.Rootfs.Volatile && !missing {
		return nil
	}
	if !missing {
		p.log.Warn("writable layer thrown away: the node went down and the container was not durable", log.String("container_id", string(u.ID)))
	}
	for _, dir := range []string{u.Rootfs.Upper, u.Rootfs.Work} {
		if err := p.store.Trash(dir); err != nil {
			return err
		}
	}
	u.BootID = p.store.BootID()
	if err := p.store.RewriteUse(u, n); err != nil {
		return err
	}
	return makeWritable(u.Rootfs, i.Root)
}

// undo takes away what a failed provision made: of a volume only its own part.
func (p *Provisioner) undo(id containerizer.ContainerID, n int) error {
	if n == store.RootUse {
		return p.store.Trash(p.store.ContainerDir(id))
	}
	return p.store.DropVolume(id, n)
}

// Destroy gives up everything provisioned for a container. The files are deleted
// by a later Sweep.
func (p *Provisioner) Destroy(_ context.Context, id containerizer.ContainerID) error {
	if id == "" {
		return fmt.Errorf("destroy the filesystem of an empty container id: %w", containerizer.ErrInvalid)
	}
	p.written.forget(p.store.ContainerDir(id))
	if err := p.store.Trash(p.store.ContainerDir(id)); err != nil {
		return fmt.Errorf("give up the filesystem of container %q: %w", id, err)
	}
	return nil
}

// Recover gives up what was provisioned for containers that do not exist.
func (p *Provisioner) Recover(ctx context.Context, live []*containerizer.Container) (orphans []containerizer.ContainerID, err error) {
	dirs := map[string]bool{}
	for _, c := range live {
		dirs[p.store.ContainerDir(c.ID)] = true
	}
	found, err := p.store.ContainerDirs()
	if err != nil {
		return nil, fmt.Errorf("list provisioned containers: %w", err)
	}
	for _, dir := range found {
		if dirs[dir] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return orphans, context.Cause(ctx)
		}
		id := containerizer.ContainerID(filepath.Base(dir))
		if u, err := p.store.ReadUse(id, store.RootUse); err == nil {
			id = u.ID // the directory of a long id is called otherwise
		}
		if err := p.store.Trash(dir); err != nil {
			return orphans, fmt.Errorf("give up the filesystem of container %q: %w", id, err)
		}
		orphans = append(orphans, id)
	}
	return orphans, nil
}

// Sweep does what others do not wait for, until ctx ends: it makes new images
// durable, deletes what was given up, takes away what killed processes left,
// removes images while the disk is fuller than it should be, and lists the files of
// new layers for Check.
// Any number of processes may call it at any time; one does the work.
func (p *Provisioner) Sweep(ctx context.Context) error { return p.sweep(ctx, p.store.SweepIdly) }

// SweepBriefly is Sweep for somebody who wants the space now but does not wait for
// the pulls of others: left says that they come first, and a Sweep is to follow.
func (p *Provisioner) SweepBriefly(ctx context.Context) (left bool, err error) {
	err = p.sweep(ctx, p.store.SweepUnlessBusy)
	if errors.Is(err, store.ErrBusy) {
		return true, nil // whatever else failed is tried again, too
	}
	return false, err
}

func (p *Provisioner) sweep(ctx context.Context, trash func(context.Context) error) error {
	err := p.store.Flush(ctx)
	_, rerr := p.relieve(ctx, 0)
	err = errors.Join(err, rerr, p.deleteTrash(ctx, trash), p.makeLists(ctx))
	_, lerr := p.List(ctx) // for the next one to find it kept
	return errors.Join(err, lerr)
}
