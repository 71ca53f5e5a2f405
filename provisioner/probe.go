package provisioner

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner/store"
)

// probe finds out which backend the store's file system allows, by an overlay
// that is never attached to the mount table.
func (p *Provisioner) probe(lease *store.Lease) (string, error) {
	if p.o.Backend != BackendAuto {
		return p.o.Backend, nil
	}
	dir, err := lease.Stage()
	if err != nil {
		return "", err
	}
	if err := tryOverlay(dir); err != nil {
		p.log.Warn("no overlay on the image store: images are copied for each container", log.String("path", p.store.Root()), log.Error(err))
		return BackendCopy, nil
	}
	return BackendOverlay, nil
}

func tryOverlay(dir string) error {
	for _, name := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return err
		}
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen(overlay): %w", err)
	}
	defer func() { _ = unix.Close(fs) }()
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	// By descriptor: fsconfig(2) takes strings of at most 255 bytes.
	short := "/proc/self/fd/" + strconv.Itoa(int(d.Fd()))
	for key, name := range map[string]string{"lowerdir": "lower", "upperdir": "upper", "workdir": "work"} {
		if err := unix.FsconfigSetString(fs, key, filepath.Join(short, name)); err != nil {
			return fmt.Errorf("fsconfig(%s): %w", key, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("fsconfig(create): %w", err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("fsmount: %w", err)
	}
	return errors.Join(unix.Close(mnt))
}
