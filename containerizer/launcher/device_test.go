package launcher

import (
	"errors"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// A device is found by its number, whatever is on the host at the path that it has in
// the container.
func TestHostDevice(t *testing.T) {
	for name, d := range map[string]specs.LinuxDevice{
		"same path":        {Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
		"other path":       {Path: "/dev/mine", Type: "c", Major: 1, Minor: 3},
		"another's path":   {Path: "/dev/zero", Type: "c", Major: 1, Minor: 3},
		"path of a file":   {Path: "/etc/passwd", Type: "c", Major: 1, Minor: 3},
		"path of a folder": {Path: "/", Type: "u", Major: 1, Minor: 3},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := hostDevice(&d); err != nil || got != "/dev/null" {
				t.Errorf("got %q, %v, want /dev/null", got, err)
			}
		})
	}
	block := specs.LinuxDevice{Path: "/dev/null", Type: "b", Major: 1, Minor: 3} // a RAM disk, where there are some
	if got, _ := hostDevice(&block); got == "/dev/null" {
		t.Errorf("a character device was found for a block device")
	}
	unknown := specs.LinuxDevice{Path: "/dev/null", Type: "c", Major: 4000, Minor: 5}
	if got, err := hostDevice(&unknown); !errors.Is(err, containerizer.ErrUnsupported) {
		t.Errorf("got %q, %v, want unsupported", got, err)
	}
}
