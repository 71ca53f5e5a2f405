package pull

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// diskSize of the sparse file of a contender's file system.
const diskSize = 16 << 30

// disk is a new ext4 of a contender's own, in a sparse file beside the folder where it
// is mounted.
type disk struct{ file, dir string }

func newDisk(ctx context.Context, dir string) (*disk, error) {
	d := &disk{file: dir + ".ext4", dir: dir}
	err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(d.file, nil, 0o600), os.Truncate(d.file, diskSize))
	if err != nil {
		return nil, err
	}
	// The kernel is not to write inode tables while we measure.
	for _, argv := range [][]string{
		{"mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", d.file},
		{"mount", "-o", "loop,noinit_itable", d.file, dir},
	} {
		if err := run(ctx, argv...); err != nil {
			return nil, errors.Join(err, os.Remove(d.file))
		}
	}
	return d, nil
}

// Close unmounts and deletes it.
func (d *disk) Close(ctx context.Context) error {
	if err := run(ctx, "umount", d.dir); err != nil {
		return err
	}
	return os.Remove(d.file)
}

func run(ctx context.Context, argv ...string) error {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput() //nolint:gosec // ours
	if err != nil {
		return fmt.Errorf("%q: %w: %s", argv, err, strings.TrimSpace(string(out)))
	}
	return nil
}
