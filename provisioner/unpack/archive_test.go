package unpack_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
	"github.com/berth-dev/berth/provisioner/unpack/apply"
)

// extract extracts content as user 7:8, and lists what it made.
func extract(t *testing.T, content []byte, x containerizer.Extraction) ([]string, error) {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "archive")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close() //nolint:errcheck // read only
	target := filepath.Join(dir, "target")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := os.Open(target)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // a directory
	x.Owner = containerizer.Owner{UID: 7, GID: 8}
	_, err = unpack.NewExtractor(command()).Extract(t.Context(), in, out, x)
	if err != nil { // what is there is nobody's
		return nil, err
	}
	return placed(t, target), nil
}

// placed lists files in short, and checks that all are 7:8's.
func placed(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 7 || st.Gid != 8 {
			t.Errorf("%s is %d:%d's", path, st.Uid, st.Gid)
		}
		if n, err := unix.Llistxattr(path, nil); err == nil && n > 0 {
			t.Errorf("%s has extended attributes", path)
		}
		rel := strings.TrimPrefix(path, root+"/")
		switch {
		case d.IsDir():
			rel = fmt.Sprintf("%s/ %04o", rel, unixMode(info))
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			rel += " -> " + target
		case d.Type() == 0:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if len(b) > 20 {
				b = fmt.Appendf(nil, "%d bytes", len(b))
			}
			rel = fmt.Sprintf("%s %04o %s", rel, unixMode(info), b)
		default:
			rel += " " + d.Type().String()
		}
		all = append(all, rel)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func unixMode(i fs.FileInfo) uint32 { return i.Sys().(*syscall.Stat_t).Mode & 0o7777 }

func compressed(t *testing.T, name string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch name {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		w, err = zstd.NewWriter(&out)
	case "xz":
		w, err = xz.NewWriter(&out)
	default:
		return b
	}
	if err == nil {
		_, err = w.Write(b)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// bz2 is "hello\n", by bzip2(1).
var bz2 = []byte("BZh91AY&SY\xc1\xc0\x80\xe2\x00\x00\x01\x41\x00\x00\x10\x02\x44\xa0\x00\x30\xcd\x00\xc3\x46\x29\x97\x17\x72\x45\x38\x50\x90\xc1\xc0\x80\xe2")

func TestArchiveCompressions(t *testing.T) {
	content := archive(t, dir("d/", 0o700), file("d/f", "x"))
	for _, name := range []string{"none", "gzip", "zstd", "xz"} {
		t.Run(name, func(t *testing.T) {
			got, err := extract(t, compressed(t, name, content), containerizer.Extraction{Kind: containerizer.ArchiveTar})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"d/ 0700", "d/f 0644 x"}, got); diff != "" {
				t.Error(diff)
			}
			one, err := extract(t, compressed(t, name, []byte("hello\n")), containerizer.Extraction{Kind: containerizer.ArchiveFile, Name: "one"})
			if diff := cmp.Diff([]string{"one 0644 hello\n"}, one); diff != "" || err != nil {
				t.Error(diff, err)
			}
			if name == "none" {
				return
			}
			whole := compressed(t, name, content)
			for _, broken := range [][]byte{whole[:len(whole)-3], whole[:len(whole)/2], append(slices.Clone(whole[:len(whole)-4]), 1, 2, 3, 4)} {
				if _, err := extract(t, broken, containerizer.Extraction{Kind: containerizer.ArchiveTar}); !errors.Is(err, containerizer.ErrDataCorrupt) {
					t.Errorf("%d of %d bytes: %v", len(broken), len(whole), err)
				}
			}
		})
	}
	got, err := extract(t, bz2, containerizer.Extraction{Kind: containerizer.ArchiveFile, Name: "one"})
	if diff := cmp.Diff([]string{"one 0644 hello\n"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := extract(t, bz2[:len(bz2)-2], containerizer.Extraction{Kind: containerizer.ArchiveFile, Name: "one"}); !errors.Is(err, containerizer.ErrDataCorrupt) {
		t.Errorf("a broken bzip2 file: %v", err)
	}
}

func TestArchiveTar(t *testing.T) {
	xattr := file("f", "x").with(func(h *tar.Header) {
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.a": "b", "SCHILY.xattr.security.capability": "c"}
	})
	for name, c := range map[string]struct {
		entries []entry
		want    []string
		err     error
	}{
		"plain": {
			[]entry{dir("./", 0o777), dir("./a", 0o750), file("a/f", "x"), symlink("a/s", "/etc/passwd"), hardlink("h", "a/f")},
			[]string{"a/ 0750", "a/f 0644 x", "a/s -> /etc/passwd", "h 0644 x"},
			nil,
		},
		"owners and set-id bits": {
			[]entry{file("f", "x").with(func(h *tar.Header) { h.Uid, h.Gid, h.Mode = 0, 0, 0o6755 }), dir("d", 0o3777)},
			[]string{"d/ 0777", "f 0755 x"},
			nil,
		},
		"missing parents":        {[]entry{file("a/b/f", "x")}, []string{"a/ 0755", "a/b/ 0755", "a/b/f 0644 x"}, nil},
		"no whiteouts":           {[]entry{file(".wh.f", "x"), file("d/.wh..wh..opq", "y"), hardlink("h", ".wh.f")}, []string{".wh.f 0644 x", "d/ 0755", "d/.wh..wh..opq 0644 y", "h 0644 x"}, nil},
		"devices":                {[]entry{char("null", 1, 3), char("white", 0, 0), file("f", "x")}, []string{"f 0644 x"}, nil},
		"attributes":             {[]entry{xattr}, []string{"f 0644 x"}, nil},
		"the last counts":        {[]entry{file("f", "1"), dir("f", 0o755), file("f/g", "2"), file("f", "3")}, []string{"f 0644 3"}, nil},
		"through a link":         {[]entry{symlink("l", "/d"), file("l/f", "x")}, []string{"d/ 0755", "d/f 0644 x", "l -> /d"}, nil},
		"link to the outside":    {[]entry{symlink("l", "../../../.."), file("l/f", "x")}, []string{"f 0644 x", "l -> ../../../.."}, nil},
		"parent":                 {[]entry{file("../f", "x")}, nil, containerizer.ErrInvalid},
		"hidden parent":          {[]entry{file("a/../../f", "x")}, nil, containerizer.ErrInvalid},
		"absolute":               {[]entry{file("/etc/f", "x")}, []string{"etc/ 0755", "etc/f 0644 x"}, nil},
		"hard link outside":      {[]entry{hardlink("h", "/etc/passwd")}, nil, containerizer.ErrInvalid},
		"hard link upwards":      {[]entry{hardlink("h", "../../etc/passwd")}, nil, containerizer.ErrInvalid},
		"hard link to directory": {[]entry{dir("d", 0o755), hardlink("h", "d")}, nil, containerizer.ErrInvalid},
		"root is a file":         {[]entry{file(".", "x")}, nil, containerizer.ErrInvalid},
		"no owner":               {[]entry{file("f", "x").with(func(h *tar.Header) { h.Uid = 1 << 20 })}, []string{"f 0644 x"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := extract(t, archive(t, c.entries...), containerizer.Extraction{Kind: containerizer.ArchiveTar})
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if diff := cmp.Diff(c.want, got); err == nil && diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := extract(t, []byte(strings.Repeat("this is no archive ", 100)), containerizer.Extraction{Kind: containerizer.ArchiveTar}); !errors.Is(err, containerizer.ErrDataCorrupt) {
		t.Errorf("no archive: %v", err)
	}
	if _, err := extract(t, nil, containerizer.Extraction{Kind: "rar"}); !errors.Is(err, containerizer.ErrUnsupported) {
		t.Errorf("an unknown kind: %v", err)
	}
}

func TestArchiveLimits(t *testing.T) {
	many := make([]entry, 100)
	for i := range many {
		many[i] = file(fmt.Sprint(i), "0123456789")
	}
	var members []zipped
	for i := range 100 {
		members = append(members, zipped{name: fmt.Sprint(i), content: "0123456789"})
	}
	zeros := make([]byte, 150<<20)
	for name, c := range map[string]struct {
		content []byte
		x       containerizer.Extraction
	}{
		"tar bytes":   {archive(t, many...), containerizer.Extraction{Kind: containerizer.ArchiveTar, MaxBytes: 999}},
		"tar entries": {archive(t, many...), containerizer.Extraction{Kind: containerizer.ArchiveTar, MaxEntries: 99}},
		"zip bytes":   {zipFile(t, members...), containerizer.Extraction{Kind: containerizer.ArchiveZip, MaxBytes: 999}},
		"zip entries": {zipFile(t, members...), containerizer.Extraction{Kind: containerizer.ArchiveZip, MaxEntries: 99}},
		"file bytes":  {compressed(t, "gzip", make([]byte, 1000)), containerizer.Extraction{Kind: containerizer.ArchiveFile, Name: "x", MaxBytes: 999}},
		"gzip bomb":   {compressed(t, "gzip", zeros), containerizer.Extraction{Kind: containerizer.ArchiveFile, Name: "x"}},
		"zip bomb":    {zipFile(t, zipped{name: "x", content: string(zeros)}), containerizer.Extraction{Kind: containerizer.ArchiveZip}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := extract(t, c.content, c.x); !errors.Is(err, containerizer.ErrResourceExhausted) {
				t.Errorf("error %v", err)
			}
			if strings.Contains(name, "bomb") {
				return
			}
			c.x.MaxBytes, c.x.MaxEntries = 1000, 100
			if _, err := extract(t, c.content, c.x); err != nil {
				t.Errorf("within the limits: %v", err)
			}
		})
	}
}

// zipped is an entry of a zip archive.
type zipped struct {
	name, content string
	mode          fs.FileMode
	change        func(*zip.FileHeader)
}

func zipFile(tb testing.TB, entries ...zipped) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.mode == 0 {
			e.mode = 0o644
		}
		h.SetMode(e.mode)
		if e.change != nil {
			e.change(h)
		}
		f, err := w.CreateHeader(h)
		if err == nil {
			_, err = io.WriteString(f, e.content)
		}
		if err != nil && !strings.HasSuffix(e.name, "/") {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestArchiveZip(t *testing.T) {
	link := func(name, target string) zipped {
		return zipped{name: name, content: target, mode: fs.ModeSymlink | 0o777}
	}
	for name, c := range map[string]struct {
		entries []zipped
		want    []string
		err     error
	}{
		"plain": {
			[]zipped{{name: "d/", mode: fs.ModeDir | 0o750}, {name: "d/f", content: "x"}, {name: "run", content: "y", mode: 0o755}, link("l", "/etc/passwd")},
			[]string{"d/ 0750", "d/f 0644 x", "l -> /etc/passwd", "run 0755 y"},
			nil,
		},
		"set-id bits":     {[]zipped{{name: "f", content: "x", mode: fs.ModeSetuid | fs.ModeSetgid | 0o755}}, []string{"f 0755 x"}, nil},
		"missing parents": {[]zipped{{name: "a/b/f", content: "x"}}, []string{"a/ 0755", "a/b/ 0755", "a/b/f 0644 x"}, nil},
		"device":          {[]zipped{{name: "n", mode: fs.ModeDevice | fs.ModeCharDevice | 0o666}, {name: "p", mode: fs.ModeNamedPipe | 0o600}}, nil, nil},
		"the last counts": {[]zipped{{name: "f", content: "1"}, {name: "f", content: "2"}, {name: "f/g", content: "3"}}, []string{"f/ 0755", "f/g 0644 3"}, nil},
		"through a link":  {[]zipped{link("l", "/d"), {name: "l/f", content: "x"}}, []string{"d/ 0755", "d/f 0644 x", "l -> /d"}, nil},
		"out by a link":   {[]zipped{link("l", "../../../../../../../tmp"), {name: "l/f", content: "x"}}, []string{"l -> ../../../../../../../tmp", "tmp/ 0755", "tmp/f 0644 x"}, nil},
		"parent":          {[]zipped{{name: "../f", content: "x"}}, nil, containerizer.ErrInvalid},
		"hidden parent":   {[]zipped{{name: "a/../../f", content: "x"}}, nil, containerizer.ErrInvalid},
		"absolute":        {[]zipped{{name: "/etc/f", content: "x"}}, []string{"etc/ 0755", "etc/f 0644 x"}, nil},
		"backslash":       {[]zipped{{name: `..\f`, content: "x"}}, nil, containerizer.ErrInvalid},
		"NUL":             {[]zipped{{name: "a\x00b", content: "x"}}, nil, containerizer.ErrInvalid},
		"long name":       {[]zipped{{name: strings.Repeat("n", 256), content: "x"}}, nil, containerizer.ErrInvalid},
		"long link":       {[]zipped{link("l", strings.Repeat("x/", 3000))}, nil, containerizer.ErrInvalid},
		"empty link":      {[]zipped{link("l", "")}, nil, containerizer.ErrInvalid},
		"encrypted":       {[]zipped{{name: "f", content: "x", change: func(h *zip.FileHeader) { h.Flags |= 1 }}}, nil, containerizer.ErrUnsupported},
		"empty":           {nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := extract(t, zipFile(t, c.entries...), containerizer.Extraction{Kind: containerizer.ArchiveZip})
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if diff := cmp.Diff(c.want, got); err == nil && diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Headers that contradict each other, and entries that share their bytes.
func TestArchiveZipLies(t *testing.T) {
	content := strings.Repeat("0123456789", 1000)
	whole := zipFile(t, zipped{name: "file", content: content})
	central := bytes.Index(whole, []byte("PK\x01\x02"))
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		want   error
	}{
		"larger than told":  {func(b []byte) []byte { binary.LittleEndian.PutUint32(b[central+24:], 5); return b }, containerizer.ErrDataCorrupt},
		"smaller than told": {func(b []byte) []byte { binary.LittleEndian.PutUint32(b[central+24:], 20_000); return b }, containerizer.ErrDataCorrupt},
		"wrong checksum":    {func(b []byte) []byte { b[central+16] ^= 1; return b }, containerizer.ErrDataCorrupt},
		"unknown method":    {func(b []byte) []byte { binary.LittleEndian.PutUint16(b[central+10:], 14); return b }, containerizer.ErrUnsupported},
		"offset outside":    {func(b []byte) []byte { binary.LittleEndian.PutUint32(b[central+42:], 1<<30); return b }, containerizer.ErrDataCorrupt},
		"cut off":           {func(b []byte) []byte { return b[:len(b)-10] }, containerizer.ErrDataCorrupt},
		"no archive":        {func([]byte) []byte { return []byte("nonsense") }, containerizer.ErrDataCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := extract(t, c.change(slices.Clone(whole)), containerizer.Extraction{Kind: containerizer.ArchiveZip}); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

func FuzzZip(f *testing.F) {
	f.Add(zipFile(f, zipped{name: "d/", mode: fs.ModeDir | 0o755}, zipped{name: "d/f", content: "x"}, zipped{name: "l", content: "d", mode: fs.ModeSymlink | 0o777}, zipped{name: "l/g", content: "y"}))
	f.Add(zipFile(f, zipped{name: "../f", content: "x"}))
	f.Add(zipFile(f, zipped{name: "s", content: "stored", change: func(h *zip.FileHeader) { h.Method = zip.Store }}))
	f.Fuzz(func(t *testing.T, b []byte) { fuzzArchive(t, b, containerizer.ArchiveZip) })
}

func FuzzArchiveTar(f *testing.F) {
	f.Add(archive(f, dir("d/", 0o755), file("d/f", "x"), symlink("l", "d"), file("l/g", "y"), hardlink("h", "d/f")))
	f.Add(archive(f, file("../f", "x")))
	f.Fuzz(func(t *testing.T, b []byte) { fuzzArchive(t, b, containerizer.ArchiveTar) })
}

// fuzzArchive extracts below a directory that has a neighbour, without the child's
// confinement: the calls themselves must not leave it.
func fuzzArchive(t *testing.T, b []byte, kind containerizer.ArchiveKind) {
	t.Helper()
	outer := t.TempDir()
	for _, name := range []string{"root", "outside"} {
		if err := os.Mkdir(filepath.Join(outer, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	in, err := os.OpenFile(filepath.Join(outer, "in"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close() //nolint:errcheck // read only
	if _, err := in.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	root, err := unix.Open(filepath.Join(outer, "root"), unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root) //nolint:errcheck // a directory
	me := containerizer.Owner{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	_, err = apply.Archive(root, in, containerizer.Extraction{Kind: kind, Owner: me, MaxBytes: 1 << 20, MaxEntries: 1000})
	if err != nil && !hasClass(err) {
		t.Errorf("%v has no class", err)
	}
	names, err := os.ReadDir(outer)
	if err != nil || len(names) != 3 {
		t.Errorf("beside the root are %v, %v", names, err)
	}
	if left, err := os.ReadDir(filepath.Join(outer, "outside")); err != nil || len(left) > 0 {
		t.Errorf("outside is %v, %v", left, err)
	}
}

func hasClass(err error) bool {
	for _, class := range []error{containerizer.ErrInvalid, containerizer.ErrDataCorrupt, containerizer.ErrUnsupported, containerizer.ErrResourceExhausted} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}
