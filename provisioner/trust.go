package provisioner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner/store"
)

// Trust says which images may be used. The zero value accepts all.
type Trust struct {
	// Policy is the path of a signature policy, which must exist; "" is the first of
	// Defaults that does, and without one everything is accepted.
	Policy   string
	Defaults []string
	// Verifier judges by it. Without one nothing is accepted under a policy.
	Verifier Verifier
}

// Verifier judges images by signature policies (package trust).
type Verifier interface {
	// Verify says whether a policy accepts the image with a canonical name, "" for an
	// unknown one. digests are what the name stands for; with none Verify decides
	// what the name alone decides. connect reaches the image's origin, where its
	// signatures are, and is the caller's to close; nil is that nobody may be asked.
	// It returns the files that the judgement rests on, the policy among them, with
	// the digests of their content.
	// Errors: ErrUntrusted, ErrInvalid, ErrUnsupported, and those of the origin.
	Verify(
		ctx context.Context, policy, name string, digests []digest.Digest, connect func(context.Context) (containerizer.ImageOrigin, error),
	) (files map[string]digest.Digest, err error)
}

// inForce returns the path of the policy, "" if there is none.
func (t *Trust) inForce() (string, error) {
	if t.Policy != "" {
		if _, err := os.Stat(t.Policy); err != nil {
			return "", fmt.Errorf("signature policy: %w: %w", err, containerizer.ErrFailedPrecondition)
		}
		return t.Policy, nil
	}
	for _, path := range t.Defaults {
		_, err := os.Stat(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) { // it may say that nothing is to be accepted
			return "", fmt.Errorf("signature policy: %w: %w", err, containerizer.ErrFailedPrecondition)
		}
	}
	return "", nil
}

// mayPull refuses what the policy refuses by its name, before anybody is asked.
func (p *Provisioner) mayPull(ctx context.Context, name string) error {
	policy, err := p.o.Trust.inForce()
	if err != nil || policy == "" {
		return err
	}
	_, err = p.verify(ctx, policy, &store.Origin{Name: name}, nil)
	return err
}

// judge decides whether what a name stands for may be fetched, and returns the
// record of that.
func (p *Provisioner) judge(ctx context.Context, origin containerizer.ImageOrigin, name string, r *resolved) (*store.Origin, error) {
	o := &store.Origin{Name: name, Manifest: r.desc.Digest, Digests: []digest.Digest{r.target.Digest}}
	if r.target.Digest != r.desc.Digest {
		o.Digests = append(o.Digests, r.desc.Digest)
	}
	var err error
	if o.Policy, err = p.o.Trust.inForce(); err != nil || o.Policy == "" {
		return o, err
	}
	o.Files, err = p.verify(ctx, o.Policy, o, func(context.Context) (containerizer.ImageOrigin, error) { return origin, nil })
	return o, err
}

// connect reaches the origin of an image.
type connect = func(context.Context) (containerizer.ImageOrigin, error)

func (p *Provisioner) verify(ctx context.Context, policy string, o *store.Origin, c connect) (map[string]digest.Digest, error) {
	if p.o.Trust.Verifier == nil {
		return nil, fmt.Errorf("image %q: nothing here can judge it by the signature policy %q: %w", o.Name, policy, containerizer.ErrUntrusted)
	}
	return p.o.Trust.Verifier.Verify(ctx, policy, o.Name, o.Digests, c)
}

// verifyLater judges an image that was fetched before. Credentials are for the
// registry of the name in use, no other one.
func (p *Provisioner) verifyLater(ctx context.Context, policy string, source containerizer.ImageSource, name string, o *store.Origin) (map[string]digest.Digest, error) {
	if source.Pull == containerizer.PullNever {
		return p.verify(ctx, policy, o, nil)
	}
	auth := source.Auth
	if o.Name != name {
		auth = nil
	}
	var origin containerizer.ImageOrigin
	files, err := p.verify(ctx, policy, o, func(ctx context.Context) (_ containerizer.ImageOrigin, err error) {
		origin, err = p.fetcher.Connect(ctx, o.Name, auth)
		return origin, err
	})
	if origin != nil {
		_ = origin.Close() // was only read
	}
	return files, err
}

// allowed says whether an image of the store may be used. What was judged by the
// very policy that is in force is not judged again.
//
// An image pulled by name is judged by that name. One that is used by an id, or by
// a name that it was only given here, is as good as any of the places it came
// from: the bytes are the same.
func (p *Provisioner) allowed(ctx context.Context, source containerizer.ImageSource, name string, i *store.Image) error {
	policy, err := p.o.Trust.inForce()
	if err != nil || policy == "" {
		return err
	}
	origins, err := p.origins(name, i)
	if err != nil {
		return err
	}
	for _, o := range origins {
		if o.Policy == policy && unchangedFiles(o.Files) {
			return nil
		}
	}
	for _, o := range origins {
		files, verr := p.verifyLater(ctx, policy, source, name, o)
		if verr != nil {
			err = errors.Join(err, verr)
			continue
		}
		o.Policy, o.Files = policy, files
		p.remember(o)
		return nil
	}
	return err
}

// remember records a judgement. Without the record it is judged again.
func (p *Provisioner) remember(o *store.Origin) {
	if o.Name == "" { // nobody knows where it came from, nor should seem to
		return
	}
	if err := p.store.PutOrigin(o); err != nil {
		p.log.Warn("judgement of an image not recorded", log.String("image", o.Name), log.Error(err))
	}
}

// origins are where the image may have come from: at least one.
func (p *Provisioner) origins(name string, i *store.Image) ([]*store.Origin, error) {
	m := i.Manifest.Digest
	o, err := p.store.Origin(m, name)
	if err == nil {
		return []*store.Origin{o}, nil
	}
	if errors.Is(err, containerizer.ErrNotFound) {
		all, err := p.store.Origins(m)
		if err != nil {
			return nil, fmt.Errorf("find where image %q came from: %w", name, err)
		}
		if len(all) > 0 {
			return all, nil
		}
	}
	unknown := &store.Origin{Name: name, Manifest: m, Digests: []digest.Digest{m}}
	if name == string(m) { // an id
		unknown.Name = ""
	}
	if i.Index != "" {
		unknown.Digests = append(unknown.Digests, i.Index)
	}
	return []*store.Origin{unknown}, nil
}

// unchangedFiles says whether all files have the content that they had.
func unchangedFiles(files map[string]digest.Digest) bool {
	for path, want := range files {
		raw, err := os.ReadFile(path)
		if err != nil || digest.FromBytes(raw) != want {
			return false
		}
	}
	return len(files) > 0
}
