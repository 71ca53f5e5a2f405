package volume_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/volume"
)

// TestAnonymousVolumes: what goes with a container, and what stays.
func TestAnonymousVolumes(t *testing.T) {
	generated, other := strings.Repeat("a1", 32), strings.Repeat("b2", 32)
	for name, c := range map[string]struct {
		annotation string
		mounted    string
		stays      bool // the container
		want       bool // the volume is gone
	}{
		"of a container that goes by itself": {generated, generated, false, true},
		"among others":                       {other + "," + generated, generated, false, true},
		"of a container that stays":          {generated, generated, true, false},
		"named by somebody":                  {"data", "data", false, false},
		"that is not mounted":                {other, generated, false, false},
		"that is not listed":                 {"", generated, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, v := range []string{generated, other, "data"} {
				if err := os.MkdirAll(filepath.Join(dir, v, "content"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			container := isolatortest.NewContainer(t, &containerizer.Spec{
				AutoRemove: !c.stays, Annotations: map[string]string{containerizer.AnnotationAnonymousVolumes: c.annotation},
				Mounts: []containerizer.Mount{{Type: containerizer.MountVolume, Source: c.mounted, Destination: "/v"}},
			})
			for range 2 { // as it may be after a crash
				for _, i := range volume.All(volume.Options{Volumes: dir}) {
					if err := i.Cleanup(t.Context(), container.Container); err != nil {
						t.Error(err)
					}
				}
			}
			if _, err := os.Stat(filepath.Join(dir, c.mounted)); errors.Is(err, fs.ErrNotExist) != c.want {
				t.Errorf("the volume is %v, gone is wanted: %v", err, c.want)
			}
			left, err := os.ReadDir(dir)
			if want := map[bool]int{true: 2, false: 3}[c.want]; err != nil || len(left) != want {
				t.Errorf("%q are left, %v; want %d", left, err, want)
			}
		})
	}
}
