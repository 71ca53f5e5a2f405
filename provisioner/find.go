package provisioner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/manifest"
	"github.com/berth-dev/berth/provisioner/store"
)

// found is an image of the store, with the lock or lease that keeps it there.
type found struct {
	name  string
	image *store.Image
	lock  *store.Lock
}

func (f *found) release() { f.lock.Release() }

// find returns the image that source means, and fetches it if source wants that.
func (p *Provisioner) find(ctx context.Context, source containerizer.ImageSource) (*found, error) {
	switch source.Pull {
	case containerizer.PullMissing, containerizer.PullAlways, containerizer.PullNever:
	default:
		return nil, fmt.Errorf("pull policy %q is none of \"missing\" (\"\"), \"always\" and \"never\": %w", source.Pull, containerizer.ErrInvalid)
	}
	names, local, err := p.search(source.Reference)
	if err != nil && !imageID(source.Reference) {
		return nil, err
	}
	if err == nil && (source.Pull == containerizer.PullAlways || local && source.Pull != containerizer.PullNever) {
		return p.fetchAndHold(ctx, source, names)
	}
	f, lerr := p.hold(ctx, source, p.known(names))
	if lerr == nil || !errors.Is(lerr, containerizer.ErrNotFound) && !errors.Is(lerr, containerizer.ErrDataCorrupt) {
		return f, lerr
	}
	switch {
	case err != nil: // it could be an id only
		return nil, lerr
	case source.Pull == containerizer.PullNever:
		return nil, fmt.Errorf("image %q is not in the store, and must not be pulled: %w", source.Reference, lerr)
	}
	return p.fetchAndHold(ctx, source, names)
}

// search returns the names that a reference may mean.
func (p *Provisioner) search(reference string) (names []string, local bool, err error) {
	if s, ok := p.fetcher.(containerizer.Searcher); ok {
		return s.Search(reference)
	}
	name, local, err := p.fetcher.Name(reference)
	return []string{name}, local, err
}

// known returns the first name that the store has, or else the first one.
func (p *Provisioner) known(names []string) string {
	for _, name := range names {
		if _, err := p.store.Ref(name); err == nil {
			return name
		}
	}
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

// pullAny pulls the first of names that exists. It goes on to the next one only
// where a registry says that there is none, or that we may not have it, and not
// where it says nothing: another one must not be able to step in then.
func (p *Provisioner) pullAny(ctx context.Context, source containerizer.ImageSource, names []string, progress *progress) (*store.Image, string, error) {
	var all []error
	for _, name := range names {
		i, err := p.pull(ctx, source, name, nil, progress)
		if err == nil {
			return i, name, nil
		}
		all = append(all, err)
		if !errors.Is(err, containerizer.ErrNotFound) && !errors.Is(err, containerizer.ErrPermission) {
			break
		}
	}
	return nil, "", errors.Join(all...)
}

// attempts are how often an image is pulled that others remove at once.
const attempts = 10

// fetchAndHold pulls the image and takes hold of it. A prune may come between the
// two; then it is pulled again.
func (p *Provisioner) fetchAndHold(ctx context.Context, source containerizer.ImageSource, names []string) (f *found, err error) {
	for range attempts {
		var name string
		if _, name, err = p.pullAny(ctx, source, names, nil); err != nil {
			return nil, err
		}
		if f, err = p.hold(ctx, source, name); !errors.Is(err, containerizer.ErrNotFound) {
			return f, err
		}
	}
	return nil, err
}

// hold looks the image up under the gc lock, which is held on success.
func (p *Provisioner) hold(ctx context.Context, source containerizer.ImageSource, name string) (_ *found, err error) {
	lock, err := p.store.Use(ctx)
	if err != nil {
		if errors.Is(err, errNotExist) { // there is no store yet
			err = fmt.Errorf("image %q: %w", source.Reference, containerizer.ErrNotFound)
		}
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Release()
		}
	}()
	want, err := manifest.ParsePlatform(source.Platform)
	if err != nil {
		return nil, err
	}
	i, err := p.lookup(name, want, source.Platform)
	if errors.Is(err, containerizer.ErrNotFound) && imageID(source.Reference) {
		if byID, iderr := p.byID(source.Reference); iderr == nil {
			return &found{name: string(byID.Manifest.Digest), image: byID, lock: lock}, nil
		} else if !errors.Is(iderr, containerizer.ErrNotFound) {
			return nil, iderr
		}
	}
	if err != nil {
		return nil, err
	}
	return &found{name: name, image: i, lock: lock}, nil
}

// lookup finds the image of a name for the platform want. If none was asked for,
// the only one that there is will do.
func (p *Provisioner) lookup(name string, want v1.Platform, asked string) (*store.Image, error) {
	if name == "" {
		return nil, containerizer.ErrNotFound
	}
	ref, err := p.store.Ref(name)
	if err != nil {
		return nil, err
	}
	m, err := choose(ref, want)
	if err != nil && len(ref.Images) == 1 && asked == "" {
		m, err = ref.Images[0].Manifest, nil
	}
	if err != nil {
		return nil, err
	}
	i, err := p.store.Image(m)
	if errors.Is(err, containerizer.ErrNotFound) && p.standsFor(name, m) { // else it was removed meanwhile
		err = fmt.Errorf("image %q (%s) was damaged and could not be repaired; pull it again, or remove its name: %w", name, m, containerizer.ErrDataCorrupt)
	}
	return i, err
}

// standsFor says whether a name stands for an image.
func (p *Provisioner) standsFor(name string, m digest.Digest) bool {
	ref, err := p.store.Ref(name)
	return err == nil && slices.ContainsFunc(ref.Images, func(i store.RefImage) bool { return i.Manifest == m })
}

// choose finds the manifest of a name for a platform that was asked for before.
func choose(ref *store.Ref, want v1.Platform) (digest.Digest, error) {
	key := manifest.String(want)
	for _, i := range ref.Images {
		if i.Platform == key {
			return i.Manifest, nil
		}
	}
	return "", fmt.Errorf("image %q is not there for %s: %w", ref.Name, key, containerizer.ErrNotFound)
}

// imageID says whether s may be (the beginning of) a digest's digits.
func imageID(s string) bool {
	s = strings.TrimPrefix(s, "sha256:")
	return s != "" && len(s) <= 128 && strings.Trim(s, "0123456789abcdef") == ""
}

// byID finds an image by manifest or configuration digest, or the beginning of
// the latter's digits.
func (p *Provisioner) byID(id string) (*store.Image, error) {
	images, _, err := p.store.Images()
	if err != nil {
		return nil, err
	}
	hex := strings.TrimPrefix(id, "sha256:")
	var match *store.Image
	for _, i := range images {
		if string(i.Manifest.Digest) == id || i.Manifest.Digest.Encoded() == hex {
			return i, nil
		}
		if !strings.HasPrefix(i.ConfigID.Digest.Encoded(), hex) {
			continue
		}
		if match != nil && match.ConfigID.Digest != i.ConfigID.Digest {
			return nil, fmt.Errorf("image id %q is the beginning of several: %w", id, containerizer.ErrInvalid)
		}
		match = i
	}
	if match == nil {
		return nil, fmt.Errorf("image %q: %w", id, containerizer.ErrNotFound)
	}
	return match, nil
}
