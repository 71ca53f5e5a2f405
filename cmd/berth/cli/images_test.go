package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
)

// images is a store in memory. The registry it pulls from has one image,
// "remote".
type images struct {
	mu   sync.Mutex
	list []containerizer.Image
	// pruned is what the last prune was asked for.
	pruned containerizer.PruneOptions
}

var _ containerizer.Images = (*images)(nil)

func newImages() *images {
	i := &images{}
	i.add("docker.io/library/test:latest", "80/tcp")
	return i
}

func canonical(ref string) string {
	if !strings.Contains(ref, "/") {
		ref = "docker.io/library/" + ref
	}
	if !strings.Contains(ref[strings.LastIndex(ref, "/"):], ":") {
		ref += ":latest"
	}
	return ref
}

func (i *images) add(ref string, ports ...string) *containerizer.Image {
	config := &v1.Image{Platform: v1.Platform{OS: "linux", Architecture: "amd64"}}
	config.Config.Cmd = []string{"/bin/true"}
	config.Config.ExposedPorts = map[string]struct{}{}
	for _, p := range ports {
		config.Config.ExposedPorts[p] = struct{}{}
	}
	i.list = append(i.list, containerizer.Image{
		References: []string{ref}, Manifest: digest.FromString("manifest " + ref), Config: digest.FromString("config " + ref),
		Platform: config.Platform, Created: time.Date(2026, 1, 1+len(i.list), 0, 0, 0, 0, time.UTC), SizeBytes: 2_500_000, SharedBytes: 500_000,
		Configuration: config, Labels: map[string]string{"of": ref},
	})
	return &i.list[len(i.list)-1]
}

func (i *images) find(name string) int {
	return slices.IndexFunc(i.list, func(m containerizer.Image) bool {
		return slices.Contains(m.References, canonical(name)) || m.Config.String() == name ||
			len(name) >= 6 && strings.HasPrefix(m.Config.Encoded(), name)
	})
}

func (i *images) Pull(_ context.Context, s containerizer.ImageSource, o containerizer.PullOptions) (*containerizer.Image, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n := i.find(s.Reference); n >= 0 {
		return &i.list[n], nil
	}
	if s.Reference == "private" && s.Auth != nil && s.Auth.Username == "user" && s.Auth.Password == "right" {
		return i.add(canonical(s.Reference)), nil
	}
	if s.Reference != "remote" {
		return nil, fmt.Errorf("image %q: %w", s.Reference, containerizer.ErrNotFound)
	}
	if o.Progress != nil {
		o.Progress(containerizer.Progress{Layer: digest.FromString("layer"), Phase: "complete", Done: 1000, Total: 1000})
	}
	return i.add(canonical(s.Reference)), nil
}

func (i *images) List(context.Context) ([]containerizer.Image, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.list), nil
}

func (i *images) Inspect(_ context.Context, name string) (*containerizer.Image, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n := i.find(name); n >= 0 {
		return &i.list[n], nil
	}
	return nil, fmt.Errorf("image %q: %w", name, containerizer.ErrNotFound)
}

func (i *images) Tag(_ context.Context, name, ref string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := i.find(name)
	if n < 0 {
		return fmt.Errorf("image %q: %w", name, containerizer.ErrNotFound)
	}
	i.list[n].References = append(i.list[n].References, canonical(ref))
	return nil
}

func (i *images) Remove(_ context.Context, name string, _ bool) (*containerizer.PruneReport, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := i.find(name)
	if n < 0 {
		return nil, fmt.Errorf("image %q: %w", name, containerizer.ErrNotFound)
	}
	id := i.list[n].Config.String()
	i.list = slices.Delete(i.list, n, n+1)
	return &containerizer.PruneReport{Images: []string{canonical(name), id}}, nil
}

func (i *images) Load(_ context.Context, r io.Reader, _ containerizer.PullOptions) ([]containerizer.Image, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return []containerizer.Image{*i.add(canonical(strings.TrimSpace(string(data))))}, nil
}

func (i *images) Save(_ context.Context, w io.Writer, f containerizer.ArchiveFormat, refs []string) error {
	for _, ref := range refs {
		if i.find(ref) < 0 {
			return fmt.Errorf("image %q: %w", ref, containerizer.ErrNotFound)
		}
	}
	_, err := fmt.Fprintf(w, "%s of %s", f, strings.Join(refs, " "))
	return err
}

func (i *images) Usage(context.Context) (*containerizer.StoreUsage, error) {
	return &containerizer.StoreUsage{Images: len(i.list), LayerBytes: 3_000_000, BlobBytes: 1_000_000, WritableBytes: 2000, ReclaimableBytes: 1_000_000}, nil
}

func (i *images) Pin(_ context.Context, name string, pinned bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := i.find(name)
	if n < 0 {
		return fmt.Errorf("image %q: %w", name, containerizer.ErrNotFound)
	}
	i.list[n].Pinned = pinned
	return nil
}

func (i *images) Prune(_ context.Context, o containerizer.PruneOptions) (*containerizer.PruneReport, error) {
	i.pruned = o
	if !o.All {
		return &containerizer.PruneReport{}, nil
	}
	return &containerizer.PruneReport{Images: []string{"sha256:" + strings.Repeat("1", 64)}, ReclaimedBytes: 4096}, nil
}

func (i *images) Check(context.Context, bool) (*containerizer.StoreCheck, error) {
	return &containerizer.StoreCheck{}, nil
}

// The methods of containerizer.ImageMover say what they were called with.

func (i *images) Push(_ context.Context, name, target string, o containerizer.CopyOptions) (digest.Digest, error) {
	return i.moved("push", name, target, o)
}

func (i *images) Copy(_ context.Context, source, target string, o containerizer.CopyOptions) (digest.Digest, error) {
	return i.moved("copy", source, target, o)
}

func (i *images) moved(what, from, to string, o containerizer.CopyOptions) (digest.Digest, error) {
	if from == "nosuch" {
		return "", fmt.Errorf("image %q: %w", from, containerizer.ErrNotFound)
	}
	o.Progress(containerizer.Progress{Layer: digest.FromString("layer"), Phase: containerizer.PhaseUploading, Done: 500, Total: 1000, Rate: 100})
	o.Progress(containerizer.Progress{Layer: digest.FromString("layer"), Phase: containerizer.PhaseComplete, Done: 1000, Total: 1000})
	return digest.FromString(fmt.Sprintf("%s %s %s %s", what, from, to, o.Platform)), nil
}

func (i *images) Import(_ context.Context, r io.Reader, o containerizer.ImportOptions) (*containerizer.Image, error) {
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return &containerizer.Image{Config: digest.FromString(fmt.Sprintf("%s %s %q %s %s", content, o.Reference, o.Changes, o.Message, o.Platform))}, nil
}

func TestMoveCommands(t *testing.T) {
	n := newNode(t)
	for args, want := range map[string]string{
		"push mine": "push mine  ", "push mine registry.example/x:1": "push mine registry.example/x:1 ",
		"push --platform linux/arm64 mine oci:/x": "push mine oci:/x linux/arm64", "copy a oci-archive:/b": "copy a oci-archive:/b ",
		"image copy --platform linux/arm64 a b": "copy a b linux/arm64",
	} {
		if got := n.must(strings.Fields(args)...); got != digest.FromString(want).String() {
			t.Errorf("%s: %s, want that of %q", args, got, want)
		}
	}
	for args, want := range map[string]string{
		"copy a b":                  "82b10a3ef6d2: uploading 1kB\n82b10a3ef6d2: complete 1kB\n",
		"copy --progress plain a b": "82b10a3ef6d2: uploading 1kB\n82b10a3ef6d2: complete 1kB\n",
		"copy -q a b":               "",
		"copy --progress quiet a b": "",
	} {
		if r := n.run(strings.Fields(args)...); r.code != 0 || strings.ReplaceAll(r.err, digest.FromString("layer").Encoded()[:12], "82b10a3ef6d2") != want {
			t.Errorf("%s: %+v", args, r)
		}
	}
	r := n.run("copy", "--progress", "json", "a", "b")
	for line := range strings.Lines(r.err) {
		var v struct{ Status string }
		if err := json.Unmarshal([]byte(line), &v); err != nil || v.Status == "" {
			t.Errorf("progress in JSON: %q, %v", line, err)
		}
	}
	if strings.Count(r.err, "\n") != 2 {
		t.Errorf("progress in JSON: %q", r.err)
	}
	n.fails(125, `image "nosuch": not found`, "push", "nosuch")
	n.fails(125, "berth copy needs a source and a destination", "copy", "a")
	n.fails(125, `--progress "loud": [auto tty plain json quiet] exist`, "pull", "--progress", "loud", "remote")

	file := n.dir + "/rootfs.tar"
	if err := os.WriteFile(file, []byte("files"), 0o600); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.StripPrefix("/", http.FileServer(http.Dir(n.dir))))
	defer srv.Close()
	for _, from := range []string{file, srv.URL + "/rootfs.tar"} {
		got := n.must("import", "-c", "CMD a", "--change", "ENV b=c", "-m", "why", "--platform", "linux/arm64", from, "app:1")
		if want := digest.FromString(`files app:1 ["CMD a" "ENV b=c"] why linux/arm64`).String(); got != want {
			t.Errorf("import from %q: %s, want %s", from, got, want)
		}
	}
	n.fails(125, fmt.Sprintf("get %q: 404 Not Found", srv.URL+"/nosuch.tar"), "import", srv.URL+"/nosuch.tar")
	n.fails(125, "open "+n.dir+"/nosuch.tar: no such file or directory", "import", n.dir+"/nosuch.tar")
	n.fails(125, "berth import needs an archive, and may have a name for the image", "import")
}

func TestImages(t *testing.T) {
	n := newNode(t)
	n.images.add("registry.example:5000/team/app:v1")
	want := "REPOSITORY                       TAG      IMAGE ID       SIZE\n" +
		"registry.example:5000/team/app   v1       " + n.images.list[1].Config.Encoded()[:12] + "   2.5MB\n" +
		"test                             latest   " + n.images.list[0].Config.Encoded()[:12] + "   2.5MB"
	got := n.must("images", "--format", `table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Size}}`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	for args, want := range map[string]string{
		"images test --format {{.Tag}}":                                                     "latest",
		"images */team/* --format {{.Tag}}":                                                 "v1",
		"images -q --filter reference=test --no-trunc":                                      n.images.list[0].Config.String(),
		"images --filter label=of=docker.io/library/test:latest --format {{.Repository}}":   "test",
		"images --filter label=nosuch -q":                                                   "",
		"images --filter dangling=true -q":                                                  "",
		"images --filter before=registry.example:5000/team/app:v1 --format {{.Repository}}": "test",
		"image ls test --format {{.UniqueSize}}":                                            "2MB",
	} {
		if got := n.must(strings.Fields(args)...); got != want {
			t.Errorf("berth %s: %q, want %q", args, got, want)
		}
	}
	n.fails(125, `--filter "foo=1": no key "foo"`, "images", "--filter", "foo=1")
	n.fails(125, `--format: no field "Foo" (there are CreatedAt`, "images", "--format", "{{.Foo}}")
}

func TestImageCommands(t *testing.T) {
	n := newNode(t)
	r := n.run("pull", "remote")
	if want := digest.FromString("config docker.io/library/remote:latest").String() + "\n"; r.code != 0 || r.out != want || !strings.Contains(r.err, ": complete 1kB") {
		t.Errorf("pull: %+v", r)
	}
	if r := n.run("pull", "-q", "remote"); r.err != "" {
		t.Errorf("pull -q: %+v", r)
	}
	n.must("tag", "remote", "mine:v2")
	if got := n.must("save", "mine:v2"); got != "docker-archive of mine:v2" {
		t.Errorf("save: %q", got)
	}
	file := n.dir + "/image.tar"
	n.must("save", "-o", file, "--format", "oci-archive", "mine:v2")
	if got := n.must("load", "-i", file); got != "Loaded image: docker.io/library/oci-archive of mine:v2" && !strings.HasPrefix(got, "Loaded image") {
		t.Errorf("load: %q", got)
	}
	n.fails(125, `image "nosuch": not found`, "save", "-o", file, "nosuch")
	if got := n.must("save", "mine:v2"); got == "" {
		t.Error("a failed save took the old file with it")
	}
	var v []struct {
		ID       string `json:"Id"`
		RepoTags []string
	}
	if err := json.Unmarshal([]byte(n.must("inspect", "mine:v2")), &v); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"remote:latest", "mine:v2"}, v[0].RepoTags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if got := n.must("rmi", "mine:v2"); !strings.Contains(got, "Deleted: sha256:") {
		t.Errorf("rmi: %q", got)
	}
	n.fails(125, `image "mine:v2": not found`, "rmi", "mine:v2")
	n.fails(125, `--format "zip": docker-archive and oci-archive exist`, "save", "--format", "zip", "test")
	n.fails(125, `image "nosuch": not found`, "pull", "nosuch")
}

func TestPinAndPrune(t *testing.T) {
	n := newNode(t)
	n.must("image", "pin", "test")
	if !n.images.list[0].Pinned || !strings.Contains(n.must("inspect", "--type", "image", "test"), `"Pinned": true`) {
		t.Error("the image is not pinned")
	}
	n.must("image", "unpin", "test")
	if n.images.list[0].Pinned {
		t.Error("the image is still pinned")
	}
	n.fails(125, `image "nosuch": not found`, "image", "pin", "nosuch")
	n.must("image", "prune", "-af", "--filter", "until=24h", "--filter", "label=a=b", "--filter", "label!=c")
	want := containerizer.PruneOptions{All: true, OlderThan: 24 * time.Hour, Labels: []string{"a=b"}, WithoutLabels: []string{"c"}}
	if diff := cmp.Diff(want, n.images.pruned); diff != "" {
		t.Errorf("prune was asked for (-want +got):\n%s", diff)
	}
	if got := n.must("system", "df", "-v"); !strings.Contains(got, "UNIQUE SIZE") || !strings.Contains(got, "counted once: 2MB") {
		t.Errorf("df -v: %q", got)
	}
}
