package unpack_test

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// TestNothingIsInherited has directories whose children would inherit from them: a
// group, the set-group-ID bit, an ACL that takes bits from their modes.
func TestNothingIsInherited(t *testing.T) {
	setgid := func(h *tar.Header) { h.Mode, h.Gid = 0o2775, 50 }
	acl := xattr("system.posix_acl_default", defaultACL())
	got, _, err := layer(t, unpack.Limits{}, archive(t,
		dirWith("g", setgid), file("g/small", "x"), file("g/large", strings.Repeat("y", 100<<10)), dir("g/d", 0o755), file("g/implicit/f", ""),
		symlink("g/s", "small"),
		dirWith("a", acl), file("a/small", "x").with(func(h *tar.Header) { h.Mode = 0o666 }), dir("a/d", 0o777), file("a/implicit/f", ""),
		dirWith("twice", setgid), dir("twice", 0o755), file("twice/f", ""),
		dirWith("gone", setgid), file("gone", "a file now"),
	))
	if err != nil {
		t.Fatal(err)
	}
	lines := tree(t, got)
	for i, l := range lines {
		if at := strings.Index(l, `"yyy`); at >= 0 {
			lines[i] = fmt.Sprintf("%s%d", l[:at], len(l)-at-2)
		}
	}
	want := []string{
		root, "a dir 0755 0:0", "a/d dir 0777 0:0", "a/implicit dir 0755 0:0", `a/implicit/f file 0644 0:0 ""`, `a/small file 0666 0:0 "x"`,
		"g dir 2775 0:50", "g/d dir 0755 0:0", "g/implicit dir 0755 0:0", `g/implicit/f file 0644 0:0 ""`, "g/large file 0644 0:0 102400",
		"g/s link 0:0 -> small", `g/small file 0644 0:0 "x"`,
		`gone file 0644 0:0 "a file now"`, "twice dir 0755 0:0", `twice/f file 0644 0:0 ""`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	var b [64]byte
	for path, has := range map[string]bool{"a": true, "a/d": false, "a/implicit": false} {
		if _, err := unix.Lgetxattr(filepath.Join(got, path), "system.posix_acl_default", b[:]); (err == nil) != has {
			t.Errorf("default ACL of %s: %v, want %v", path, err, has)
		}
	}
}

// defaultACL is u::rwx,g::r-x,o::--- in the kernel's form (posix_acl_xattr.h).
func defaultACL() string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][2]uint16{{1, 7}, {4, 5}, {0x20, 0}} {
		b = binary.LittleEndian.AppendUint16(b, e[0])
		b = binary.LittleEndian.AppendUint16(b, e[1])
		b = binary.LittleEndian.AppendUint32(b, 0xffffffff)
	}
	return string(b)
}

// TestManySmallFiles has entries that do things to files whose content is still to
// be written.
func TestManySmallFiles(t *testing.T) {
	var entries []entry
	content := map[string]string{}
	put := func(name, text string) { entries = append(entries, file(name, text)); content[name] = text }
	for n := range 3000 {
		put(fmt.Sprintf("d%d/f%d", n%7, n), strings.Repeat(fmt.Sprint(n, " "), n%100))
		switch {
		case n%10 == 3: // another content
			put(fmt.Sprintf("d%d/f%d", n%7, n), "again")
		case n%10 == 5: // another name
			name := fmt.Sprintf("d%d/l%d", n%7, n)
			entries = append(entries, hardlink(name, fmt.Sprintf("d%d/f%d", n%7, n)))
			content[name] = content[fmt.Sprintf("d%d/f%d", n%7, n)]
		case n%100 == 77: // the directory is a file, and then again a directory
			d := fmt.Sprintf("d%d", n%7)
			entries = append(entries, file(d, "x"), dir(d, 0o755))
			for name := range content {
				if strings.HasPrefix(name, d+"/") {
					delete(content, name)
				}
			}
		}
	}
	got, _, err := layer(t, unpack.Limits{}, archive(t, entries...))
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, line := range tree(t, got) {
		if strings.Contains(line, " file ") {
			files++
		}
	}
	if files != len(content) {
		t.Errorf("%d files, want %d", files, len(content))
	}
	for name, want := range content {
		b, err := os.ReadFile(filepath.Join(got, name))
		if err != nil || string(b) != want {
			t.Errorf("%s has %q, %v, want %q", name, b, err, want)
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(got, name), &st); err != nil || st.Mtim.Sec != 1_000_000_000 {
			t.Errorf("%s was modified at %d, %v", name, st.Mtim.Sec, err)
		}
	}
}

// TestSmallFilesOnFullDisk fails where the content is written.
func TestSmallFilesOnFullDisk(t *testing.T) {
	needRoot(t)
	mnt := t.TempDir()
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mnt, unix.MNT_DETACH) })
	var entries []entry
	for n := range 200 {
		entries = append(entries, file(fmt.Sprint("f", n), strings.Repeat("x", 4000)))
	}
	target, err := os.Open(mnt)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = target.Close() }()
	_, err = unpack.Run(t.Context(), command(), target, strings.NewReader(string(archive(t, entries...))), unpack.Limits{})
	if !errors.Is(err, containerizer.ErrResourceExhausted) || !strings.Contains(err.Error(), `entry "f`) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v", err)
	}
}
