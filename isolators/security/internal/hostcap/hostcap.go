// Package hostcap tells which capabilities berth itself has.
package hostcap

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Permitted returns the permitted capabilities of this process as a bit mask.
func Permitted() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read berth's own capabilities: %w", err)
	}
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32, nil
}

// Has says whether mask has capability n (unix.CAP_…).
func Has(mask uint64, n int) bool { return mask&(1<<n) != 0 }
