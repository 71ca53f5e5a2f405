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

// reasons turn the reason of an Error frame into a sentence and a class.
var reasons = [...]struct {
	text  string
	class error
}{
	wire.ReasonFrame:     {"the monitor refused the request", containerizer.ErrInvalid},
	wire.ReasonNoElement: {"no such process in the monitor", containerizer.ErrNotFound},
	wire.ReasonExists:    {"it is alive in the monitor", containerizer.ErrAlreadyExists},
	wire.ReasonState:     {"not possible in its present state", containerizer.ErrFailedPrecondition},
	wire.ReasonProgram:   {"the monitor refused the launch program", containerizer.ErrInvalid},
	wire.ReasonStdio:     {"standard streams", nil},
	wire.ReasonLog:       {"open the log file", nil},
	wire.ReasonRecord:    {"write the process record", nil},
	wire.ReasonSpawn:     {"make the process", nil},
	wire.ReasonLimit:     {"a limit of the monitor is reached", containerizer.ErrResourceExhausted},
	wire.ReasonNamespace: {"open a namespace of the process", nil},
	wire.ReasonSignal:    {"send the signal", nil},
	wire.ReasonBusy:      {"processes are alive", containerizer.ErrFailedPrecondition},
}

// refusal turns an Error frame into an error.
func refusal(body []byte) error {
	m, err := wire.ParseError(body)
	if err != nil {
		return err
	}
	errno := syscall.Errno(m.Errno)
	if int(m.Reason) >= len(reasons) || reasons[m.Reason].text == "" {
		return fmt.Errorf("monitor: %w", errno)
	}
	r := reasons[m.Reason]
	class := r.class
	switch {
	case errno == syscall.ENOSYS && m.Reason == wire.ReasonFrame:
		class = containerizer.ErrUnsupported
	case class != nil:
	case errno == syscall.ENOSPC || errno == syscall.EDQUOT || errno == syscall.EMFILE || errno == syscall.ENOMEM || errno == syscall.EAGAIN:
		class = containerizer.ErrResourceExhausted
	case errno == syscall.EPERM || errno == syscall.EACCES:
		class = containerizer.ErrPermission
	case errno == syscall.ENOTCONN:
		class = containerizer.ErrFailedPrecondition
	case errno == syscall.EINVAL:
		class = containerizer.ErrInvalid
	}
	if class == nil {
		return fmt.Errorf("%s: %w", r.text, errno)
	}
	return fmt.Errorf("%s: %w (%w)", r.text, errno, class)
}
