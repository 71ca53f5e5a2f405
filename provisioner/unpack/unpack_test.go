package unpack_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
)

const root = ". dir 0755 0:0"

// TestStructure has the rules of whiteouts and structure, one archive each.
func TestStructure(t *testing.T) {
	wh := func(name string) entry { return file(name, "") }
	tests := map[string]struct {
		entries  []entry
		want     []string // without the root's line
		implicit []string // nil: only the root
		links    []unpack.Link
	}{
		"plain": {
			entries: []entry{dir("a/", 0o750), file("a/f", "x"), symlink("a/s", "f"), hardlink("a/h", "a/f")},
			want:    []string{"a dir 0750 0:0", `a/f file 0644 0:0 "x" x2`, `a/h file 0644 0:0 "x" x2`, "a/s link 0:0 -> f"},
		},
		"names are cleaned": {
			entries: []entry{dir("./a/", 0o755), file("/a//b", "x"), file("a/./c", "y")},
			want:    []string{"a dir 0755 0:0", `a/b file 0644 0:0 "x"`, `a/c file 0644 0:0 "y"`},
		},
		"whiteout": {
			entries: []entry{dir("a", 0o755), wh("a/.wh.x")},
			want:    []string{"a dir 0755 0:0 origin", "a/x whiteout"},
		},
		"whiteout with missing parents": {
			entries:  []entry{wh("a/b/.wh.x")},
			want:     []string{"a dir 0755 0:0", "a/b dir 0755 0:0 origin", "a/b/x whiteout"},
			implicit: []string{"", "a", "a/b"},
		},
		"aufs": {
			entries: []entry{dir(".wh..wh.plnk/", 0o700), file(".wh..wh.plnk/1.2", ""), file(".wh..wh.aufs", ""), file("f", "")},
			want:    []string{`f file 0644 0:0 ""`},
		},
		"opaque before":  {entries: []entry{dir("d", 0o755), wh("d/.wh..wh..opq"), file("d/a", "1"), file("d/b", "2")}, want: opaqueD()},
		"opaque between": {entries: []entry{dir("d", 0o755), file("d/a", "1"), wh("d/.wh..wh..opq"), file("d/b", "2")}, want: opaqueD()},
		"opaque after":   {entries: []entry{dir("d", 0o755), file("d/a", "1"), file("d/b", "2"), wh("d/.wh..wh..opq")}, want: opaqueD()},
		"opaque directory type": {
			entries: []entry{dir("d", 0o755), dir("d/.wh..wh..opq", 0o755), file("d/a", "1"), file("d/b", "2")}, want: opaqueD(),
		},
		"whiteout in an opaque directory": {entries: []entry{dir("d", 0o755), wh("d/.wh..wh..opq"), wh("d/.wh.x"), file("d/a", "1"), file("d/b", "2")}, want: opaqueD()},
		"whiteout before the opaque mark": {entries: []entry{dir("d", 0o755), wh("d/.wh.x"), wh("d/.wh..wh..opq"), file("d/a", "1"), file("d/b", "2")}, want: opaqueD()},
		"whiteout then the same name":     {entries: []entry{wh(".wh.f"), file("f", "new")}, want: []string{`f file 0644 0:0 "new"`}},
		"the same name then its whiteout": {entries: []entry{file("f", "new"), wh(".wh.f")}, want: []string{`f file 0644 0:0 "new"`}},
		"whiteout then a directory":       {entries: []entry{wh(".wh.d"), dir("d", 0o700), file("d/x", "")}, want: []string{"d dir 0700 0:0 opaque", `d/x file 0644 0:0 ""`}},
		"directory then its whiteout":     {entries: []entry{dir("d", 0o700), file("d/x", ""), wh(".wh.d")}, want: []string{"d dir 0700 0:0 opaque", `d/x file 0644 0:0 ""`}},
		"whiteout then a child": {
			entries: []entry{wh(".wh.d"), file("d/x", "")}, want: []string{"d dir 0755 0:0 opaque", `d/x file 0644 0:0 ""`},
		},
		"the parent is a file": {
			entries: []entry{file("p", "1"), file("p/x", "2")}, want: []string{"p dir 0755 0:0 opaque", `p/x file 0644 0:0 "2"`},
		},
		"the parent is a link": {
			entries: []entry{dir("usr", 0o755), dir("usr/bin", 0o755), symlink("bin", "usr/bin"), file("bin/x", "1"), symlink("abs", "/usr/bin"), file("abs/y", "2")},
			want:    []string{"abs link 0:0 -> /usr/bin", "bin link 0:0 -> usr/bin", "usr dir 0755 0:0", "usr/bin dir 0755 0:0", `usr/bin/x file 0644 0:0 "1"`, `usr/bin/y file 0644 0:0 "2"`},
		},
		"the parent is a dangling link": {
			entries:  []entry{symlink("run", "/var/../var/run"), file("run/x", "1")},
			want:     []string{"run link 0:0 -> /var/../var/run", "var dir 0755 0:0", "var/run dir 0755 0:0", `var/run/x file 0644 0:0 "1"`},
			implicit: []string{"", "var", "var/run"},
		},
		"duplicates, the last wins": {
			entries: []entry{file("f", "1"), file("f", "2"), dir("d", 0o700), dir("d", 0o711), file("d/x", ""), file("e", ""), dir("e", 0o755), dir("g", 0o755), file("g/h", ""), file("g", "3"), symlink("f", "d")},
			want:    []string{"d dir 0711 0:0", `d/x file 0644 0:0 ""`, "e dir 0755 0:0 opaque", "f link 0:0 -> d", `g file 0644 0:0 "3"`},
		},
		"hard links": {
			entries: []entry{file("f", "1"), hardlink("abs", "/f"), symlink("s", "/etc/passwd"), hardlink("hs", "s"), hardlink("f", "f")},
			want:    []string{`abs file 0644 0:0 "1" x2`, `f file 0644 0:0 "1" x2`, "hs link 0:0 -> /etc/passwd", "s link 0:0 -> /etc/passwd"},
		},
		"hard link into a lower layer": {
			entries: []entry{hardlink("h", "usr/lib/x"), hardlink("i", "h"), hardlink("j", "gone"), file("j", "own")},
			want:    []string{`h file 0000 0:0 ""`, `i file 0000 0:0 ""`, `j file 0644 0:0 "own"`},
			links:   []unpack.Link{{Path: "h", Target: "usr/lib/x"}, {Path: "i", Target: "usr/lib/x"}},
		},
		"old directory type": {
			entries: []entry{file("d/", "").with(func(h *tar.Header) { h.Typeflag = tar.TypeRegA; h.Format = tar.FormatUSTAR })}, //nolint:staticcheck // the point
			want:    []string{"d dir 0644 0:0"},
		},
		"devices": {
			entries: []entry{char("null", 1, 3), char("mem", 1, 1), char("white", 0, 0), {Header: tar.Header{Typeflag: tar.TypeFifo, Name: "p", Mode: 0o600}}, {Header: tar.Header{Typeflag: tar.TypeBlock, Name: "sda", Devmajor: 8}}},
			want:    []string{"null Dc--------- 0666 0:0 1:3", "p p--------- 0600 0:0 0:0", "white whiteout"},
		},
		"set-id and sticky": {
			entries: []entry{
				dir("t", 0o1777), dir("g", 0o2775).with(func(h *tar.Header) { h.Gid = 50 }), file("g/f", "").with(func(h *tar.Header) { h.Mode = 0o4755 }), file("g/i/x", ""),
			},
			want:     []string{"g dir 2775 0:50", `g/f file 4755 0:0 ""`, "g/i dir 0755 0:0", `g/i/x file 0644 0:0 ""`, "t dir 1777 0:0"},
			implicit: []string{"", "g/i"},
		},
		"large owner": {
			entries: []entry{file("f", "").with(func(h *tar.Header) { h.Uid, h.Gid = 1<<31+7, 1<<32-2 })},
			want:    []string{`f file 0644 2147483655:4294967294 ""`},
		},
		"global header": {
			entries: []entry{{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"path": "evil"}}}, file("f", "")},
			want:    []string{`f file 0644 0:0 ""`},
		},
		"odd names": {
			entries: []entry{file("a\nb", ""), file("\xff\xfe", "").with(func(h *tar.Header) { h.Format = tar.FormatGNU }), file("A", "1"), file("a", "2"), file(strings.Repeat("n", 255), "")},
			want:    []string{`A file 0644 0:0 "1"`, "a\nb file 0644 0:0 \"\"", `a file 0644 0:0 "2"`, strings.Repeat("n", 255) + ` file 0644 0:0 ""`, "\xff\xfe" + ` file 0644 0:0 ""`},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir, res, err := layer(t, unpack.Limits{}, archive(t, tt.entries...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(append([]string{root}, tt.want...), tree(t, dir)); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
			implicit := tt.implicit
			if implicit == nil {
				implicit = []string{""}
			}
			if diff := cmp.Diff(implicit, res.Implicit); diff != "" {
				t.Errorf("implicit directories (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.links, res.Links); diff != "" {
				t.Errorf("links into lower layers (-want +got):\n%s", diff)
			}
		})
	}
}

func opaqueD() []string {
	return []string{"d dir 0755 0:0 opaque", `d/a file 0644 0:0 "1"`, `d/b file 0644 0:0 "2"`}
}

// TestRefuses has archives that must end with one clear sentence of a class.
func TestRefuses(t *testing.T) {
	tests := map[string]struct {
		entries []entry
		limits  unpack.Limits
		class   error
		want    string
	}{
		"dot-dot":                      {entries: []entry{file("../x", "")}, want: `the name has a ".."`},
		"dot-dot within":               {entries: []entry{file("a/../../x", "")}, want: `the name has a ".."`},
		"dot-dot at the end":           {entries: []entry{dir("a/..", 0o755)}, want: `the name has a ".."`},
		"root as a link":               {entries: []entry{symlink("./", "/etc")}, want: "root is not a directory"},
		"root as a file":               {entries: []entry{file(".", "")}, want: "root is not a directory"},
		"empty whiteout":               {entries: []entry{file("a/.wh.", "")}, want: `whiteout names ""`},
		"whiteout of dot":              {entries: []entry{file("a/.wh..", "")}, want: `whiteout names "."`},
		"whiteout of dot-dot":          {entries: []entry{file("a/.wh...", "")}, want: `whiteout names ".."`},
		"whiteout as a directory":      {entries: []entry{file(".wh.a/x", "")}, want: "whiteout is used as a directory"},
		"long component":               {entries: []entry{file(strings.Repeat("n", 256), "")}, want: "at most 255"},
		"hard link to a directory":     {entries: []entry{dir("d", 0o755), hardlink("h", "d")}, want: "is a directory"},
		"hard link with dot-dot":       {entries: []entry{hardlink("h", "../etc/passwd")}, want: "is not valid"},
		"hard link to a whiteout":      {entries: []entry{file(".wh.w", ""), hardlink("h", "w")}, want: "is a whiteout"},
		"hard link to a whiteout name": {entries: []entry{hardlink("h", ".wh.w")}, want: "is a whiteout"},
		"link loop":                    {entries: []entry{symlink("a", "b"), symlink("b", "a"), file("a/x", "")}, want: "more than 40 symbolic links"},
		"id -1":                        {entries: []entry{file("f", "").with(func(h *tar.Header) { h.Uid = math.MaxUint32 })}, want: "out of range"},
		"unknown type":                 {entries: []entry{file("f", "").with(func(h *tar.Header) { h.Typeflag = 'a'; h.Format = tar.FormatUSTAR })}, want: "type 'a' is unknown"},
		"too many entries":             {entries: []entry{file("a", ""), file("b", "")}, limits: unpack.Limits{Entries: 1}, class: containerizer.ErrResourceExhausted, want: "more than 1 entries"},
		"too many bytes":               {entries: []entry{file("a", "12345")}, limits: unpack.Limits{Bytes: 4}, class: containerizer.ErrResourceExhausted, want: "more than 4 bytes"},
		"too deep":                     {entries: []entry{file("a/b/c/d", "")}, limits: unpack.Limits{Depth: 3}, class: containerizer.ErrResourceExhausted, want: "at most 3"},
		"large attributes":             {entries: []entry{file("a", "").with(xattr("user.a", strings.Repeat("x", 100)))}, limits: unpack.Limits{XattrBytes: 50}, class: containerizer.ErrResourceExhausted, want: "extended attributes"},
		"too many whiteouts":           {entries: []entry{file(".wh.a", ""), file(".wh.b", "")}, limits: unpack.Limits{Notes: 2}, class: containerizer.ErrResourceExhausted, want: "more than 2 whiteouts"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := layer(t, tt.limits, archive(t, tt.entries...))
			wantError(t, err, tt.class, tt.want)
		})
	}
}

func wantError(t *testing.T, err, class error, text string) {
	t.Helper()
	if class == nil {
		class = containerizer.ErrInvalid
	}
	if err == nil || !strings.Contains(err.Error(), text) || !errors.Is(err, class) {
		t.Errorf("error %v, want one with %q that is %q", err, text, class)
	}
}

func xattr(name, value string) func(*tar.Header) {
	return func(h *tar.Header) {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
}

// TestBroken has streams that end or change in the middle.
func TestBroken(t *testing.T) {
	plain := archive(t, file("f", strings.Repeat("content", 1000)))
	zipped := gzipped(t, plain)
	tests := map[string]struct {
		data  []byte
		class error
		want  string
	}{
		"not a tar":      {[]byte(strings.Repeat("no tar at all ", 100)), containerizer.ErrDataCorrupt, "tar archive"},
		"truncated tar":  {plain[:2000], containerizer.ErrDataCorrupt, "unexpected EOF"},
		"truncated gzip": {zipped[:len(zipped)-10], containerizer.ErrDataCorrupt, "before it is complete"},
		"bad checksum":   {append(append([]byte{}, zipped[:len(zipped)-8]...), 1, 2, 3, 4, 5, 6, 7, 8), containerizer.ErrDataCorrupt, "the checksum is"},
		"gzip garbage":   {append(append([]byte{}, zipped...), "garbage"...), containerizer.ErrDataCorrupt, "neither zeros nor another member"},
		"truncated zstd": {zstded(t, plain)[:30], containerizer.ErrDataCorrupt, "zstd"},
		"xz":             {append([]byte{0xfd}, "7zXZ and so on"...), containerizer.ErrUnsupported, "xz"},
		"gzip bomb":      {gzipped(t, bytes.Repeat([]byte{0}, 120<<20)), containerizer.ErrResourceExhausted, "inflates more than"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := layer(t, unpack.Limits{}, tt.data)
			wantError(t, err, tt.class, tt.want)
		})
	}
}

func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// TestForms has the same archive in forms that must be accepted, with the same diffID.
func TestForms(t *testing.T) {
	plain := archive(t, dir("d", 0o755), file("d/f", "1"))
	skippable := []byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'x', 'y', 'z'}
	half := len(plain) / 2
	_, ref, err := layer(t, unpack.Limits{}, plain)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"gzip":            gzipped(t, plain),
		"gzip members":    append(gzipped(t, plain[:half]), gzipped(t, plain[half:])...),
		"gzip and zeros":  append(gzipped(t, plain), make([]byte, 1000)...),
		"zstd":            zstded(t, plain),
		"zstd frames":     append(append(zstded(t, plain[:half]), skippable...), zstded(t, plain[half:])...),
		"skippable first": append(append([]byte{}, skippable...), zstded(t, plain)...),
	} {
		t.Run(name, func(t *testing.T) {
			_, res, err := layer(t, unpack.Limits{}, data)
			if err != nil {
				t.Fatal(err)
			}
			if res.DiffID != ref.DiffID || res.TarBytes != int64(len(plain)) {
				t.Errorf("diffID %s of %d bytes, want %s of %d", res.DiffID, res.TarBytes, ref.DiffID, len(plain))
			}
		})
	}
	t.Run("no end blocks", func(t *testing.T) {
		dir, _, err := layer(t, unpack.Limits{}, plain[:len(plain)-1024])
		if err != nil || len(tree(t, dir)) != 3 {
			t.Errorf("%v, %v", tree(t, dir), err)
		}
	})
	t.Run("bytes after the end count", func(t *testing.T) {
		_, res, err := layer(t, unpack.Limits{}, append(append([]byte{}, plain...), "tail"...))
		if err != nil {
			t.Fatal(err)
		}
		if res.DiffID == ref.DiffID || res.TarBytes != int64(len(plain)+4) {
			t.Errorf("diffID %s of %d bytes", res.DiffID, res.TarBytes)
		}
	})
}

func TestMetadata(t *testing.T) {
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	dir, res, err := layer(t, unpack.Limits{}, archive(t,
		file("f", "x").with(func(h *tar.Header) {
			h.Uid, h.Mode = 7, 0o4711
			xattr("security.capability", capability)(h)
			xattr("user.k", "v\x00w")(h)
			xattr("trusted.overlay.opaque", "y")(h)
			xattr("trusted.overlay.redirect", "/etc")(h)
			xattr("user.overlay.opaque", "y")(h)
			xattr("security.selinux", "system_u")(h)
		}),
		dirWith("d", xattr("trusted.overlay.opaque", "y")),
		file("d/late", ""),
	))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, name := range []string{"security.capability", "user.k", "trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque"} {
		var b [64]byte
		if n, err := unix.Lgetxattr(filepath.Join(dir, "f"), name, b[:]); err == nil {
			got[name] = string(b[:n])
		}
	}
	if diff := cmp.Diff(map[string]string{"security.capability": capability, "user.k": "v\x00w"}, got); diff != "" {
		t.Errorf("attributes of f (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{root, "d dir 0755 0:0", `d/late file 0644 0:0 ""`, `f file 4711 7:0 "x"`}, tree(t, dir)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if len(res.Warnings) != 5 {
		t.Errorf("warnings %q, want 5", res.Warnings)
	}
	for _, name := range []string{"f", "d"} {
		info, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.ModTime().Unix() != 1_000_000_000 {
			t.Errorf("%s was modified at %v", name, info.ModTime())
		}
	}
}

func dirWith(name string, change func(*tar.Header)) entry { return dir(name, 0o755).with(change) }
