package containerizer

import "errors"

// Error classes. Every error that leaves the engine, an isolator, the
// provisioner or the fetcher either wraps one of these (test with errors.Is) or
// is an internal fault. Each adapter maps the classes to its surface's codes in
// one place. The list is closed.
var (
	// ErrNotFound: what was named does not exist.
	ErrNotFound = errors.New("not found")
	// ErrAlreadyExists: what was to be made exists with other content.
	ErrAlreadyExists = errors.New("already exists")
	// ErrInvalid: the request or foreign input is malformed; retrying is useless.
	ErrInvalid = errors.New("invalid")
	// ErrUnsupported: neither this build, kernel nor configuration can do it.
	ErrUnsupported = errors.New("unsupported")
	// ErrFailedPrecondition: not in the present state; it may work after a change
	// of that state.
	ErrFailedPrecondition = errors.New("failed precondition")
	// ErrPermission: policy or credentials forbid it.
	ErrPermission = errors.New("permission denied")
	// ErrUntrusted: the signature policy does not accept the image (CRI's
	// SignatureValidationFailed).
	ErrUntrusted = errors.New("refused by the signature policy")
	// ErrUnavailable: a peer, registry or plug-in did not answer; a retry may help.
	ErrUnavailable = errors.New("unavailable")
	// ErrResourceExhausted: disk, memory, ids, addresses or another quantity ran out.
	ErrResourceExhausted = errors.New("resource exhausted")
	// ErrDataCorrupt: stored or received bytes do not match their digest or form.
	ErrDataCorrupt = errors.New("data corrupt")
	// ErrCommandNotFound: the entrypoint does not exist in the container (exit 127).
	ErrCommandNotFound = errors.New("command not found")
	// ErrCommandNotExecutable: the entrypoint exists and cannot be executed (exit 126).
	ErrCommandNotExecutable = errors.New("command not executable")
)
