package launcher

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// hostDevice finds a node of the host by type and number: at the device's own path,
// else under the name that the kernel has for it (/sys/dev, sysfs(5)).
func hostDevice(d *specs.LinuxDevice) (string, error) {
	kind, mode := "char", uint32(unix.S_IFCHR)
	if d.Type == "b" {
		kind, mode = "block", unix.S_IFBLK
	}
	is := func(path string) bool {
		var st syscall.Stat_t
		return syscall.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == mode && st.Rdev == unix.Mkdev(uint32(d.Major), uint32(d.Minor))
	}
	if is(d.Path) {
		return d.Path, nil
	}
	uevent, err := os.ReadFile(fmt.Sprintf("/sys/dev/%s/%d:%d/uevent", kind, d.Major, d.Minor))
	if err == nil {
		for line := range strings.Lines(string(uevent)) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok && is(filepath.Join("/dev", name)) {
				return filepath.Join("/dev", name), nil
			}
		}
	}
	return "", fmt.Errorf("no node of %s device %d:%d was found on the host, and a user namespace cannot make one: %w",
		kind, d.Major, d.Minor, containerizer.ErrUnsupported)
}
