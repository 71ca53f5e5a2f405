package images_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/test/fixtures"
)

// realRegistry runs Debian's docker-registry on loopback until the test ends.
func realRegistry(t *testing.T) string {
	t.Helper()
	need(t, "docker-registry")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: %q}\n", dir, host)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "docker-registry", "serve", conf)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	var seen strings.Builder
	for !strings.Contains(seen.String(), "listening on") && lines.Scan() {
		seen.WriteString(lines.Text() + "\n")
	}
	if !strings.Contains(seen.String(), "listening on") {
		t.Fatalf("docker-registry does not listen: %s", seen.String())
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, log) // its end is that of the registry
	}()
	t.Cleanup(func() { // the test's context has ended it
		<-drained
		_ = cmd.Wait()
	})
	return host
}

// platformImage is an image for one architecture.
func platformImage(t *testing.T, arch string) v1.Image {
	t.Helper()
	shared, err := fixtures.Layer(fixtures.Dir("etc"), fixtures.Text("etc/shared", "for all\n"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := fixtures.Layer(fixtures.Text("arch", arch+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	image, err := fixtures.Image(v1.Config{Cmd: []string{"/bin/" + arch}}, shared, own)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Architecture = arch
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

// twoPlatforms puts an index of two images into a registry.
func twoPlatforms(t *testing.T, ref string) digest.Digest {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{runtime.GOARCH, "s390x"} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: platformImage(t, arch), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	r, err := name.ParseReference(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(r, index); err != nil {
		t.Fatal(err)
	}
	d, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.Digest(d.String())
}

func TestCopyKeepsAllPlatforms(t *testing.T) {
	host := realRegistry(t)
	dir := t.TempDir()
	p := store(t)
	want := twoPlatforms(t, host+"/org/app:1")
	from := host + "/org/app:1"
	for _, to := range []string{"oci:" + dir + "/layout:one", "oci-archive:" + dir + "/a.tar:x/y:2", host + "/org/again:2", "oci:" + dir + "/layout:two", "oci:" + dir + "/layout:one"} {
		got, err := p.Copy(t.Context(), from, to, containerizer.CopyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("copy from %q to %q gave %s, want %s", from, to, got, want)
		}
		from = to
	}
	for _, arch := range []string{runtime.GOARCH, "s390x"} {
		_, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: from, Platform: "linux/" + arch}, containerizer.PullOptions{})
		if err != nil {
			t.Errorf("pull what was copied for %s: %v", arch, err)
		}
	}
	// Both names of the layout are there, and others read it.
	var index struct {
		Manifests []struct{ Annotations map[string]string }
	}
	raw, err := os.ReadFile(dir + "/layout/index.json")
	if err != nil || json.Unmarshal(raw, &index) != nil || len(index.Manifests) != 2 {
		t.Errorf("index.json is %s, %v", raw, err)
	}
	need(t, "skopeo")
	run(t, "skopeo", "--insecure-policy", "copy", "--all", "oci:"+dir+"/layout:two", "dir:"+dir+"/theirs")

	// One platform of the two.
	got, err := p.Copy(t.Context(), host+"/org/app:1", "docker-archive:"+dir+"/d.tar:org/app:3", containerizer.CopyOptions{})
	if err != nil || got == want {
		t.Errorf("copy to a docker-archive: %s, %v", got, err)
	}
	var config struct{ Config struct{ Cmd []string } }
	out := run(t, "skopeo", "--insecure-policy", "inspect", "--config", "docker-archive:"+dir+"/d.tar:docker.io/org/app:3")
	if err := json.Unmarshal([]byte(out), &config); err != nil || !cmp.Equal(config.Config.Cmd, []string{"/bin/" + runtime.GOARCH}) {
		t.Errorf("skopeo says %s, %v", out, err)
	}
	if _, err := p.Copy(t.Context(), host+"/org/app:1", host+"/org/z:1", containerizer.CopyOptions{Platform: "linux/s390x"}); err != nil {
		t.Error(err)
	}
	z, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: host + "/org/z:1", Platform: "linux/s390x"}, containerizer.PullOptions{})
	if err != nil || z.Index != "" {
		t.Errorf("one platform copied: %+v, %v", z, err)
	}
}

func TestPush(t *testing.T) {
	host := realRegistry(t)
	p := store(t)
	from := host + "/org/app:1"
	want := twoPlatforms(t, from)
	image, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: from}, containerizer.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var phases []containerizer.Phase
	o := containerizer.CopyOptions{Progress: func(g containerizer.Progress) { phases = append(phases, g.Phase) }}
	// The other platform is not here: this one goes alone.
	if got, err := p.Push(t.Context(), from, host+"/org/one:1", o); err != nil || got != image.Manifest {
		t.Errorf("push of one platform: %s, %v, want %s", got, err, image.Manifest)
	}
	if !slices.Contains(phases, containerizer.PhaseUploading) || slices.Contains(phases, containerizer.PhaseExists) {
		t.Errorf("phases %q", phases)
	}
	phases = nil
	if _, err := p.Push(t.Context(), from, host+"/org/one:again", o); err != nil {
		t.Error(err)
	}
	if slices.Contains(phases, containerizer.PhaseUploading) {
		t.Errorf("what was there was sent again: %q", phases)
	}
	if _, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: from, Platform: "linux/s390x", Pull: containerizer.PullAlways}, containerizer.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Push(t.Context(), from, host+"/org/both:1", containerizer.CopyOptions{}); err != nil || got != want {
		t.Errorf("push of all platforms: %s, %v, want %s", got, err, want)
	}
	if err := p.Tag(t.Context(), from, host+"/org/tagged:1"); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Push(t.Context(), host+"/org/tagged:1", "", containerizer.CopyOptions{}); err != nil || got != want {
		t.Errorf("push to its own name: %s, %v", got, err)
	}
	for what, c := range map[string]struct {
		image, target string
		class         error
	}{
		"unknown image":     {"nosuch", "", containerizer.ErrNotFound},
		"image by id":       {image.Config.Encoded()[:12], "", containerizer.ErrInvalid},
		"another digest":    {from, host + "/org/app@sha256:" + strings.Repeat("0", 64), containerizer.ErrInvalid},
		"nobody answers":    {from, "127.0.0.1:1/org/app:1", containerizer.ErrUnavailable},
		"directory missing": {from, "oci-archive:/nonexistent/a.tar", nil},
	} {
		if _, err := p.Push(t.Context(), c.image, c.target, containerizer.CopyOptions{}); err == nil || c.class != nil && !errors.Is(err, c.class) {
			t.Errorf("%s: error %v, want %v", what, err, c.class)
		}
	}
}

// TestCopyOfWrongBytes has a source whose blob is not what its digest says.
func TestCopyOfWrongBytes(t *testing.T) {
	host := realRegistry(t)
	dir := t.TempDir()
	p := store(t)
	twoPlatforms(t, host+"/org/app:1")
	source := "oci:" + dir + "/layout:x"
	if _, err := p.Copy(t.Context(), host+"/org/app:1", source, containerizer.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	spoiled := ""
	blobs, err := filepath.Glob(dir + "/layout/blobs/sha256/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range blobs {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
			b[len(b)/2] ^= 1
			spoiled = path
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	for _, to := range []string{"oci:" + dir + "/other:x", "oci-archive:" + dir + "/o.tar", "docker-archive:" + dir + "/d.tar", host + "/org/spoiled:1"} {
		if _, err := p.Copy(t.Context(), source, to, containerizer.CopyOptions{Platform: platformOf(t, p, source, spoiled)}); !errors.Is(err, containerizer.ErrDataCorrupt) {
			t.Errorf("to %q: error %v", to, err)
		}
		if _, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: to}, containerizer.PullOptions{}); err == nil {
			t.Errorf("%q can be pulled", to)
		}
	}
	left, err := filepath.Glob(dir + "/.berth-*")
	if err != nil || len(left) != 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
}

// platformOf finds the platform whose image has the blob.
func platformOf(t *testing.T, p containerizer.ImageMover, source, blob string) string {
	t.Helper()
	for _, arch := range []string{runtime.GOARCH, "s390x"} {
		if _, err := p.Copy(t.Context(), source, "oci:"+t.TempDir()+"/l", containerizer.CopyOptions{Platform: "linux/" + arch}); err != nil {
			return "linux/" + arch
		}
	}
	t.Fatalf("no platform has %q", blob)
	return ""
}

func TestImport(t *testing.T) {
	host := realRegistry(t)
	p := store(t)
	files := []fixtures.File{fixtures.Dir("etc"), fixtures.Text("etc/motd", "hello\n"), fixtures.Symlink("link", "etc/motd")}
	plain, err := fixtures.Tar(files...)
	if err != nil {
		t.Fatal(err)
	}
	for form, data := range map[string][]byte{"plain": plain, "gzip": gzipped(t, plain), "with something behind": append(slices.Clone(plain), make([]byte, 20<<10)...)} {
		ref := host + "/org/" + strings.ReplaceAll(form, " ", "-") + ":1"
		image, err := p.Import(t.Context(), bytes.NewReader(data), containerizer.ImportOptions{
			Reference: ref, Changes: []string{`CMD ["/bin/sh", "-l"]`, "ENV A=b C=\"d e\"", "WORKDIR /etc", "EXPOSE 80"}, Message: "from a test",
		})
		if err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		c := image.Configuration
		if !cmp.Equal(c.Config.Cmd, []string{"/bin/sh", "-l"}) || !cmp.Equal(c.Config.Env, []string{"A=b", "C=d e"}) || c.Config.WorkingDir != "/etc" || c.History[0].Comment != "from a test" {
			t.Errorf("%s: configuration %+v", form, c)
		}
		got, _ := list(t, p, ref)
		if diff := cmp.Diff([]string{".", "etc", "etc/motd hello\n", "link -> etc/motd"}, got); diff != "" {
			t.Errorf("%s: files (-want +got):\n%s", form, diff)
		}
		// It is an image like others: it can be sent, and read by others.
		if d, err := p.Push(t.Context(), ref, "", containerizer.CopyOptions{}); err != nil || d != image.Manifest {
			t.Errorf("%s: push: %s, %v", form, d, err)
		}
		if _, err := store(t).Pull(t.Context(), containerizer.ImageSource{Reference: ref}, containerizer.PullOptions{}); err != nil {
			t.Errorf("%s: pull: %v", form, err)
		}
		need(t, "skopeo")
		run(t, "skopeo", "--insecure-policy", "inspect", "--tls-verify=false", "docker://"+ref)
	}
	if report, err := p.Check(t.Context(), false); err != nil || len(report.Found) != 0 {
		t.Errorf("check: %+v, %v", report, err)
	}
	before, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		data  []byte
		o     containerizer.ImportOptions
		class error
	}{
		"no tar":          {[]byte("garbage"), containerizer.ImportOptions{}, containerizer.ErrDataCorrupt},
		"cut off":         {gzipped(t, plain)[:100], containerizer.ImportOptions{}, containerizer.ErrDataCorrupt},
		"out of the root": {escaping(t), containerizer.ImportOptions{}, containerizer.ErrInvalid},
		"unknown change":  {plain, containerizer.ImportOptions{Changes: []string{"RUN rm -rf /"}}, containerizer.ErrInvalid},
		"digest as name":  {plain, containerizer.ImportOptions{Reference: "a@sha256:" + strings.Repeat("0", 64)}, containerizer.ErrInvalid},
	} {
		if _, err := p.Import(t.Context(), bytes.NewReader(c.data), c.o); !errors.Is(err, c.class) {
			t.Errorf("%s: error %v, want %v", what, err, c.class)
		}
	}
	if after, err := p.List(t.Context()); err != nil || len(after) != len(before) {
		t.Errorf("%d images after failures, %d before, %v", len(after), len(before), err)
	}
}

// escaping is an archive with an entry above its root.
func escaping(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "../x", Mode: 0o644}), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
