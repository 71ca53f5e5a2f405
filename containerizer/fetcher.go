package containerizer

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Fetcher brings images from registries, directories and archives. It verifies
// nothing and keeps nothing: that is the store's. Safe for concurrent use.
type Fetcher interface {
	// Name returns the canonical name of the image that a user's reference means.
	// local says that it is a file or directory of this machine, which costs little
	// to look at again whenever it is used. It does no I/O. Errors: ErrInvalid,
	// ErrUnsupported.
	Name(reference string) (name string, local bool, err error)
	// Connect prepares to fetch one image by its canonical name. auth may be nil.
	Connect(ctx context.Context, name string, auth *RegistryAuth) (ImageOrigin, error)
	// Contents lists the images in an archive file of any known form, compressed or
	// not.
	Contents(ctx context.Context, path string) ([]ArchivedImage, error)
}

// Searcher is implemented by fetchers that may look for an image in several
// registries.
type Searcher interface {
	// Search returns the canonical names that a reference may mean, in the order in
	// which they are tried; Name returns the first of them. It does no I/O. Errors are
	// Name's.
	Search(reference string) (names []string, local bool, err error)
}

// ImageOrigin is where the content of one image comes from. Resolve and Open are
// safe for concurrent use. Errors: ErrNotFound, ErrPermission, ErrUnavailable,
// ErrInvalid, ErrUnsupported, ErrDataCorrupt.
type ImageOrigin interface {
	// Resolve returns the manifest or index that the name stands for now.
	Resolve(ctx context.Context) (v1.Descriptor, []byte, error)
	// Open returns a manifest or blob of the image. The reader carries on by itself
	// over broken connections; what it returns may still be anything. The caller
	// closes it.
	Open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	Close() error
}

// RangeOpener is implemented by origins that can begin in the middle of a blob,
// for a download that is carried on later.
type RangeOpener interface {
	// OpenAt is Open from byte offset on. Errors besides Open's: ErrUnsupported when
	// no source can begin there; Open still can at the start.
	OpenAt(ctx context.Context, d v1.Descriptor, offset int64) (io.ReadCloser, error)
}

// Doubter is implemented by origins that have several sources for the same
// content, such as mirrors.
type Doubter interface {
	// Doubt says that what Open returned for d was something else. The sources that
	// it came from are not asked again; false is that there is no other one.
	Doubt(d v1.Descriptor) bool
}

// BlobSource is implemented by readers of blobs that know who sends the bytes.
type BlobSource interface {
	// Source is the host, and how often the blob was asked for again. It is called by
	// who reads.
	Source() (host string, retries int)
}

// ImageSender is implemented by fetchers that can also bring images elsewhere.
type ImageSender interface {
	// Destination prepares to write one image under a user's reference. Errors:
	// ErrInvalid, ErrUnsupported, ErrPermission, ErrUnavailable.
	Destination(ctx context.Context, reference string) (ImageDestination, error)
}

// ImageDestination is a place that an image is written to: blobs before the manifests
// that name them, manifests before the indexes. It is safe for concurrent use.
type ImageDestination interface {
	// Single says that there is room for one platform only.
	Single() bool
	// PutBlob stores a blob. open gives its content, verified as it is read; it is not
	// called when the blob is there already, and again when storing is tried again.
	PutBlob(ctx context.Context, d v1.Descriptor, open func() (io.ReadCloser, error)) error
	// PutManifest stores a manifest or index.
	PutManifest(ctx context.Context, d v1.Descriptor, raw []byte) error
	// Commit makes the reference stand for a manifest or index that was put.
	Commit(ctx context.Context, d v1.Descriptor) error
	// Close gives up what was not committed. It is safe to be called after Commit.
	Close() error
}

// TaggedOrigin is implemented by origins in which an image has others beside it,
// such as its signatures.
type TaggedOrigin interface {
	ImageOrigin
	// ResolveTag is Resolve for another tag of the image's repository. Open returns
	// what belongs to it, too.
	ResolveTag(ctx context.Context, tag string) (v1.Descriptor, []byte, error)
}

// ReferredOrigin is implemented by origins that know what refers to a manifest, as
// OCI 1.1 has it.
type ReferredOrigin interface {
	ImageOrigin
	// Referrers returns the manifests of some artifact types that say that they are
	// about what has the digest d; none is no error. Open returns them.
	Referrers(ctx context.Context, d digest.Digest, artifactTypes ...string) ([]v1.Descriptor, error)
}

// ArchivedImage is one image in an archive.
type ArchivedImage struct {
	// Reference is a canonical name to connect to.
	Reference string
	// Names are canonical names that the archive gives to the image.
	Names []string
}
