package provisioner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/store"
)

// Remove removes a name, and the image once it has none. By digest it removes the
// image with all its names. Layers that nothing needs any more are given up;
// their files are deleted by a later Sweep.
func (p *Provisioner) Remove(ctx context.Context, nameOrDigest string, force bool) (*containerizer.PruneReport, error) { //nolint:revive // the contract has the flag
	lock, err := p.store.Collect(ctx)
	if err != nil {
		return nil, storeError(nameOrDigest, err)
	}
	defer lock.Release()
	i, name, err := p.local(nameOrDigest)
	if errors.Is(err, containerizer.ErrDataCorrupt) {
		return p.removeName(ctx, nameOrDigest, force, err)
	}
	if err != nil {
		return nil, err
	}
	s, err := p.snapshot()
	if err != nil {
		return nil, err
	}
	names, pinned := s.names(i.Manifest.Digest)
	if pinned && !force {
		return nil, pinnedError(nameOrDigest)
	}
	if name == "" && len(names) > 1 && !force {
		return nil, fmt.Errorf("image %q has several names (%s); remove them one by one, or use force: %w", nameOrDigest, strings.Join(names, ", "), containerizer.ErrFailedPrecondition)
	}
	used, err := p.usedBy()
	if err != nil {
		return nil, err
	}
	last := name == "" || len(names) <= 1
	if users := used[i.Manifest.Digest]; last && len(users) > 0 && !force {
		return nil, fmt.Errorf("image %q is used by container %q: %w", nameOrDigest, users[0], containerizer.ErrFailedPrecondition)
	}
	c := &collection{p: p, s: s, used: used, drop: names, candidates: map[digest.Digest]bool{i.Manifest.Digest: true}}
	if name != "" {
		c.drop = []string{name}
		for _, r := range s.refs { // the other platforms of the name
			for _, ri := range r.Images {
				c.candidates[ri.Manifest] = c.candidates[ri.Manifest] || r.Name == name
			}
		}
	}
	return c.run(ctx)
}

// removeName removes a name whose image cannot be used because of why, and what nothing
// needs then. Precondition: the gc lock is held alone.
func (p *Provisioner) removeName(ctx context.Context, reference string, force bool, why error) (*containerizer.PruneReport, error) { //nolint:revive // the contract has the flag
	names, _, err := p.search(reference)
	if err != nil {
		return nil, why
	}
	ref, err := p.store.Ref(p.known(names))
	if err != nil {
		return nil, why
	}
	if ref.Pinned && !force {
		return nil, pinnedError(reference)
	}
	s, err := p.snapshot()
	if err != nil {
		return nil, err
	}
	used, err := p.usedBy()
	if err != nil {
		return nil, err
	}
	c := &collection{p: p, s: s, used: used, drop: []string{ref.Name}, candidates: map[digest.Digest]bool{}}
	for _, i := range ref.Images {
		c.candidates[i.Manifest] = true
	}
	return c.run(ctx)
}

func pinnedError(image string) error {
	return fmt.Errorf("image %q is pinned; unpin it, or use force: %w", image, containerizer.ErrFailedPrecondition)
}

// collection is what is to be removed.
type collection struct {
	p    *Provisioner
	s    *snapshot
	used map[digest.Digest][]string
	// drop are names, candidates images that go if they have no other name and no
	// container uses them.
	drop       []string
	candidates map[digest.Digest]bool
}

// run removes names and images, and then what nothing needs. Precondition: the gc
// lock is held alone.
func (c *collection) run(ctx context.Context) (*containerizer.PruneReport, error) {
	report := &containerizer.PruneReport{}
	for _, n := range c.drop {
		if err := c.p.store.DropRef(n); err != nil {
			return report, err
		}
		report.Images = append(report.Images, n)
	}
	var stay []*store.Image
	for _, i := range c.s.images {
		m := i.Manifest.Digest
		had, _ := c.s.names(m)
		named := slices.ContainsFunc(had, func(n string) bool { return !slices.Contains(c.drop, n) })
		if named || !c.candidates[m] || len(c.used[m]) > 0 {
			stay = append(stay, i)
			continue
		}
		if err := c.p.store.DropImage(m); err != nil {
			return report, err
		}
		report.Images = append(report.Images, string(m))
	}
	collected, err := c.p.store.CollectGarbage(ctx, stay)
	report.Layers, report.ReclaimedBytes = collected.Layers, collected.Bytes
	return report, err
}

// Prune removes images that no container uses: those without a name, or all.
// Pinned ones stay.
func (p *Provisioner) Prune(ctx context.Context, o containerizer.PruneOptions) (*containerizer.PruneReport, error) {
	lock, err := p.store.Collect(ctx)
	if errors.Is(err, errNotExist) {
		return &containerizer.PruneReport{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	s, err := p.snapshot()
	if err != nil {
		return nil, err
	}
	used, err := p.usedBy()
	if err != nil {
		return nil, err
	}
	c := &collection{p: p, s: s, used: used, candidates: map[digest.Digest]bool{}}
	for _, i := range s.images {
		m := i.Manifest.Digest
		names, pinned := s.names(m)
		if pinned || len(used[m]) > 0 || !older(i, o.OlderThan) || !labelled(i.Config.Labels, &o) || len(names) > 0 && !o.All {
			continue
		}
		c.candidates[m] = true
		c.drop = append(c.drop, names...)
	}
	there := map[digest.Digest]bool{}
	for _, i := range s.images {
		there[i.Manifest.Digest] = true
	}
	// A name that also stands for an image that stays, on another platform, stays.
	c.drop = slices.DeleteFunc(c.drop, func(n string) bool {
		return slices.ContainsFunc(s.refs, func(r *store.Ref) bool {
			return r.Name == n && slices.ContainsFunc(r.Images, func(i store.RefImage) bool { return there[i.Manifest] && !c.candidates[i.Manifest] })
		})
	})
	if o.All && o.OlderThan <= 0 && len(o.Labels)+len(o.WithoutLabels) == 0 {
		c.drop = append(c.drop, lost(s.refs, there)...)
	}
	slices.Sort(c.drop)
	c.drop = slices.Compact(c.drop)
	return c.run(ctx)
}

// lost are the names of images that are damaged, but for pinned ones.
func lost(refs []*store.Ref, there map[digest.Digest]bool) (names []string) {
	for _, r := range refs {
		if !r.Pinned && !slices.ContainsFunc(r.Images, func(i store.RefImage) bool { return there[i.Manifest] }) {
			names = append(names, r.Name)
		}
	}
	return names
}

// labelled says whether labels are as o wants them.
func labelled(labels map[string]string, o *containerizer.PruneOptions) bool {
	has := func(want string) bool {
		key, value, valued := strings.Cut(want, "=")
		got, there := labels[key]
		return there && (!valued || got == value)
	}
	missing := slices.ContainsFunc(o.Labels, func(l string) bool { return !has(l) })
	return !missing && !slices.ContainsFunc(o.WithoutLabels, has)
}

// Pin keeps an image by this name, or by digest all of its names, from being
// removed by anything but force; or no longer.
func (p *Provisioner) Pin(ctx context.Context, nameOrDigest string, pinned bool) error {
	lock, err := p.store.Collect(ctx)
	if err != nil {
		return storeError(nameOrDigest, err)
	}
	defer lock.Release()
	i, name, err := p.local(nameOrDigest)
	if err != nil {
		return err
	}
	names := []string{name}
	if name == "" {
		s, err := p.snapshot()
		if err != nil {
			return err
		}
		if names, _ = s.names(i.Manifest.Digest); len(names) == 0 {
			return fmt.Errorf("image %q has no name to pin it by; tag it first: %w", nameOrDigest, containerizer.ErrFailedPrecondition)
		}
	}
	for _, n := range names {
		r, err := p.store.Ref(n)
		if err != nil {
			return err
		}
		r.Pinned = pinned
		if err := p.store.PutRef(r); err != nil {
			return err
		}
	}
	return nil
}
