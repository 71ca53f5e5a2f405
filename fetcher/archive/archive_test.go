package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/archive"
	"github.com/berth-dev/berth/fetcher/reference"
)

type member struct{ name, content, link string }

func tarOf(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.content)), Typeflag: tar.TypeReg}
		if m.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, m.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func blob(content string) member {
	return member{name: "blobs/sha256/" + digest.FromString(content).Encoded(), content: content}
}

// ociLayout has two images, "one" and "docker.io/library/two:2".
func ociLayout(t *testing.T) []member {
	t.Helper()
	describe := func(content, ref, full string) v1.Descriptor {
		d := v1.Descriptor{MediaType: v1.MediaTypeImageManifest, Digest: digest.FromString(content), Size: int64(len(content)), Annotations: map[string]string{v1.AnnotationRefName: ref}}
		if full != "" {
			d.Annotations["io.containerd.image.name"] = full
		}
		return d
	}
	index, err := json.Marshal(v1.Index{Manifests: []v1.Descriptor{describe("m1", "one", ""), describe("m2", "2", "docker.io/library/two:2")}})
	if err != nil {
		t.Fatal(err)
	}
	return []member{{name: "./oci-layout", content: `{"imageLayoutVersion":"1.0.0"}`}, {name: "index.json", content: string(index)}, blob("m1"), blob("m2"), blob("layer")}
}

func dockerSave(t *testing.T) []member {
	t.Helper()
	return []member{
		{name: "manifest.json", content: `[{"Config":"` + digest.FromString("{}").Encoded() + `.json","RepoTags":["app:1","quay.io/x/app:1"],"Layers":["a/layer.tar","b/layer.tar"]}]`},
		{name: digest.FromString("{}").Encoded() + ".json", content: "{}"},
		{name: "a/layer.tar", content: "layer a"},
		{name: "b/layer.tar", link: "../a/layer.tar"},
	}
}

func connect(t *testing.T, s string) (containerizer.ImageOrigin, error) {
	t.Helper()
	r, err := reference.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	o, err := archive.Connect(t.Context(), r, t.TempDir())
	if err == nil {
		t.Cleanup(func() { _ = o.Close() })
	}
	return o, err
}

func content(t *testing.T, o containerizer.ImageOrigin, d v1.Descriptor) string {
	t.Helper()
	r, err := o.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLayout(t *testing.T) {
	members := ociLayout(t)
	dir := t.TempDir()
	for _, m := range members {
		path := filepath.Join(dir, m.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(m.content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plain := tarOf(t, members...)
	for form, ref := range map[string]string{
		"directory": "oci:" + dir, "archive": "oci-archive:" + write(t, plain),
		"gzip": "oci-archive:" + write(t, gzipped(t, plain)), "zstd": "oci-archive:" + write(t, zstded(t, plain)),
	} {
		t.Run(form, func(t *testing.T) {
			for name, want := range map[string]string{":one": "m1", ":two:2": "m2", ":@" + digest.FromString("m2").String(): "m2"} {
				o, err := connect(t, ref+name)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				d, raw, err := o.Resolve(t.Context())
				if err != nil || string(raw) != want || d.Digest != digest.FromString(want) {
					t.Errorf("%s: %q, %v", name, raw, err)
				}
				if got := content(t, o, v1.Descriptor{Digest: digest.FromString("layer")}); got != "layer" {
					t.Errorf("blob %q", got)
				}
			}
			if _, err := connect(t, ref+":none"); !errors.Is(err, containerizer.ErrNotFound) || !strings.Contains(err.Error(), "one, 2") {
				t.Errorf("no such image: %v", err)
			}
			if _, err := connect(t, ref); !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), "several images") {
				t.Errorf("several: %v", err)
			}
		})
	}
}

// TestLayoutIsHostile has directories that try to be read through.
func TestLayoutIsHostile(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(
		os.WriteFile(secret, []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600),
		os.Symlink(secret, filepath.Join(dir, "oci-layout")),
	); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, "oci:"+dir); err == nil || !strings.Contains(err.Error(), "escapes") {
		t.Errorf("a link out of the layout: %v", err)
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, "oci-layout")), syscall.Mkfifo(filepath.Join(dir, "oci-layout"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, "oci:"+dir); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("a FIFO: %v", err)
	}
}

func TestDockerArchive(t *testing.T) {
	path := write(t, tarOf(t, dockerSave(t)...))
	var first []byte
	for _, name := range []string{"", ":app:1", ":docker.io/library/app:1", ":quay.io/x/app:1", ":@" + digest.FromString("{}").String()} {
		o, err := connect(t, "docker-archive:"+path+name)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		d, raw, err := o.Resolve(t.Context())
		if err != nil || d.Digest != digest.FromBytes(raw) {
			t.Fatalf("%q: %+v, %v", name, d, err)
		}
		if first == nil {
			first = raw
		} else if !bytes.Equal(first, raw) {
			t.Errorf("%q: another manifest", name)
		}
		var m v1.Manifest
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		if got := content(t, o, m.Config); got != "{}" || m.Config.Digest != digest.FromString("{}") {
			t.Errorf("configuration %q, %+v", got, m.Config)
		}
		for _, l := range m.Layers {
			if got := content(t, o, l); got != "layer a" || l.Digest != digest.FromString("layer a") {
				t.Errorf("layer %q, %+v", got, l)
			}
		}
	}
}

func TestContents(t *testing.T) {
	oci, docker := ociLayout(t), dockerSave(t)
	for name, tt := range map[string]struct {
		members []member
		want    [][]string
		scheme  string
	}{
		"oci":    {oci, [][]string{nil, {"docker.io/library/two:2"}}, "oci-archive:"},
		"docker": {docker, [][]string{{"docker.io/library/app:1", "quay.io/x/app:1"}}, "docker-archive:"},
		"both":   {append(oci, docker...), [][]string{nil, {"docker.io/library/two:2"}}, "oci-archive:"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, tarOf(t, tt.members...))
			got, err := archive.Contents(t.Context(), path, "")
			if err != nil {
				t.Fatal(err)
			}
			var names [][]string
			for _, a := range got {
				names = append(names, a.Names)
				if !strings.HasPrefix(a.Reference, tt.scheme+path+":@sha256:") {
					t.Errorf("reference %q", a.Reference)
				}
				if _, err := connect(t, a.Reference); err != nil {
					t.Errorf("connect to %q: %v", a.Reference, err)
				}
			}
			if diff := cmp.Diff(tt.want, names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	layout := member{name: "oci-layout", content: `{"imageLayoutVersion":"1.0.0"}`}
	for name, tt := range map[string]struct {
		data  []byte
		ref   string
		class error
		want  string
	}{
		"neither":        {tarOf(t, member{name: "x"}), "oci-archive:", containerizer.ErrInvalid, "not an OCI image layout"},
		"no docker":      {tarOf(t, member{name: "x"}), "docker-archive:", containerizer.ErrInvalid, "not an archive of \"docker save\""},
		"garbage":        {[]byte(strings.Repeat("garbage ", 200)), "oci-archive:", containerizer.ErrDataCorrupt, "read the archive"},
		"truncated gzip": {gzipped(t, tarOf(t, layout))[:40], "oci-archive:", containerizer.ErrDataCorrupt, "decompress"},
		"xz":             {[]byte("\xfd7zXZ\x00 and so on"), "oci-archive:", containerizer.ErrUnsupported, "xz is not supported"},
		"version":        {tarOf(t, member{name: "oci-layout", content: `{"imageLayoutVersion":"2"}`}), "oci-archive:", containerizer.ErrUnsupported, "version 1"},
		"bad index":      {tarOf(t, layout, member{name: "index.json", content: "["}), "oci-archive:", containerizer.ErrInvalid, "parse"},
		"link loop":      {tarOf(t, member{name: "manifest.json", link: "manifest.json"}), "docker-archive:", containerizer.ErrInvalid, "loop of links"},
		"missing layer":  {tarOf(t, member{name: "manifest.json", content: `[{"Config":"c","Layers":["../../etc/passwd"]}]`}, member{name: "c"}), "docker-archive:", containerizer.ErrNotFound, `no "etc/passwd"`},
		"missing blob":   {tarOf(t, ociLayout(t)[:2]...), "oci-archive:", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := connect(t, tt.ref+write(t, tt.data)+map[bool]string{true: ":one"}[tt.class == nil])
			if tt.class == nil {
				if err != nil {
					t.Fatal(err)
				}
				_, _, err = o.Resolve(t.Context())
				tt.class, tt.want = containerizer.ErrNotFound, "has no"
			}
			if !errors.Is(err, tt.class) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q of class %q", err, tt.want, tt.class)
			}
		})
	}
	if _, err := connect(t, "oci-archive:/nonexistent/x.tar"); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("missing file: %v", err)
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

// FuzzContents reads anything as an archive.
func FuzzContents(f *testing.F) {
	f.Add([]byte("garbage"))
	f.Add(bytes.Repeat([]byte{0}, 1024))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"oci-layout", "index.json", "manifest.json"} {
		_ = w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 2, Mode: 0o600})
		_, _ = w.Write([]byte("{}"))
	}
	_ = w.Close()
	f.Add(b.Bytes())
	dir := f.TempDir()
	path := filepath.Join(dir, "a")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		images, err := archive.Contents(t.Context(), path, dir)
		if err != nil {
			return
		}
		for _, i := range images {
			r, err := reference.Parse(i.Reference)
			if err != nil {
				continue // an archive may say anything of a digest
			}
			if o, err := archive.Connect(t.Context(), r, dir); err == nil {
				_, _, _ = o.Resolve(t.Context())
				_ = o.Close()
			}
		}
	})
}
