package containerizer

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is an image of the local store.
type Image struct {
	// References are the canonical names that point to it; none when untagged.
	References []string `json:"references"`
	// Manifest is the digest of the platform's manifest; Index of the index it was
	// chosen from, if any; Config of its configuration (Docker's image ID).
	Manifest digest.Digest `json:"manifest"`
	Index    digest.Digest `json:"index,omitempty"`
	Config   digest.Digest `json:"config"`
	Platform v1.Platform   `json:"platform"`
	Created  time.Time     `json:"created,omitzero"`
	// Layers are the diffIDs, bottom first.
	Layers []digest.Digest   `json:"layers"`
	Labels map[string]string `json:"labels,omitempty"`
	// SizeBytes is what its layers and compressed blobs take on disk, SharedBytes how
	// much of that other images use too.
	SizeBytes   int64 `json:"sizeBytes"`
	SharedBytes int64 `json:"sharedBytes"`
	Pinned      bool  `json:"pinned,omitempty"`
	// Configuration is the whole image configuration document.
	Configuration *v1.Image `json:"configuration,omitempty"`
}

// Progress is a state of one layer in a pull, push or copy. Done == Total once
// complete; Total is 0 while unknown.
type Progress struct {
	Layer digest.Digest // of the compressed blob
	Phase Phase
	Done  int64 // bytes
	Total int64 // bytes
	// Rate is in bytes a second, over the last moments; 0 while unknown.
	Rate int64
	// Retries is how often the blob had to be asked for again.
	Retries int
	// Source is the host that sends it, such as a mirror; "" is not known, or a file.
	Source string
}

// Phase is what happens to a layer.
type Phase string

// Phases, in their order. A layer is unpacked while it is downloaded; Unpacking is
// what remains when all of it has come.
const (
	PhaseWaiting     Phase = "waiting"
	PhaseDownloading Phase = "downloading"
	PhaseUnpacking   Phase = "unpacking"
	PhaseUploading   Phase = "uploading"
	PhaseExists      Phase = "exists"
	PhaseComplete    Phase = "complete"
)

// RegistryAuth are credentials for one pull, in the forms of CRI's AuthConfig and
// Docker's config.json. RegistryToken comes before Username and Password, these
// before IdentityToken, and that before Auth. All empty is "without credentials".
// They live in memory only: every way to print or to encode them hides them.
type RegistryAuth struct {
	Username string
	Password string
	// Auth is base64 of "user:password".
	Auth string
	// IdentityToken is exchanged for tokens, RegistryToken is one and sent as it is.
	IdentityToken string
	RegistryToken string
	// ServerAddress is the host, or its URL, that they are for; "" is the registry
	// that the image's name says. No other host gets them, no mirror either.
	ServerAddress string
}

// Format prints that there are credentials.
func (RegistryAuth) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[registry credentials]") }

// MarshalJSON encodes nothing of them.
func (RegistryAuth) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// PullOptions go with a pull. Progress, when set, is called from one goroutine
// at a time and must return quickly.
type PullOptions struct {
	Progress func(Progress)
}

// PruneOptions select what Prune removes.
type PruneOptions struct {
	// All removes every image without a container, not only untagged ones.
	All bool
	// OlderThan spares younger images.
	OlderThan time.Duration
	// Labels, "KEY" or "KEY=VALUE", have to be there, WithoutLabels must not.
	Labels        []string
	WithoutLabels []string
}

// PruneReport tells what was removed.
type PruneReport struct {
	Images         []string `json:"images"`
	Layers         int      `json:"layers"`
	ReclaimedBytes int64    `json:"reclaimedBytes"`
}

// StoreUsage is what the image store takes on disk.
type StoreUsage struct {
	Images     int   `json:"images"`
	Layers     int   `json:"layers"`
	LayerBytes int64 `json:"layerBytes"`
	BlobBytes  int64 `json:"blobBytes"`
	// WritableBytes is what containers wrote.
	WritableBytes int64 `json:"writableBytes"`
	// ReclaimableBytes would go with Prune(All).
	ReclaimableBytes int64 `json:"reclaimableBytes"`
}

// StoreCheck is what was found in an image store. Each string is a sentence.
type StoreCheck struct {
	// Found is damage.
	Found []string `json:"found"`
	// Left was left over by processes that died; the next sweep removes it.
	Left []string `json:"left"`
	// Repaired is what was done, Owed what could not be put right.
	Repaired []string `json:"repaired"`
	Owed     []string `json:"owed"`
}

// ArchiveFormat is a form in which images are saved.
type ArchiveFormat string

// Archive formats.
const (
	ArchiveOCI    ArchiveFormat = "oci-archive"
	ArchiveDocker ArchiveFormat = "docker-archive"
)

// Images manages the local image store. All methods are safe for concurrent use,
// across processes too.
type Images interface {
	// Pull makes source available; with PullMissing it is a no-op for a local image.
	Pull(ctx context.Context, source ImageSource, o PullOptions) (*Image, error)
	List(ctx context.Context) ([]Image, error)
	// Inspect finds an image by reference, manifest or config digest, or an
	// unambiguous prefix of the latter's hexadecimal digits.
	Inspect(ctx context.Context, nameOrDigest string) (*Image, error)
	Tag(ctx context.Context, nameOrDigest, reference string) error
	// Remove removes the name, and the image when no name is left. Without force an
	// image that a container uses is ErrFailedPrecondition. It returns what was
	// untagged and deleted.
	Remove(ctx context.Context, nameOrDigest string, force bool) (*PruneReport, error)
	// Load reads an OCI or Docker archive, compressed or not. The References of what it
	// returns are those that the archive gave, or all of an image that it does not name.
	Load(ctx context.Context, r io.Reader, o PullOptions) ([]Image, error)
	Save(ctx context.Context, w io.Writer, f ArchiveFormat, references []string) error
	Usage(ctx context.Context) (*StoreUsage, error)
	Prune(ctx context.Context, o PruneOptions) (*PruneReport, error)
	// Check verifies the store; with repair it removes what is broken and fetches it
	// again.
	Check(ctx context.Context, repair bool) (*StoreCheck, error)
}

// ImagePinner is implemented by image stores that can keep images from being
// removed to make room, by Prune, or without force.
type ImagePinner interface {
	// Pin pins one name of an image, or by digest all of its names. Pinning is a
	// property of the name: what it stands for later is pinned as well.
	Pin(ctx context.Context, nameOrDigest string, pinned bool) error
}

// CopyOptions go with a push or a copy.
type CopyOptions struct {
	// Platform copies one platform of an image that has several; "" is all of them,
	// in a place that can hold only one the node's.
	Platform string
	// Progress is as in PullOptions.
	Progress func(Progress)
}

// ImportOptions say what an imported root filesystem becomes.
type ImportOptions struct {
	// Reference is the image's name; "" leaves it without one.
	Reference string
	// Changes are instructions of Dockerfiles that set the configuration: CMD,
	// ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR.
	Changes []string
	// Message is a comment, for the image's history.
	Message string
	// Platform is "os/arch[/variant]"; "" is the node's.
	Platform string
	Progress func(Progress)
}

// ImageMover is implemented by Images that bring images to other places, and make
// them of what is none.
type ImageMover interface {
	// Push sends a local image to where target says, "" being its own name. An image of
	// several platforms goes as one if all of them are here, else the one that is.
	// It returns the digest of what target stands for now.
	Push(ctx context.Context, nameOrDigest, target string, o CopyOptions) (digest.Digest, error)
	// Copy copies an image from one place to another, past the local store. Manifests
	// and blobs stay as they are, so their digests stay.
	Copy(ctx context.Context, source, target string, o CopyOptions) (digest.Digest, error)
	// Import makes an image of one layer of the tar archive r, compressed or not.
	Import(ctx context.Context, r io.Reader, o ImportOptions) (*Image, error)
}
