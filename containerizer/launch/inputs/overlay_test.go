package inputs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Both ways of making an overlay give the same mount.
func TestMountOverlay(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounts need root")
	}
	for name, mount := range map[string]func(*overlay) (*os.File, error){"by fsconfig": (*overlay).configure, "by mount": (*overlay).mountAside} {
		for _, mapped := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", mapped"}[mapped], func(t *testing.T) {
				dir := t.TempDir()
				for _, d := range []string{"top", "bottom", "upper", "work"} {
					if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				for file, text := range map[string]string{"top/a": "top", "bottom/a": "bottom", "bottom/b": "bottom"} {
					if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				var mapper IDMapper
				defer mapper.Close()
				o := &overlay{
					Rootfs: &containerizer.Rootfs{
						Lower: []string{filepath.Join(dir, "top"), filepath.Join(dir, "bottom")},
						Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Volatile: true, IDMapped: mapped,
					},
					idmap: &mapper,
				}
				wantUID := uint32(0)
				if mapped {
					o.uids = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
					o.gids, wantUID = o.uids, 100000
				}
				f, err := mount(o)
				if errors.Is(err, errOldKernel) {
					t.Skip("before Linux 6.7, and 6.15 for mapped ids, there is one way only")
				}
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = f.Close() }()
				if got := read(t, f, "a") + read(t, f, "b"); got != "topbottom" {
					t.Errorf("files hold %q, want the top layer's before the bottom's", got)
				}
				var st unix.Stat_t
				if err := unix.Fstatat(int(f.Fd()), "b", &st, 0); err != nil || st.Uid != wantUID {
					t.Errorf("owner %d, %v, want %d", st.Uid, err, wantUID)
				}
				if err := unix.Mkdirat(int(f.Fd()), "new", 0o755); err != nil {
					t.Errorf("write to the overlay: %v", err)
				}
				if _, err := os.Stat(filepath.Join(dir, "upper/new")); err != nil {
					t.Errorf("the upper directory lacks what was written: %v", err)
				}
			})
		}
	}
}

func read(t *testing.T, root *os.File, name string) string {
	t.Helper()
	fd, err := unix.Openat(int(root.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	buf := make([]byte, 64)
	n, err := unix.Read(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestParsePropagation(t *testing.T) {
	for line, want := range map[string]uint64{
		"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw":          unix.MS_SLAVE,
		"36 35 98:0 /mnt1 /mnt2 rw,noatime shared:3 master:1 - ext3 /dev/root rw": unix.MS_SHARED,
		"36 35 98:0 /mnt1 /mnt2 rw,noatime - ext3 /dev/root rw":                   unix.MS_PRIVATE,
		"36 35 98:0 /mnt1 /mnt2 rw unbindable - ext3 /dev/root shared:3":          unix.MS_UNBINDABLE,
		"36": unix.MS_PRIVATE,
	} {
		if got := parsePropagation(line); got != want {
			t.Errorf("propagation of %q is %#x, want %#x", line, got, want)
		}
	}
}
