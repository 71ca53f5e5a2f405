package engine

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Realtime signals as C libraries number them for programs (signal(7)): the first
// two of the kernel's are theirs.
const (
	sigrtmin = 34
	sigrtmax = 64
)

// parseSignal reads a signal as "SIGTERM", "term", "15" or "SIGRTMIN+3".
func parseSignal(s string) (int, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > sigrtmax {
			return 0, fmt.Errorf("signal %q is not between 1 and %d: %w", s, sigrtmax, containerizer.ErrInvalid)
		}
		return n, nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n := int(unix.SignalNum("SIG" + name)); n > 0 {
		return n, nil
	}
	for base, number := range map[string]int{"RTMIN": sigrtmin, "RTMAX": sigrtmax} {
		offset, found := strings.CutPrefix(name, base)
		if !found {
			continue
		}
		if offset == "" {
			return number, nil
		}
		n, err := strconv.Atoi(offset)
		signed := offset[0] == '+' || offset[0] == '-'
		if err == nil && signed && number+n >= sigrtmin && number+n <= sigrtmax {
			return number + n, nil
		}
	}
	return 0, fmt.Errorf("signal %q is unknown (a name such as SIGTERM, a number, or SIGRTMIN+n): %w", s, containerizer.ErrInvalid)
}
