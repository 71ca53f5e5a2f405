package client

import (
	"fmt"
	"syscall"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// ProgramError is a launch program that failed. Nothing is left of the launch.
type ProgramError struct {
	// Op is the index of the operation, or one of the numbers of package interp.
	Op    uint32
	Errno syscall.Errno
}

func (e *ProgramError) Error() string {
	return fmt.Sprintf("operation %d of the launch program: %v", e.Op, e.Errno)
}

// Unwrap returns the errno.
func (e *ProgramError) Unwrap() error { return e.Errno }

// errEnded is the connection's end.
var errEnded = fmt.Errorf("the monitor has ended: %w", containerizer.ErrUnavailable)

// errTooSlow ends a session whose writers did not keep up.
var errTooSlow = fmt.Errorf("output came faster than it was taken, and the session was dropped: %w", containerizer.ErrResourceExhausted)

// explain turns the reason of an Error frame into a sentence and a class.
func explain(r wire.Reason) (text string, class error) {
	switch r {
	case wire.ReasonFrame:
		return "the monitor refused the request", containerizer.ErrInvalid
	case wire.ReasonNoElement:
		return "no such process in the monitor", containerizer.ErrNotFound
	case wire.ReasonExists:
		return "it is alive in the monitor", containerizer.ErrAlreadyExists
	case wire.ReasonState:
		return "not possible in its present state", containerizer.ErrFailedPrecondition
	case wire.ReasonProgram:
		return "the monitor refused the launch program", containerizer.ErrInvalid
	case wire.ReasonStdio:
		return "standard streams", nil
	case wire.ReasonLog:
		return "open the log file", nil
	case wire.ReasonRecord:
		return "write the process record", nil
	case wire.ReasonSpawn:
		return "make the process", nil
	case wire.ReasonLimit:
		return "a limit of the monitor is reached", containerizer.ErrResourceExhausted
	case wire.ReasonNamespace:
		return "open a namespace of the process", nil
	case wire.ReasonSignal:
		return "send the signal", nil
	case wire.ReasonBusy:
		return "processes are alive", containerizer.ErrFailedPrecondition
	case wire.ReasonRuntime:
		return "the OCI runtime failed", nil
	case wire.ReasonAdopt:
		return "take over the process of the OCI runtime", nil
	}
	return "monitor", nil // of a later version
}

// classOf is the class of errors of system calls.
func classOf(errno syscall.Errno) error {
	switch errno {
	case syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN:
		return containerizer.ErrResourceExhausted
	case syscall.EPERM, syscall.EACCES:
		return containerizer.ErrPermission
	case syscall.ENOTCONN:
		return containerizer.ErrFailedPrecondition
	case syscall.EINVAL:
		return containerizer.ErrInvalid
	default:
		return nil
	}
}

// refusal turns an Error frame into an error.
func refusal(body []byte) error {
	m, err := wire.ParseError(body)
	if err != nil {
		return err
	}
	errno := syscall.Errno(m.Errno)
	text, class := explain(m.Reason)
	if m.Reason == wire.ReasonFrame && errno == syscall.ENOSYS {
		class = containerizer.ErrUnsupported
	}
	if class == nil {
		class = classOf(errno)
	}
	if class == nil {
		return fmt.Errorf("%s: %w", text, errno)
	}
	return fmt.Errorf("%s: %w (%w)", text, errno, class)
}
