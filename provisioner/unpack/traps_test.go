package unpack_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// TestTypes has kinds of entries and forms of headers that old and other tools write.
func TestTypes(t *testing.T) {
	long := strings.Repeat("l", 200) + "/" + strings.Repeat("m", 200)
	dirPath, res, err := layer(t, unpack.Limits{}, archive(t,
		file("contiguous", "c").with(func(h *tar.Header) { h.Typeflag, h.Format = tar.TypeCont, tar.FormatUSTAR }),
		entry{Header: tar.Header{Typeflag: 'V', Name: "volume label", Format: tar.FormatGNU}},
		file(long, "gnu").with(func(h *tar.Header) { h.Format = tar.FormatGNU }),
		symlink("gnulink", long).with(func(h *tar.Header) { h.Format = tar.FormatGNU }),
		file("gnuowner", "").with(func(h *tar.Header) { h.Format, h.Uid = tar.FormatGNU, 3_000_000_000 }),
		entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "d/.wh..wh..opq", Linkname: "x"}},
		file("d/x", "1"),
	))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		root, `contiguous file 0644 0:0 "c"`, "d dir 0755 0:0 opaque", `d/x file 0644 0:0 "1"`, "gnulink link 0:0 -> " + long, `gnuowner file 0644 3000000000:0 ""`,
		strings.Repeat("l", 200) + " dir 0755 0:0", long + ` file 0644 0:0 "gnu"`,
	}
	if diff := cmp.Diff(want, tree(t, dirPath)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "vendor type") {
		t.Errorf("warnings %q", res.Warnings)
	}
}

// TestTimes has times that file systems have trouble with.
func TestTimes(t *testing.T) {
	for _, processors := range []int{1, 2} { // apart: to compare the trees would read them
		testTimes(t, unpack.Limits{Processors: processors})
	}
}

func testTimes(t *testing.T, limits unpack.Limits) {
	t.Helper()
	at := func(m, a time.Time) func(*tar.Header) { return func(h *tar.Header) { h.ModTime, h.AccessTime = m, a } }
	owned := func(h *tar.Header) { h.Uid, h.Gid, h.ModTime = 5, 6, time.Unix(77, 0) }
	dirPath, _, err := layer(t, limits, archive(t,
		dirWith("d", at(time.Unix(100, 5), time.Time{})),
		file("d/before", "").with(at(time.Unix(-86400, 0), time.Time{})),
		file("d/fraction", "").with(at(time.Unix(1, 123456789), time.Unix(2, 987654321))),
		file("d/far", "").with(at(time.Unix(1<<40, 0), time.Time{})),
		symlink("d/link", "nowhere").with(owned),
		entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "d/fifo", Mode: 0o622}}.with(owned),
	))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range []string{"d", "d/before", "d/fraction", "d/far", "d/link", "d/fifo"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dirPath, name), &st); err != nil {
			t.Fatal(err)
		}
		got[name] = fmt.Sprintf("%d.%09d %d.%09d %d:%d", st.Mtim.Sec, st.Mtim.Nsec, st.Atim.Sec, st.Atim.Nsec, st.Uid, st.Gid)
	}
	const latest = 1<<34 - 1<<31 - 1 // what ext4 can store
	want := map[string]string{
		"d":          "100.000000005 100.000000005 0:0",
		"d/before":   "-86400.000000000 -86400.000000000 0:0",
		"d/fraction": "1.123456789 2.987654321 0:0",
		"d/far":      fmt.Sprintf("%[1]d.000000000 %[1]d.000000000 0:0", latest),
		"d/link":     "77.000000000 77.000000000 5:6",
		"d/fifo":     "77.000000000 77.000000000 5:6",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mtime, atime and owner (-want +got):\n%s", diff)
	}
}

// acl encodes an ACL of version 2 with a named user.
func acl() string {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, uint32(2)) // memory takes everything
	for _, e := range [][3]uint32{{1, 7, 1<<32 - 1}, {2, 5, 1234}, {4, 5, 1<<32 - 1}, {16, 5, 1<<32 - 1}, {32, 0, 1<<32 - 1}} {
		_ = binary.Write(&b, binary.LittleEndian, struct {
			Tag, Perm uint16
			ID        uint32
		}{uint16(e[0]), uint16(e[1]), e[2]})
	}
	return b.String()
}

// TestACLs: a directory keeps its default ACL, and what the archive puts into it does
// not inherit it.
func TestACLs(t *testing.T) {
	dirPath, _, err := layer(t, unpack.Limits{}, archive(t,
		dirWith("d", xattr("system.posix_acl_default", acl())),
		dir("d/sub", 0o700),
		file("d/f", "x"),
		file("a", "x").with(xattr("system.posix_acl_access", acl())),
	))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"d": acl(), "d/sub": "", "d/f": ""} {
		var b [200]byte
		n, _ := unix.Lgetxattr(filepath.Join(dirPath, name), "system.posix_acl_"+map[bool]string{true: "default", false: "access"}[name != "d/f"], b[:])
		if got := string(b[:max(n, 0)]); got != want {
			t.Errorf("%s has the ACL %q, want %q", name, got, want)
		}
	}
	var b [200]byte
	if n, err := unix.Lgetxattr(filepath.Join(dirPath, "a"), "system.posix_acl_access", b[:]); err != nil || string(b[:n]) != acl() {
		t.Errorf("a has the ACL %q, %v", b[:max(n, 0)], err)
	}
}

// TestNoAttributes unpacks to a file system without extended attributes: that is one
// warning for each, not an error.
func TestNoAttributes(t *testing.T) {
	needRoot(t)
	mnt := t.TempDir()
	if err := unix.Mount("ramfs", mnt, "ramfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(mnt, unix.MNT_DETACH) })
	f, err := os.Open(mnt)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	res, err := unpack.Run(t.Context(), command(), f, bytes.NewReader(archive(t, file("f", "x").with(xattr("user.k", "v")))), unpack.Limits{})
	if err != nil || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "no extended attribute") {
		t.Errorf("%+v, %v", res, err)
	}
}

// paxSparse is a sparse file "s" of 1 MiB whose last 512 bytes are data, in one of the
// PAX forms.
func paxSparse(t *testing.T, version string) []byte {
	t.Helper()
	const size, at, length = 1 << 20, 1<<20 - 512, 512
	records := map[string]string{"GNU.sparse.size": fmt.Sprint(size)}
	name, content := "s", strings.Repeat("x", length)
	order := []string{"GNU.sparse.size"}
	add := func(k, v string) { records[k] = v; order = append(order, k) }
	var repeated string
	switch version {
	case "0.0": // the map by records that repeat
		add("GNU.sparse.numblocks", "1")
		repeated = record("GNU.sparse.offset", fmt.Sprint(at)) + record("GNU.sparse.numbytes", fmt.Sprint(length))
	case "0.1":
		add("GNU.sparse.numblocks", "1")
		add("GNU.sparse.map", fmt.Sprintf("%d,%d", at, length))
	case "1.0": // the map before the data
		delete(records, "GNU.sparse.size")
		order = nil
		add("GNU.sparse.major", "1")
		add("GNU.sparse.minor", "0")
		add("GNU.sparse.name", "s")
		add("GNU.sparse.realsize", fmt.Sprint(size))
		name = "GNUSparseFile.1/s"
		m := fmt.Sprintf("1\n%d\n%d\n", at, length)
		content = m + strings.Repeat("\x00", 512-len(m)) + content
	}
	var pax strings.Builder
	for _, k := range order {
		pax.WriteString(record(k, records[k]))
	}
	pax.WriteString(repeated)
	data := append(ustar("PaxHeaders/s", 'x', int64(pax.Len())), padded(pax.String())...)
	data = append(data, ustar(name, '0', int64(len(content)))...)
	return append(append(data, padded(content)...), make([]byte, 1024)...)
}

// record is a PAX record, whose length counts itself.
func record(k, v string) string {
	for n := len(k) + len(v) + 3; ; n++ {
		if s := fmt.Sprintf("%d %s=%s\n", n, k, v); len(s) == n {
			return s
		}
	}
}

func padded(s string) string { return s + strings.Repeat("\x00", (512-len(s)%512)%512) }

func ustar(name string, kind byte, size int64) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x0000000000000\x00", size))
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func TestSparseForms(t *testing.T) {
	for _, version := range []string{"0.0", "0.1", "1.0"} {
		t.Run(version, func(t *testing.T) {
			dirPath, _, err := layer(t, unpack.Limits{}, paxSparse(t, version))
			if err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(dirPath, "s"))
			var st unix.Stat_t
			if serr := unix.Stat(filepath.Join(dirPath, "s"), &st); serr != nil {
				t.Fatal(serr)
			}
			if err != nil || len(b) != 1<<20 || b[1<<20-513] != 0 || string(b[1<<20-512:]) != strings.Repeat("x", 512) || st.Blocks*512 > 1<<19 {
				t.Errorf("%d bytes, %d blocks, %v", len(b), st.Blocks, err)
			}
		})
	}
}

// TestHostileHeaders has headers that other parsers were broken by.
func TestHostileHeaders(t *testing.T) {
	pax := func(records string, then ...byte) []byte {
		data := append(ustar("PaxHeaders/f", 'x', int64(len(records))), padded(records)...)
		return append(append(data, then...), make([]byte, 1024)...)
	}
	fileOf := func(n int) []byte { return append(ustar("f", '0', int64(n)), padded(strings.Repeat("x", n))...) }
	sparseMap := strings.Repeat("1,1,", 400_000) + "1,1"
	for name, tt := range map[string]struct {
		data []byte
		want error
	}{
		"CVE-2022-2879, a PAX header of 2 MiB": {pax(record("comment", strings.Repeat("x", 2<<20)), fileOf(1)...), containerizer.ErrDataCorrupt},
		"CVE-2025-58183, a large sparse map":   {pax(record("GNU.sparse.numblocks", "400001")+record("GNU.sparse.size", "9000000")+record("GNU.sparse.map", sparseMap), fileOf(1)...), containerizer.ErrDataCorrupt},
		"a NUL in a name":                      {pax(record("path", "a\x00b"), fileOf(1)...), containerizer.ErrDataCorrupt},
		"a NUL in a link":                      {pax(record("linkpath", "a\x00b"), ustar("l", '2', 0)...), containerizer.ErrDataCorrupt},
		"a negative size":                      {pax(record("size", "-1"), fileOf(1)...), containerizer.ErrDataCorrupt},
		"a negative owner":                     {pax(record("uid", "-1"), fileOf(1)...), nil},
		"more bytes than there are":            {pax(record("size", "1000000"), fileOf(1)...), containerizer.ErrDataCorrupt},
		"a checksum that is none":              {append(append([]byte{}, ustar("f", '0', 0)[:100]...), make([]byte, 1500)...), containerizer.ErrDataCorrupt},
		"an entry without a name":              {append(ustar("", '0', 0), make([]byte, 1024)...), containerizer.ErrInvalid},
		"device numbers out of range":          {pax(record("SCHILY.devmajor", "99999999999"), ustar("n", '3', 0)...), nil},
		"a bomb of zstd":                       {zstded(t, make([]byte, 120<<20)), containerizer.ErrResourceExhausted},
		"a window of zstd":                     {zstdWindow(), containerizer.ErrDataCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			before := processorTime(t)
			dirPath, _, err := layer(t, unpack.Limits{}, tt.data)
			if tt.want != nil {
				wantError(t, err, tt.want, "")
			}
			for _, line := range tree(t, dirPath) {
				if strings.Contains(line, "Dc") || strings.Contains(line, "429496") {
					t.Errorf("it left %q", line)
				}
			}
			if took := processorTime(t) - before; took > 20*time.Second {
				t.Errorf("it took %s of processor time", took)
			}
		})
	}
}

// zstdWindow is a frame that asks for a window of 2 GiB.
func zstdWindow() []byte {
	const exponent = 21 << 3 // 1 KiB << 21
	return append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, exponent}, bytes.Repeat([]byte{1, 0, 0}, 10)...)
}

// TestDesync (CVE-2025-62518, "TARmageddon"): a size in a PAX header that differs from
// the ustar one, with another archive in between. Its entries are content, no entries.
func TestDesync(t *testing.T) {
	inner := archive(t, file("smuggled", "x"))
	records := record("size", fmt.Sprint(len(inner)))
	data := append(ustar("PaxHeaders/outer", 'x', int64(len(records))), padded(records)...)
	data = append(data, ustar("outer", '0', 0)...)
	data = append(data, padded(string(inner))...)
	data = append(data, make([]byte, 1024)...)
	dirPath, _, err := layer(t, unpack.Limits{}, data)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dirPath, "outer")); !bytes.Equal(b, inner) {
		t.Errorf("outer has %d bytes, %v; want %d", len(b), err, len(inner))
	}
	if lines := tree(t, dirPath); len(lines) != 2 {
		t.Errorf("files %q", lines)
	}
}

// TestManyMembers has a megabyte of gzip members with nothing in them, which must not
// take more than their bytes are worth.
func TestManyMembers(t *testing.T) {
	plain := archive(t, file("f", "x"))
	empty := gzipped(t, nil)
	data := append(bytes.Repeat(empty, 1<<20/len(empty)), gzipped(t, plain)...)
	start := processorTime(t)
	if dirPath, _, err := layer(t, unpack.Limits{}, data); err != nil || len(tree(t, dirPath)) != 2 {
		t.Errorf("error %v", err)
	}
	if took := processorTime(t) - start; took > 20*time.Second {
		t.Errorf("it took %s of processor time", took)
	}
	frames, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	empty = frames.EncodeAll(nil, nil)
	data = append(bytes.Repeat(append(empty, zstded(t, make([]byte, 512))...), 1000), zstded(t, plain)...)
	if _, _, err := layer(t, unpack.Limits{}, data); err != nil && !strings.Contains(err.Error(), "tar") {
		t.Errorf("zstd: %v", err)
	}
}
