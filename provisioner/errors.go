package provisioner

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// class adds the error class to errors of the file system.
func class(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EMFILE) {
		return fmt.Errorf("%w: %w", err, containerizer.ErrResourceExhausted)
	}
	return err
}

// chmod sets all twelve bits.
func chmod(path string, mode uint32) error { return unix.Chmod(path, mode&0o7777) }
