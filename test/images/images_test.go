package images_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher"
	client "github.com/berth-dev/berth/fetcher/registry"
	"github.com/berth-dev/berth/fetcher/registry/credential"
	"github.com/berth-dev/berth/provisioner"
	"github.com/berth-dev/berth/provisioner/unpack/apply"
)

const childArg = "unpack-child"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childArg {
		os.Exit(apply.ChildMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func store(tb testing.TB) *provisioner.Provisioner {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("needs root: layers keep their owners")
	}
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	p, err := provisioner.New(filepath.Join(tb.TempDir(), "store"), fetcher.New(fetcher.Options{Registry: client.Options{Credentials: credential.Files{}, Dirs: []string{tb.TempDir()}}}), provisioner.Options{
		UnpackCommand: []string{"/usr/bin/env", "GORACE=atexit_sleep_ms=0", exe, childArg},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// run runs a tool, which must be there.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_RUNTIME_DIR="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, stderr.String())
	}
	return string(out)
}

func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
}

// umociImage makes a layout with an image of two layers, the second with a whiteout.
func umociImage(t *testing.T) string {
	t.Helper()
	need(t, "umoci", "skopeo")
	dir := t.TempDir()
	layout, bundle := filepath.Join(dir, "layout"), filepath.Join(dir, "bundle")
	run(t, "umoci", "init", "--layout", layout)
	run(t, "umoci", "new", "--image", layout+":app")
	step := func(change func(root string)) {
		run(t, "umoci", "unpack", "--image", layout+":app", bundle)
		change(filepath.Join(bundle, "rootfs"))
		run(t, "umoci", "repack", "--image", layout+":app", bundle)
		if err := os.RemoveAll(bundle); err != nil {
			t.Fatal(err)
		}
	}
	write := func(root, name, content string, mode os.FileMode) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a container's
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	step(func(root string) {
		write(root, "etc/hostname", "first\n", 0o644)
		write(root, "etc/gone", "x", 0o600)
		write(root, "usr/bin/tool", "#!/bin/sh\n", 0o755)
		if err := os.Symlink("usr/bin", filepath.Join(root, "bin")); err != nil {
			t.Fatal(err)
		}
	})
	step(func(root string) {
		write(root, "etc/hostname", "second\n", 0o644)
		if err := os.Remove(filepath.Join(root, "etc/gone")); err != nil {
			t.Fatal(err)
		}
	})
	run(t, "umoci", "config", "--image", layout+":app", "--config.cmd", "/bin/tool", "--config.env", "A=b")
	return layout
}

func want() []string {
	return []string{".", "bin -> usr/bin", "etc", "etc/hostname second\n", "usr", "usr/bin", "usr/bin/tool #!/bin/sh\n"}
}

// list provisions an image and lists what its overlay shows.
func list(t *testing.T, p *provisioner.Provisioner, ref string) ([]string, *containerizer.Provisioned) {
	t.Helper()
	id := containerizer.NewContainerID()
	got, err := p.Provision(t.Context(), id, containerizer.ImageSource{Reference: ref})
	if err != nil {
		t.Fatalf("provision %q: %v", ref, err)
	}
	mnt := t.TempDir()
	args := []string{"-t", "overlay", "overlay", "-o", "lowerdir=" + strings.Join(got.Rootfs.Lower, ":"), mnt}
	if len(got.Rootfs.Lower) == 1 {
		args = []string{"--bind", got.Rootfs.Lower[0], mnt}
	}
	// In a mount namespace of its own: nothing is left whatever happens.
	script := `mount "$@" && for m; do :; done && cd "$m" && find . -printf '%P|%y|%l\n' && echo == && find . -type f -exec sh -c 'for f; do printf "%s|" "${f#./}"; cat "$f"; printf "\001"; done' sh {} +`
	out := run(t, "unshare", append([]string{"-m", "--propagation", "private", "sh", "-ec", script, "sh"}, args...)...)
	if err := p.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	return parse(out), got
}

// parse reads what the script printed.
func parse(out string) []string {
	names, files, _ := strings.Cut(out, "==\n")
	content := map[string]string{}
	for f := range strings.SplitSeq(files, "\x01") {
		name, text, _ := strings.Cut(f, "|")
		content[name] = text
	}
	var lines []string
	for l := range strings.SplitSeq(strings.TrimSpace(names), "\n") {
		part := append(strings.Split(l, "|"), "", "")
		line := part[0]
		switch part[1] {
		case "l":
			line += " -> " + part[2]
		case "f":
			line += " " + content[part[0]]
		}
		if line == "" {
			line = "."
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

func TestTransports(t *testing.T) {
	layout := umociImage(t)
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	dir := t.TempDir()
	copies := map[string]string{
		"registry":       "docker://" + host + "/org/app:1",
		"oci-archive":    "oci-archive:" + filepath.Join(dir, "o.tar") + ":app",
		"docker-archive": "docker-archive:" + filepath.Join(dir, "d.tar") + ":org/app:1",
	}
	for _, to := range copies {
		run(t, "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "oci:"+layout+":app", to)
	}
	copies["oci"] = "oci:" + layout + ":app"
	run(t, "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--dest-compress-format=zstd", "--format=oci", "oci:"+layout+":app", "dir:"+filepath.Join(dir, "z"))
	run(t, "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--dest-compress-format=zstd", "oci:"+layout+":app", "oci:"+filepath.Join(dir, "zstd")+":app")
	copies["zstd"] = "oci:" + filepath.Join(dir, "zstd") + ":app"
	p := store(t)
	for name, ref := range copies {
		t.Run(name, func(t *testing.T) {
			files, got := list(t, p, ref)
			if diff := cmp.Diff(want(), files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if !cmp.Equal(got.Config.Cmd, []string{"/bin/tool"}) || !slices.Contains(got.Config.Env, "A=b") {
				t.Errorf("configuration %+v", got.Config)
			}
		})
	}
	usage, err := p.Usage(t.Context())
	if err != nil || usage.Layers != 2 {
		t.Errorf("%+v, %v: want the two layers once, whatever form they came in", usage, err)
	}
	if report, err := p.Check(t.Context(), false); err != nil || len(report.Found) != 0 {
		t.Errorf("check: %+v, %v", report, err)
	}
}

func TestSaveAndLoad(t *testing.T) {
	layout := umociImage(t)
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	ref := strings.TrimPrefix(srv.URL, "http://") + "/org/app:1"
	run(t, "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "oci:"+layout+":app", "docker://"+ref)
	p := store(t)
	pulled, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: ref}, containerizer.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for format, scheme := range map[containerizer.ArchiveFormat]string{containerizer.ArchiveOCI: "oci-archive:", containerizer.ArchiveDocker: "docker-archive:"} {
		t.Run(string(format), func(t *testing.T) {
			var b bytes.Buffer
			if err := p.Save(t.Context(), &b, format, []string{ref}); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "a.tar")
			if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			// Another tool reads it, with the same configuration.
			var inspected struct{ Config struct{ Cmd []string } }
			out := run(t, "skopeo", "--insecure-policy", "inspect", "--config", scheme+path)
			if err := json.Unmarshal([]byte(out), &inspected); err != nil || !cmp.Equal(inspected.Config.Cmd, []string{"/bin/tool"}) {
				t.Errorf("skopeo says %s, %v", out, err)
			}
			for name, data := range map[string][]byte{"plain": b.Bytes(), "gzip": gzipped(t, b.Bytes())} {
				other := store(t)
				images, err := other.Load(t.Context(), bytes.NewReader(data), containerizer.PullOptions{})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if len(images) != 1 || images[0].Manifest != pulled.Manifest || !cmp.Equal(images[0].References, []string{ref}) {
					t.Errorf("%s: loaded %+v, want %s", name, images, pulled.Manifest)
				}
				// What it is called here already is not what was loaded.
				if err := other.Tag(t.Context(), ref, "localhost/a:1"); err != nil {
					t.Fatal(err)
				}
				if images, err = other.Load(t.Context(), bytes.NewReader(data), containerizer.PullOptions{}); err != nil || !cmp.Equal(images[0].References, []string{ref}) {
					t.Errorf("%s: loaded again %+v, %v", name, images, err)
				}
				if err := other.Sweep(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if _, err := p.Load(t.Context(), strings.NewReader("garbage"), containerizer.PullOptions{}); err == nil {
		t.Error("garbage was loaded")
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

func TestBuildah(t *testing.T) {
	need(t, "buildah")
	dir := t.TempDir()
	content := filepath.Join(dir, "file")
	if err := os.WriteFile(content, []byte("from buildah\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	storage := []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}
	buildah := func(args ...string) string {
		return strings.TrimSpace(run(t, "buildah", append(slices.Clone(storage), args...)...))
	}
	c := buildah("from", "scratch")
	buildah("copy", c, content, "/etc/file")
	buildah("config", "--cmd", "/etc/file", c)
	for format, ref := range map[string]string{"oci": "oci:" + dir + "/oci:x", "docker": "docker-archive:" + dir + "/docker.tar:localhost/x:1"} {
		buildah("commit", "--format", format, c, ref)
		files, got := list(t, store(t), ref)
		if diff := cmp.Diff([]string{".", "etc", "etc/file from buildah\n"}, files); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", format, diff)
		}
		if !cmp.Equal(got.Config.Cmd, []string{"/etc/file"}) {
			t.Errorf("%s: configuration %+v", format, got.Config)
		}
	}
}
