package trust

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
)

// maxPolicy is how large a policy may be.
const maxPolicy = 4 << 20

// Connect reaches the origin of the image in question.
type Connect = func(context.Context) (containerizer.ImageOrigin, error)

// Verifier judges images by policies. The zero value works; it keeps nothing, and
// is safe for concurrent use.
type Verifier struct{}

// Verify judges the image that has a canonical name by the policy in a file.
// digests are what the name stands for: of an index and of the platform's manifest,
// or of the latter alone. With none it decides what the name alone decides. An
// origin is connected to only when signatures are needed, and stays open; connect
// may be nil when none may be asked.
//
// It returns the files that the judgement rests on, with their digests. Errors:
// ErrUntrusted, ErrInvalid (policy or key), ErrUnsupported (requirement), and those
// of the origin.
func (Verifier) Verify(ctx context.Context, policy, name string, digests []digest.Digest, connect Connect) (map[string]digest.Digest, error) {
	files := files{}
	raw, err := files.file(policy, maxPolicy)
	if err != nil {
		return nil, fmt.Errorf("signature policy: %w", err)
	}
	p, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("signature policy %q: %w", policy, err)
	}
	j := &judgement{ctx: ctx, origin: originOf(name), digests: digests, connect: connect, files: files}
	all, scope := p.requirements(j.origin)
	for _, r := range all {
		if err := j.meets(r); err != nil {
			what := "image " + quote(name)
			if name == "" {
				what = "an image of unknown origin"
			}
			return nil, fmt.Errorf("%s: by the signature policy %q, %s: %w", what, policy, scope, err)
		}
	}
	return files, nil
}

// judgement is about one image.
type judgement struct {
	ctx     context.Context //nolint:containedctx // lives for one call of Verify
	origin  origin
	digests []digest.Digest
	connect Connect
	files   files

	remote  containerizer.TaggedOrigin // nil before it is asked
	found   [places][]signature
	fetched [places]bool
}

// refuse says that a requirement is not met.
func (*judgement) refuse(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), containerizer.ErrUntrusted)
}

func (j *judgement) meets(r requirement) error {
	switch r.kind {
	case acceptAnything:
		return nil
	case rejectAll:
		return j.refuse("everything is rejected")
	case sigstoreSigned:
		return r.signed.check(j)
	}
	return fmt.Errorf("requirement %s (GPG) cannot be checked; sigstoreSigned can: %w", r.kind, containerizer.ErrUnsupported)
}

// signatures fetches those of all digests that are in a place, once.
func (j *judgement) signatures(where place) (_ []signature, err error) {
	if j.fetched[where] {
		return j.found[where], nil
	}
	if j.remote == nil {
		if err := j.reach(); err != nil {
			return nil, err
		}
	}
	var all []signature
	for _, d := range j.digests {
		s, err := signaturesOf(j.ctx, j.remote, where, d)
		if err != nil {
			return nil, fmt.Errorf("look for signatures: %w", err)
		}
		all = append(all, s...)
	}
	j.found[where], j.fetched[where] = all, true
	return all, nil
}

// reach connects to where the signatures are.
func (j *judgement) reach() error {
	if j.connect == nil {
		return j.refuse("its signature was not verified yet, and the registry must not be asked; pull it again")
	}
	o, err := j.connect(j.ctx)
	if err != nil {
		return fmt.Errorf("look for signatures: %w", err)
	}
	tagged, ok := o.(containerizer.TaggedOrigin)
	if !ok {
		return j.refuse("it has no signatures: only images in registries do")
	}
	j.remote = tagged
	return nil
}

// files are those that were read, with their digests.
type files map[string]digest.Digest

// where is for messages.
func (m material) where() string {
	if m.path == "" {
		return ""
	}
	return " in " + quote(m.path)
}

func (f files) read(m material, limit int64) ([]byte, error) {
	if m.path == "" {
		return m.data, nil
	}
	raw, err := f.file(m.path, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.at, err)
	}
	return raw, nil
}

// file reads a file of the policy's.
func (f files) file(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, containerizer.ErrFailedPrecondition)
	}
	defer func() { _ = file.Close() }() // was only read
	raw, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%q has more than %d bytes: %w", path, limit, containerizer.ErrInvalid)
	}
	f[path] = digest.FromBytes(raw)
	return raw, nil
}
