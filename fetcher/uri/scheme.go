package uri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// Scheme reads the URIs of some schemes. Safe for concurrent use. The conformance
// suite is package uritest.
type Scheme interface {
	// Names are the schemes in lower case, without "://".
	Names() []string
	// Open opens what r names. An error of type *Temporary is one that a repetition may
	// help against; the others wrap a class: ErrInvalid, ErrUnsupported, ErrNotFound,
	// ErrPermission, ErrUnavailable. No error holds a secret of the URI. The body ends
	// with io.EOF only where the content ends, as far as the scheme can tell; the
	// caller closes it. ctx bounds the reading of the body, too.
	Open(ctx context.Context, r Request) (*Response, error)
}

// Request asks for the content of a URI.
type Request struct {
	*Reference
	// Offset is where the body is to begin. Version is then the version of what came
	// before; a scheme that cannot go on there, or finds another version, answers from
	// the beginning.
	Offset int64
	// Version with an Offset of 0 is one that the caller has already: if it is still
	// the version of the content, the answer is NotModified.
	Version string
	// Owner is with whose rights files of the node are read; nil is the caller's.
	Owner *containerizer.Owner
}

// Response is an answer.
type Response struct {
	// NotModified comes without a Body.
	NotModified bool
	Body        io.ReadCloser
	// Offset is where Body begins: that of the request, or 0.
	Offset int64
	// Size is that of the whole content; -1 is unknown.
	Size int64
	// Version changes whenever the content does; "" is unknown. It has one line.
	Version string
}

// Temporary is an error that repeating may help against.
type Temporary struct {
	Err error
	// After is how long the other side asks to wait.
	After time.Duration
}

// Error implements error.
func (t *Temporary) Error() string { return t.Err.Error() }

// Unwrap returns the error itself.
func (t *Temporary) Unwrap() error { return t.Err }

// Broken is the temporary error of a connection that failed while what was done.
func Broken(what string, err error) error {
	return &Temporary{Err: fmt.Errorf("%s: %w: %w", what, err, containerizer.ErrUnavailable)}
}

// asTemporary returns the temporary error in err.
func asTemporary(err error) (*Temporary, bool) { return errors.AsType[*Temporary](err) }
