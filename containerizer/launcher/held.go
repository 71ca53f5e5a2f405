package launcher

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/monitor/client"
)

// explainHeld explains a failure after the hold. The program is not at hand, but
// little is left of it: the end is execve.
func (l *Launcher) explainHeld(c *containerizer.Container, err error) error {
	var failed *client.ProgramError
	if !errors.As(err, &failed) {
		return err
	}
	command := ""
	if c.Spec != nil {
		if args := slices.Concat(c.Spec.Process.Entrypoint, c.Spec.Process.Args); len(args) > 0 {
			command = args[0]
		}
	}
	switch failed.Errno {
	case unix.ENOENT, unix.ENOTDIR:
		return fmt.Errorf("execute %q: no such file in the container, or its interpreter is missing: %w", command, containerizer.ErrCommandNotFound)
	case unix.EACCES, unix.ENOEXEC, unix.EISDIR, unix.ELOOP, unix.ETXTBSY:
		return fmt.Errorf("execute %q: %w: %w", command, failed.Errno, containerizer.ErrCommandNotExecutable)
	default:
	}
	return fmt.Errorf("execute %q: %w", command, failed.Errno)
}
