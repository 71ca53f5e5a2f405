package provisioner

import (
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/store"
)

// snapshot is what List and the like read at once.
type snapshot struct {
	images []*store.Image
	refs   []*store.Ref
	parts  map[string]*part // by layer directory, or digest of a blob
	named  map[digest.Digest]*naming
}

// part is something that images take space by.
type part struct {
	bytes int64
	users int // images
}

// naming is what an image is called.
type naming struct {
	names  []string // sorted
	pinned bool
}

func (p *Provisioner) snapshot() (*snapshot, error) {
	s := &snapshot{parts: map[string]*part{}, named: map[digest.Digest]*naming{}}
	var err error
	if s.images, _, err = p.store.Images(); err != nil { // broken ones are Check's
		return nil, fmt.Errorf("list images: %w", err)
	}
	if s.refs, _, err = p.store.Refs(); err != nil {
		return nil, fmt.Errorf("list names of images: %w", err)
	}
	for _, i := range s.images {
		p.account(s, i)
	}
	for _, r := range s.refs {
		s.name(r)
	}
	for _, n := range s.named {
		slices.Sort(n.names)
	}
	return s, nil
}

// account adds the parts of an image.
func (p *Provisioner) account(s *snapshot, i *store.Image) {
	for _, name := range i.LayerDirs() {
		if s.uses(name) {
			continue
		}
		if l, err := p.store.Layer(name); err == nil {
			s.parts[name].bytes = l.Content.DiskBytes
		}
	}
	for _, d := range i.BlobDigests() {
		if !s.uses(string(d)) {
			s.parts[string(d)].bytes = p.store.BlobBytes(d)
		}
	}
}

// name adds a name to its images.
func (s *snapshot) name(r *store.Ref) {
	for _, i := range r.Images {
		n := s.named[i.Manifest]
		if n == nil {
			n = &naming{}
			s.named[i.Manifest] = n
		}
		n.pinned = n.pinned || r.Pinned
		if !slices.Contains(n.names, r.Name) {
			n.names = append(n.names, r.Name)
		}
	}
}

// uses counts one more image that has a part. It says whether it was known.
func (s *snapshot) uses(name string) (known bool) {
	p := s.parts[name]
	if p == nil {
		s.parts[name] = &part{users: 1}
		return false
	}
	p.users++
	return true
}

// partsOf are all parts of an image, each once.
func partsOf(i *store.Image) []string {
	out := i.LayerDirs()
	for _, d := range i.BlobDigests() {
		out = append(out, string(d))
	}
	return out
}

// give takes an image out of the account, and says what that frees.
func (s *snapshot) give(i *store.Image) (freed int64) {
	for _, name := range partsOf(i) {
		p := s.parts[name]
		if p.users--; p.users == 0 {
			freed += p.bytes
		}
	}
	return freed
}

// together are the images that an image shares a name with, itself included: those
// of other platforms.
func (s *snapshot) together(m digest.Digest) []*store.Image {
	in := map[digest.Digest]bool{m: true}
	for _, r := range s.refs {
		if slices.ContainsFunc(r.Images, func(i store.RefImage) bool { return i.Manifest == m }) {
			for _, i := range r.Images {
				in[i.Manifest] = true
			}
		}
	}
	var out []*store.Image
	for _, i := range s.images {
		if in[i.Manifest.Digest] {
			out = append(out, i)
		}
	}
	return out
}

// names are those that stand for an image, sorted.
func (s *snapshot) names(m digest.Digest) (names []string, pinned bool) {
	if n := s.named[m]; n != nil {
		return slices.Clone(n.names), n.pinned
	}
	return nil, false
}

func (s *snapshot) describe(i *store.Image) containerizer.Image {
	out := containerizer.Image{
		Manifest: i.Manifest.Digest, Index: i.Index, Config: i.ConfigID.Digest, Platform: i.Platform, Created: i.Created,
		Labels: i.Config.Labels,
	}
	out.References, out.Pinned = s.names(i.Manifest.Digest)
	for _, l := range i.Layers {
		out.Layers = append(out.Layers, l.DiffID)
	}
	for _, name := range partsOf(i) {
		p := s.parts[name]
		out.SizeBytes += p.bytes
		if p.users > 1 {
			out.SharedBytes += p.bytes
		}
	}
	return out
}

// held are the parts of images that a Prune leaves: those in use, and pinned ones.
func (s *snapshot) held(used map[digest.Digest][]string) map[string]bool {
	out := map[string]bool{}
	for _, i := range s.images {
		if _, pinned := s.names(i.Manifest.Digest); !pinned && len(used[i.Manifest.Digest]) == 0 {
			continue
		}
		for _, name := range partsOf(i) {
			out[name] = true
		}
	}
	return out
}
