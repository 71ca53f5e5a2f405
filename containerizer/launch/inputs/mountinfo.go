package inputs

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// mountinfoPropagation looks a mount up in /proc/self/mountinfo (proc(5)). It is
// read only for mounts that ask for propagation.
func mountinfoPropagation(id uint64) (uint64, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	prefix := strconv.FormatUint(id, 10) + " "
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), prefix) {
			return parsePropagation(lines.Text()), nil
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("read /proc/self/mountinfo: %w", err)
	}
	return 0, fmt.Errorf("mount %d is not in /proc/self/mountinfo: %w", id, containerizer.ErrUnavailable)
}

// parsePropagation reads the optional fields, which end with a hyphen.
func parsePropagation(line string) uint64 {
	const firstOptional = 6
	flag := uint64(unix.MS_PRIVATE)
	fields := strings.Fields(line)
	for i := firstOptional; i < len(fields) && fields[i] != "-"; i++ {
		switch name, _, _ := strings.Cut(fields[i], ":"); name {
		case "shared":
			return unix.MS_SHARED
		case "master":
			flag = unix.MS_SLAVE
		case "unbindable":
			flag = unix.MS_UNBINDABLE
		}
	}
	return flag
}
