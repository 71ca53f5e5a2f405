package specflag

import (
	"fmt"
	"strconv"

	"github.com/docker/go-units"
)

// bytesValue is a flag for an amount of memory: "64m", "1.5g", bytes without a
// unit, -1 where a flag has a meaning for it.
type bytesValue int64

// Set implements [pflag.Value].
func (v *bytesValue) Set(s string) error {
	n, err := parseBytes(s)
	if err == nil {
		*v = bytesValue(n)
	}
	return err
}

// Type implements [pflag.Value].
func (v *bytesValue) Type() string { return "bytes" }

// String implements [pflag.Value].
func (v *bytesValue) String() string {
	if *v == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*v), 10)
}

// parseBytes parses a size with a binary unit, or -1.
func parseBytes(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	n, err := units.RAMInBytes(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is not a size, such as 512m or 2g", s)
	case n < 0: // a float beyond 2^63 wraps
		return 0, fmt.Errorf("%q is too large a size", s)
	}
	return n, nil
}
