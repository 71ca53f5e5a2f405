package provisioner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner/store"
)

// Pressure says when images go to make room. The zero value never removes any.
type Pressure struct {
	// High and Low are marks of the file system's use in percent: beyond High images
	// are removed until it is below Low. High 0 is never.
	High, Low int
	// MinAge spares images that were pulled or used more recently.
	MinAge time.Duration
	// Relieved, when set, hears how many were removed, each time.
	Relieved func(images int)
}

// expansion is by how much layers grow when they are unpacked, beside their blobs.
const expansion = 3

// makeRoom removes unused images if a pull would need space beyond the high mark.
// It is best effort: what does not fit all the same, the pull finds out.
func (p *Provisioner) makeRoom(ctx context.Context, i *store.Image) {
	if p.o.Pressure.High == 0 {
		return
	}
	var need int64
	for _, l := range i.Layers {
		if !p.store.HasBlob(l.Blob.Digest, l.Blob.Size) {
			need += l.Blob.Size
		}
		if !p.store.HasLayer(store.LayerName(l.DiffID)) {
			need += expansion * l.Blob.Size
		}
	}
	gone, err := p.relieve(ctx, need)
	if err == nil && gone {
		err = p.store.Sweep(ctx) // the space is wanted now
	}
	if err != nil {
		p.log.Warn("no room made for a pull", log.String("digest", string(i.Manifest.Digest)), log.Error(err))
	}
}

// giveBack takes away at once what a pull made that found the disk full: layers that
// were whole by then, and what belongs to no image in general.
func (p *Provisioner) giveBack(ctx context.Context, why error) {
	if !errors.Is(why, containerizer.ErrResourceExhausted) {
		return
	}
	const most = time.Minute
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
	defer cancel()
	if err := errors.Join(p.collect(ctx), p.store.Sweep(ctx)); err != nil {
		p.log.Warn("no space given back after a pull", log.Error(err))
	}
}

// collect takes away what belongs to no image.
func (p *Provisioner) collect(ctx context.Context) error {
	lock, err := p.store.Collect(ctx)
	if err != nil {
		return err
	}
	defer lock.Release()
	images, _, err := p.store.Images() // broken ones are Check's
	if err != nil {
		return err
	}
	_, err = p.store.CollectGarbage(ctx, images)
	return err
}

// excess is how much has to go for need bytes more to end below the low mark; 0 as
// long as they end below the high one. It counts as df(1) does.
func (p *Provisioner) excess(need int64) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(p.store.Root(), &fs); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return 0, nil
		}
		return 0, fmt.Errorf("statfs %q: %w", p.store.Root(), err)
	}
	used := int64(fs.Blocks-fs.Bfree) * fs.Frsize
	total := used + int64(fs.Bavail)*fs.Frsize
	mark := func(percent int) int64 { return total / 100 * int64(percent) }
	if used+need <= mark(p.o.Pressure.High) {
		return 0, nil
	}
	return used + need - mark(p.o.Pressure.Low), nil
}

// relieve removes images, the least recently used first, when the file system is
// beyond the high mark, or will be with need bytes more. Images that are pinned, in
// use, or young stay.
func (p *Provisioner) relieve(ctx context.Context, need int64) (gone bool, err error) {
	if p.o.Pressure.High == 0 {
		return false, nil
	}
	if excess, err := p.excess(need); err != nil || excess <= 0 {
		return false, err
	}
	lock, err := p.store.Collect(ctx)
	if errors.Is(err, errNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer lock.Release()
	excess, err := p.excess(need) // somebody else may have been at it
	if err != nil || excess <= 0 {
		return false, err
	}
	c, err := p.leastUsed(excess)
	if err != nil || len(c.candidates) == 0 {
		return false, err
	}
	report, err := c.run(ctx)
	for _, name := range report.Images {
		p.log.Info("image removed to make room", log.String("image", name))
	}
	// The report has an image's names and, when it is gone, its digest.
	images := 0
	for _, name := range report.Images {
		if c.candidates[digest.Digest(name)] {
			images++
		}
	}
	if images > 0 && p.o.Pressure.Relieved != nil {
		p.o.Pressure.Relieved(images)
	}
	return len(report.Images) > 0, err
}

// leastUsed chooses images that free as many bytes, or all that may go.
func (p *Provisioner) leastUsed(excess int64) (*collection, error) {
	s, err := p.snapshot()
	if err != nil {
		return nil, err
	}
	used, err := p.usedBy()
	if err != nil {
		return nil, err
	}
	c := &collection{p: p, s: s, used: used, candidates: map[digest.Digest]bool{}}
	last := map[digest.Digest]time.Time{}
	eligible := map[digest.Digest]bool{}
	for _, i := range s.images {
		m := i.Manifest.Digest
		last[m] = p.store.LastUse(m)
		_, pinned := s.names(m)
		eligible[m] = !pinned && len(used[m]) == 0 && time.Since(last[m]) >= p.o.Pressure.MinAge
	}
	slices.SortStableFunc(s.images, func(a, b *store.Image) int {
		return last[a.Manifest.Digest].Compare(last[b.Manifest.Digest])
	})
	for _, i := range s.images {
		if excess <= 0 {
			break
		}
		group := s.together(i.Manifest.Digest)
		if c.candidates[i.Manifest.Digest] || slices.ContainsFunc(group, func(j *store.Image) bool { return !eligible[j.Manifest.Digest] }) {
			continue
		}
		for _, j := range group {
			excess -= s.give(j)
			c.candidates[j.Manifest.Digest] = true
			names, _ := s.names(j.Manifest.Digest)
			c.drop = append(c.drop, names...)
		}
	}
	slices.Sort(c.drop)
	c.drop = slices.Compact(c.drop)
	return c, nil
}
