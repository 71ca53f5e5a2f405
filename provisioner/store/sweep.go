package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// markPending notes that something will have to be made durable.
func (s *Store) markPending(name string) error {
	f, err := os.OpenFile(s.path("pending", name), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return class(err)
	}
	return f.Close()
}

// Flush makes durable what is pending: one syncfs(2) for all of it, then the
// records. Concurrent flushes share the work.
func (s *Store) Flush(ctx context.Context) error {
	if !exists(s.path("locks")) {
		return nil
	}
	l, err := wait(ctx, s.path("locks", "flush"), syscall.LOCK_EX)
	if err != nil {
		return err
	}
	defer l.Release()
	pending, err := s.names("pending")
	if err != nil || len(pending) == 0 {
		return err
	}
	before := map[string]identity{}
	for _, name := range pending {
		before[name] = s.pendingRecord(name)
	}
	if err := s.sync(); err != nil {
		return fmt.Errorf("write the image store to disk: %w", class(err))
	}
	var errs []error
	for _, prefix := range []string{"layer-", "image-"} { // images after their layers
		for _, name := range pending {
			if rest, ok := strings.CutPrefix(name, prefix); ok {
				errs = append(errs, s.flushOne(ctx, prefix, rest, before[name]))
			}
		}
	}
	return errors.Join(errs...)
}

// identity tells a file from others that had or will have its name.
type identity struct {
	ino, seconds uint64
	nanoseconds  uint32
}

// pendingRecord is the identity of the record that a marker stands for; zero when there
// is none.
func (s *Store) pendingRecord(marker string) identity {
	path := ""
	if name, ok := strings.CutPrefix(marker, "layer-"); ok {
		path = s.path("layers", name, "meta.json")
	} else if name, ok := strings.CutPrefix(marker, "image-"); ok {
		path = s.path("images", name+".json")
	}
	var st unix.Statx_t
	if path == "" || unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO|unix.STATX_BTIME, &st) != nil {
		return identity{}
	}
	return identity{st.Ino, uint64(st.Btime.Sec), st.Btime.Nsec}
}

// flushOne notes that a record that was there before everything was written to disk is
// durable. One that has taken its place since then is for the next flush.
func (s *Store) flushOne(ctx context.Context, prefix, name string, before identity) error {
	use, err := try(s.path("locks", "gc"), syscall.LOCK_SH)
	if errors.Is(err, errBusy) {
		return nil // the collector is at work; the next flush does it
	}
	if err != nil {
		return err
	}
	defer use.Release()
	writers, err := s.lockNames(ctx)
	if err != nil {
		return err
	}
	defer writers.Release()
	if now := s.pendingRecord(prefix + name); now != before && now != (identity{}) {
		return nil
	}
	if prefix == "layer-" {
		l, err := s.Layer(name)
		if err == nil && !l.Durable {
			l.Durable = true
			err = s.writeJSON(s.path("layers", name, "meta.json"), l, (*os.File).Sync)
		}
		if err == nil && !exists(s.ListPath(name)) {
			err = s.markPending("files-" + name)
		}
		return s.flushed(err, prefix+name)
	}
	i, err := s.Image(digest.NewDigestFromEncoded(algorithm(name), name))
	if err == nil && !i.Durable && !s.layersDurable(i) {
		return nil // pulled while this flush was at work; the next one does it
	}
	if err == nil && !i.Durable {
		i.Durable = true
		err = s.writeJSON(s.imagePath(i.Manifest.Digest), i, (*os.File).Sync)
	}
	return s.flushed(err, prefix+name)
}

// layersDurable says whether all of an image's layers are known to be on disk. One that
// is gone or broken is none that is waited for: Check finds it.
func (s *Store) layersDurable(i *Image) bool {
	return !slices.ContainsFunc(i.LayerDirs(), func(name string) bool {
		l, err := s.Layer(name)
		return err == nil && !l.Durable
	})
}

func algorithm(hex string) digest.Algorithm {
	if len(hex) == 128 {
		return digest.SHA512
	}
	return digest.SHA256
}

// flushed removes the marker of what is durable, gone or lost. If it is gone, one who
// makes it may just have set the marker: it is set again as soon as there is a record.
func (s *Store) flushed(err error, marker string) error {
	if err != nil && !errors.Is(err, containerizer.ErrNotFound) && !errors.Is(err, containerizer.ErrDataCorrupt) {
		return err
	}
	if rerr := remove(s.path("pending", marker)); rerr != nil || !errors.Is(err, containerizer.ErrNotFound) {
		return rerr
	}
	if s.pendingRecord(marker) != (identity{}) {
		return s.markPending(marker)
	}
	return nil
}

func (s *Store) sync() error {
	d, err := os.Open(s.root)
	if err != nil {
		return err
	}
	err = unix.Syncfs(int(d.Fd()))
	return errors.Join(err, d.Close())
}

// Leftovers lists what dead pulls left in leases and stage. Nothing is changed.
func (s *Store) Leftovers() ([]string, error) {
	var out []string
	leases, err := s.names("leases")
	if err != nil {
		return nil, err
	}
	for _, name := range leases {
		if s.dead(strings.TrimSuffix(name, ".json")) && exists(s.path("leases", name)) {
			out = append(out, "leases/"+name)
		}
	}
	stage, err := s.names("stage")
	if err != nil {
		return nil, err
	}
	for _, name := range stage {
		id, _, _ := strings.Cut(name, "-")
		// In this order: a lease goes after what it has in stage.
		path := s.path("stage", name)
		if (id == "file" && unlocked(path) || id != "file" && s.dead(id)) && exists(path) {
			out = append(out, "stage/"+name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// dead says whether nobody holds a lease.
func (s *Store) dead(id string) bool { return unlocked(s.path("leases", id+".json")) }

// unlocked says whether nobody holds a file, which is not there any more or has been
// left.
func unlocked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return notExist(err)
	}
	defer func() { _ = f.Close() }() // gives up the lock, too
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil
}

// Sweep deletes the trash, and what dead pulls left in stage, leases and ingest,
// until ctx ends. It returns at once when another process sweeps: that one looks at
// the trash once more when it is done, and so nothing is left.
func (s *Store) Sweep(ctx context.Context) error {
	return s.sweep(ctx, os.RemoveAll)
}

// sweep is Sweep with what deletes one thing.
func (s *Store) sweep(ctx context.Context, remove func(path string) error) error {
	if !exists(s.path("locks")) {
		return nil
	}
	for {
		err := s.sweepOnce(ctx, remove)
		if errors.Is(err, errBusy) {
			return nil
		}
		if err != nil {
			return err
		}
		// Whoever threw something away while the lock was held left it to us.
		if names, err := s.names("trash"); err != nil || len(names) == 0 {
			return err
		}
	}
}

// sweepOnce is sweep for what there is now.
func (s *Store) sweepOnce(ctx context.Context, remove func(path string) error) error {
	l, err := try(s.path("locks", "sweep"), syscall.LOCK_EX)
	if err != nil {
		return err
	}
	defer l.Release()
	errs := []error{s.sweepLeases(), s.sweepStage(), s.sweepIngest()}
	names, err := s.names("trash")
	errs = append(errs, err)
	for _, name := range names {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		err := remove(s.path("trash", name))
		if errors.Is(err, ErrBusy) {
			return errors.Join(append(errs, err)...)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("delete: %w", err))
		}
	}
	return errors.Join(errs...)
}

// sweepLeases removes the records of dead leases.
func (s *Store) sweepLeases() error {
	names, err := s.names("leases")
	for _, name := range names {
		s.live(strings.TrimSuffix(name, ".json"))
	}
	return err
}

// sweepStage takes away what belongs to no live lease, and single files that nobody
// writes any more.
func (s *Store) sweepStage() error {
	names, err := s.names("stage")
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		id, _, _ := strings.Cut(name, "-")
		if id == "file" {
			removeUnlocked(s.path("stage", name))
			continue
		}
		if s.live(id) {
			continue
		}
		errs = append(errs, s.Trash(s.path("stage", name)))
	}
	return errors.Join(errs...)
}

// removeUnlocked removes a file that nobody has locked.
func removeUnlocked(path string) {
	if l, err := try(path, syscall.LOCK_EX); err == nil {
		_ = os.Remove(path) // the next sweep tries again
		l.Release()
	}
}

// sweepIngest removes lock files that nobody holds, and old downloads.
func (s *Store) sweepIngest() error {
	names, err := s.names("ingest")
	for _, name := range names {
		if s.stale(name) {
			removeUnlocked(s.path("ingest", name))
		}
	}
	return err
}

// blockBytes is what a file takes on disk.
func blockBytes(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
