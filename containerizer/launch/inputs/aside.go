package inputs

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// maxMountData is what mount(2) takes for options: one page.
const maxMountData = 4095

// mountAside makes the overlay by mount(2), on a thread with a mount namespace of
// its own that ends with it, and returns a detached clone. It serves kernels before
// 6.7, and before 6.15 for idmapped layers, and paths longer than fsconfig(2) takes.
func (o *overlay) mountAside() (*os.File, error) {
	var f *os.File
	err := onThread(func() (err error) {
		f, err = o.mountHere()
		return err
	})
	return f, err
}

func (o *overlay) mountHere() (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	dirs, err := o.openLayers()
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, d := range dirs {
			_ = d.Close()
		}
	}()
	// Descriptors make short names of long paths.
	name := func(f *os.File) string { return fmt.Sprintf("/proc/thread-self/fd/%d", f.Fd()) }
	var lower []string
	for _, d := range dirs[:len(o.Lower)] {
		lower = append(lower, name(d))
	}
	options := []string{"lowerdir=" + strings.Join(lower, ":")}
	for _, option := range o.options() {
		switch {
		case strings.HasPrefix(option, "source="): // an argument of mount(2)
			continue
		case strings.HasPrefix(option, "upperdir="):
			option = "upperdir=" + name(dirs[len(o.Lower)])
		case strings.HasPrefix(option, "workdir="):
			option = "workdir=" + name(dirs[len(o.Lower)+1])
		}
		options = append(options, option)
	}
	data := strings.Join(options, ",")
	if len(data) > maxMountData {
		return nil, fmt.Errorf("%d layers are more than this kernel mounts (6.7 and later mount up to 500): %w", len(o.Lower), containerizer.ErrUnsupported)
	}
	const place = "/dev" // any directory: only this thread sees it
	if err := unix.Mount("overlay", place, "overlay", 0, data); err != nil {
		return nil, fmt.Errorf("make the overlay (%s): %w", o.describe(), err)
	}
	root, err := openPath(place, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	return cloneBelow(root, o.sub, false)
}

// openLayers opens the lower directories, then upper and work. Mapped layers are
// attached, since older kernels take only attached mounts as layers.
func (o *overlay) openLayers() ([]*os.File, error) {
	paths := o.Lower
	if o.Upper != "" {
		paths = append(slices.Clip(paths), o.Upper, o.Work)
	}
	var dirs []*os.File
	for i, path := range paths {
		d, err := o.openLayer(path, o.IDMapped && i < len(o.Lower))
		if err != nil {
			for _, d := range dirs {
				_ = d.Close()
			}
			return nil, err
		}
		dirs = append(dirs, d)
	}
	return dirs, nil
}

func (o *overlay) openLayer(path string, mapped bool) (*os.File, error) {
	if mapped {
		tree, err := o.mappedLayer(path)
		if err != nil {
			return nil, err
		}
		err = unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
		_ = tree.Close()
		if err != nil {
			return nil, fmt.Errorf("attach the mapped layer %q: %w", path, err)
		}
	}
	return openPath(path, unix.O_PATH|unix.O_DIRECTORY)
}
