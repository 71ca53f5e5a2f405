package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// facts is the folder, beside the volumes, of what else is known of them.
const facts = ".facts"

// removeAnonymous removes the volumes that were made for c alone, if c goes by itself:
// those that the annotation lists, that c mounts, and that have a name nobody chose.
func (o Options) removeAnonymous(c *containerizer.Container) error {
	if c.Spec == nil || !c.Spec.AutoRemove {
		return nil
	}
	var errs []error
	for name := range strings.SplitSeq(c.Spec.Annotations[containerizer.AnnotationAnonymousVolumes], ",") {
		mounts := func(m containerizer.Mount) bool { return m.Type == containerizer.MountVolume && m.Source == name }
		if isGenerated(name) && slices.ContainsFunc(c.Spec.Mounts, mounts) {
			errs = append(errs, o.remove(name))
		}
	}
	return errors.Join(errs...)
}

// isGenerated says whether name is of the form of [containerizer.NewContainerID].
func isGenerated(name string) bool {
	const size = 64
	return len(name) == size && strings.Trim(name, "0123456789abcdef") == ""
}

// remove removes a volume; it is renamed first, so that one that is half removed is never
// seen.
func (o Options) remove(name string) error {
	doomed, err := os.MkdirTemp(o.Volumes, ".removing-*")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.Rename(filepath.Join(o.Volumes, name), filepath.Join(doomed, "volume"))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if gone := os.Remove(filepath.Join(o.Volumes, facts, name+".json")); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		err = errors.Join(err, os.RemoveAll(doomed))
	}
	if err != nil {
		return fmt.Errorf("remove volume %q: %w", name, err)
	}
	return nil
}
