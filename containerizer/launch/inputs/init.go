package inputs

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/launch/miniinit"
)

// openInit puts the mini-init into a sealed file in memory: whoever gets hold of
// /proc/1/exe in the container cannot change it, and no other container has it.
func openInit() (*os.File, error) {
	fd, err := unix.MemfdCreate("berth-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "berth-init")
	if _, err = f.Write(miniinit.ELF()); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write the mini-init: %w", err)
	}
	return f, nil
}
