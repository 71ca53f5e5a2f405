package unpack

import (
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
)

// Descriptors and sizes that parent and child agree on.
const (
	// TargetFD is the directory to unpack into.
	TargetFD = 3
	// ResultFD takes the result.
	ResultFD = 4
	// maxResult bounds what the parent reads from the child.
	maxResult = 256 << 20
)

// Limits bound what one layer may do. Zero fields take the defaults.
type Limits struct {
	// Bytes of all files together, holes included.
	Bytes int64 `json:"bytes,omitempty"`
	// Entries in the archive.
	Entries int64 `json:"entries,omitempty"`
	// Depth of directories.
	Depth int `json:"depth,omitempty"`
	// Ratio of decompressed to compressed bytes, once RatioAfter bytes came out.
	Ratio      int64 `json:"ratio,omitempty"`
	RatioAfter int64 `json:"ratioAfter,omitempty"`
	// XattrBytes of one entry.
	XattrBytes int `json:"xattrBytes,omitempty"`
	// Notes bounds the directories and links that need more than unpacking.
	Notes int `json:"notes,omitempty"`
	// Processors that the child uses at once; 0 is all. With one, nothing in it waits
	// for another thread of it.
	Processors int `json:"processors,omitempty"`
}

// WithDefaults fills in the zero fields.
func (l Limits) WithDefaults() Limits {
	return Limits{
		Bytes:      or(l.Bytes, 256<<30),
		Entries:    or(l.Entries, 10_000_000),
		Depth:      or(l.Depth, 2048),
		Ratio:      or(l.Ratio, 200),
		RatioAfter: or(l.RatioAfter, 100<<20),
		XattrBytes: or(l.XattrBytes, 64<<10),
		Notes:      or(l.Notes, 1_000_000),
		Processors: l.Processors,
	}
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// Link is a hard link whose target is not in its own layer.
type Link struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// Result is what unpacking one layer gave. Paths are relative to the layer,
// without "." and "..", and have no symbolic link in them.
type Result struct {
	// DiffID is the digest of the decompressed stream, TarBytes its length.
	DiffID   digest.Digest `json:"diffID"`
	TarBytes int64         `json:"tarBytes"`
	// DiskBytes is what the files take, in whole blocks.
	DiskBytes int64 `json:"diskBytes"`
	Entries   int64 `json:"entries"`
	// Implicit are directories that the archive uses and does not list ("" is the
	// root). They have mode 0755 here and take over what the layers below say.
	Implicit []string `json:"implicit,omitempty"`
	// Links are to be made from the layers below.
	Links []Link `json:"links,omitempty"`
	// Opaque and Whiteouts are directories that hide the layers below, and that hold
	// whiteouts.
	Opaque    []string `json:"opaque,omitempty"`
	Whiteouts []string `json:"whiteouts,omitempty"`
	// Warnings tell what of the archive was left out, in sentences.
	Warnings []string `json:"warnings,omitempty"`
}

// Reply is what the child sends.
type Reply struct {
	Result *Result `json:"result,omitempty"`
	Error  string  `json:"error,omitempty"`
	Class  string  `json:"class,omitempty"`
}

// classes are the ones that unpacking can end with.
func classes() map[string]error {
	return map[string]error{
		"invalid":     containerizer.ErrInvalid,
		"unsupported": containerizer.ErrUnsupported,
		"corrupt":     containerizer.ErrDataCorrupt,
		"exhausted":   containerizer.ErrResourceExhausted,
		"permission":  containerizer.ErrPermission,
	}
}

// NewReply puts an outcome into a form that survives the pipe.
func NewReply(r *Result, err error) Reply {
	if err == nil {
		return Reply{Result: r}
	}
	reply := Reply{Error: err.Error()}
	for name, class := range classes() {
		if errors.Is(err, class) {
			reply.Class = name
		}
	}
	return reply
}

// remoteError is an error that happened in the child.
type remoteError struct {
	text  string
	class error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.class }

// Err returns the error of a reply, with its class.
func (r Reply) Err() error {
	if r.Error == "" {
		return nil
	}
	return &remoteError{text: r.Error, class: classes()[r.Class]}
}
