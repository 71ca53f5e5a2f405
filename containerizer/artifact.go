package containerizer

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// Artifact is something that is fetched into the sandbox of a container before its
// process starts, as Mesos's CommandInfo.URI. Only URI is needed.
type Artifact struct {
	// URI says where it is: "https://…", "s3://BUCKET/KEY", "file:///…", an absolute
	// path. A fragment "#sha256=HEX" or "#sha512=HEX" is a checksum.
	URI string `json:"uri"`
	// Output is the path below the sandbox at which the file is placed; "" is the last
	// element of the URI's path. Its ending decides whether it is an archive.
	Output string `json:"output,omitempty"`
	// Executable makes the file executable by everybody. It is not extracted then.
	Executable bool `json:"executable,omitempty"`
	// NoExtract leaves an archive or compressed file as it is. Otherwise it is
	// extracted into the sandbox itself, whatever directories Output has.
	NoExtract bool `json:"noExtract,omitempty"`
	// KeepArchive places the archive beside what was extracted from it, as Mesos does
	// with what it does not cache.
	KeepArchive bool `json:"keepArchive,omitempty"`
	// Cache lets later fetches of the same user and URI use what this one brought, as
	// long as its origin or Checksum says that it is unchanged.
	Cache bool `json:"cache,omitempty"`
	// Checksum is a sha256 or sha512 digest that the file must have.
	Checksum digest.Digest `json:"checksum,omitempty"`
	// User owns what is placed: "uid[:gid]" or the name of a user of the node. Files of
	// the node are read with this user's rights. "" is FetchOptions' owner, and the
	// rights of the caller.
	User string `json:"user,omitempty"`
}

// Validate checks what can be known without I/O. Errors: ErrInvalid.
func (a *Artifact) Validate() error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("artifact %.200q: "+format+": %w", append(append([]any{a.URI}, args...), ErrInvalid)...)
	}
	switch {
	case a.URI == "":
		return fmt.Errorf("an artifact has no URI: %w", ErrInvalid)
	case len(a.URI) > 8192 || hasControlByte(a.URI):
		return refuse("the URI has more than 8192 bytes or holds control characters")
	case a.Output != "" && !localPath(a.Output):
		return refuse("output %.200q is not a relative path to a file, without '..'", a.Output)
	case hasControlByte(a.User):
		return refuse("user %q holds control characters", a.User)
	}
	if a.Checksum == "" {
		return nil
	}
	if err := a.Checksum.Validate(); err != nil || !slices.Contains(ArtifactChecksums(), a.Checksum.Algorithm()) {
		return refuse("checksum %.200q is neither sha256 nor sha512 in hexadecimal digits", a.Checksum)
	}
	return nil
}

// ArtifactChecksums are the algorithms of Artifact.Checksum.
func ArtifactChecksums() []digest.Algorithm {
	return []digest.Algorithm{digest.SHA256, digest.SHA512}
}

// localPath says whether p names something below a directory, by any rule.
func localPath(p string) bool {
	if hasControlByte(p) || path.IsAbs(p) || strings.HasSuffix(p, "/") || path.Clean(p) == "." || len(p) >= 4096 {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." || len(part) > 255 {
			return false
		}
	}
	return true
}

func hasControlByte(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// Owner is a user and group of the node.
type Owner struct{ UID, GID uint32 }

// FetchOptions go with a fetch.
type FetchOptions struct {
	// Owner owns what is placed for artifacts that name no user; nil is the caller.
	Owner *Owner
	// Progress, when set, is called from one goroutine at a time and must return
	// quickly.
	Progress func(ArtifactProgress)
}

// ArtifactProgress is the state of one of the artifacts of a fetch. Total is -1
// while it is unknown.
type ArtifactProgress struct {
	Index       int
	Phase       string // "downloading", "cached", "extracting", "complete"
	Done, Total int64  // bytes
}

// FetchedArtifact tells what became of an artifact.
type FetchedArtifact struct {
	// URI as it may be shown: without user information and query.
	URI string `json:"uri"`
	// Path below the directory that the file has; "" when it was only extracted.
	Path string `json:"path,omitempty"`
	// Extracted is the number of entries that were extracted.
	Extracted int64         `json:"extracted,omitempty"`
	Bytes     int64         `json:"bytes"`
	SHA256    digest.Digest `json:"sha256"`
	// FromCache says that no byte of it was downloaded.
	FromCache bool `json:"fromCache,omitempty"`
}

// ArtifactFetcher brings artifacts into directories. It is safe for concurrent use,
// across processes too.
type ArtifactFetcher interface {
	// Fetch downloads, verifies and extracts list, several at once, and then places all
	// of them in dir, in order: later ones replace files of earlier ones and what was
	// there. Nothing is written outside of dir, whatever URIs, archives and links in dir
	// say, and dir is as before when an artifact cannot be had. dir exists. Errors:
	// ErrInvalid, ErrUnsupported (scheme), ErrNotFound, ErrPermission, ErrUnavailable,
	// ErrDataCorrupt (checksum, archive), ErrResourceExhausted (limits, disk).
	Fetch(ctx context.Context, dir string, list []Artifact, o FetchOptions) ([]FetchedArtifact, error)
}

// Artifacts fetches artifacts, and looks after the cache of them.
type Artifacts interface {
	ArtifactFetcher
	// CacheUsage tells what the cache takes on disk.
	CacheUsage(ctx context.Context) (*ArtifactCacheUsage, error)
	// PruneCache removes what was not used for a time and is not in use now, and says
	// how many bytes that were.
	PruneCache(ctx context.Context, unused time.Duration) (int64, error)
}

// ArtifactCacheUsage is what the cache of artifacts takes.
type ArtifactCacheUsage struct {
	Entries int `json:"entries"`
	// Bytes of all entries and unfinished downloads.
	Bytes int64 `json:"bytes"`
	// UsedEntries and UsedBytes belong to entries that are being read or made, which prune leaves.
	UsedEntries int   `json:"usedEntries"`
	UsedBytes   int64 `json:"usedBytes"`
	MaxBytes    int64 `json:"maxBytes"`
}

// ArchiveKind says how an archive is to be read.
type ArchiveKind string

// Kinds of archives. Compression is found out by content.
const (
	ArchiveTar ArchiveKind = "tar"
	ArchiveZip ArchiveKind = "zip"
	// ArchiveFile is one compressed file.
	ArchiveFile ArchiveKind = "file"
)

// Extraction describes how an archive that is no image layer is extracted.
type Extraction struct {
	Kind ArchiveKind `json:"kind"`
	// Name of the file that ArchiveFile gives.
	Name string `json:"name,omitempty"`
	// Owner of everything; owners in the archive do not count.
	Owner Owner `json:"owner"`
	// MaxBytes bounds what all files have together, MaxEntries their number; 0 is a
	// default.
	MaxBytes   int64 `json:"maxBytes,omitempty"`
	MaxEntries int64 `json:"maxEntries,omitempty"`
}

// ArchiveExtractor extracts archives.
type ArchiveExtractor interface {
	// Extract extracts archive, a regular file, into the empty directory target, which
	// was opened by its absolute path. Set-id bits, devices and extended attributes are
	// left out; names with "..", hard links out of the archive and whatever exceeds limits
	// are errors. Symbolic links may lead anywhere: they are for the container to
	// follow. It returns the number of entries. Errors: ErrInvalid, ErrUnsupported,
	// ErrDataCorrupt, ErrResourceExhausted.
	Extract(ctx context.Context, archive, target *os.File, x Extraction) (entries int64, err error)
}
