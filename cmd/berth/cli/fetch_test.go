package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestFetch(t *testing.T) {
	n := newNode(t)
	source := filepath.Join(n.dir, "source.txt")
	if err := os.WriteFile(source, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(n.dir, "out")
	sum := digest.FromString("content")
	const format = "{{.URI}} {{.Path}} {{.Entries}} {{.Bytes}} {{.Cached}} {{.SHA256}}"
	want := source + " a/b 0 7 false " + sum.Encoded()
	if got := n.must("fetch", "-o", out, "--name", "a/b", "--sha256", strings.ToUpper(sum.Encoded()), "--format", format, source); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(out, "a/b")); string(b) != "content" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	n.must("fetch", "-q", "-o", out, "--cache", "--executable", source+"#sha512="+digest.SHA512.FromString("content").Encoded())
	if info, err := os.Stat(filepath.Join(out, "source.txt")); err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	if got := n.must("system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}"); !strings.Contains(got, "Artifacts 1 0 7B") {
		t.Errorf("df shows %q", got)
	}
	if got := n.must("system", "prune", "-f", "--artifacts"); !strings.Contains(got, "7B") {
		t.Errorf("prune says %q", got)
	}
	n.fails(125, "berth fetch needs at least one URI", "fetch")
	n.fails(125, "--name, --sha256 and --sha512 go with one URI", "fetch", "--name", "x", "a", "b")
	n.fails(125, "--sha256 and --sha512: use one", "fetch", "--sha256", "1", "--sha512", "2", source)
	n.fails(125, "--executable files are not extracted", "fetch", "--executable", "--keep-archive", source)
	n.fails(125, `artifact "`+source+`": checksum`, "fetch", "--sha256", "12", source)
	n.fails(125, `artifact "gopher://h/x": the scheme "gopher" is not supported`, "fetch", "gopher://h/x")
}

func TestRunWithArtifact(t *testing.T) {
	n := newNode(t)
	source := filepath.Join(n.dir, "source")
	if err := os.WriteFile(source, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.must("run", "-d", "--name", "with", "--artifact", source+",output=x", "test", "/bin/sleep", "1000")
	found, err := filepath.Glob(filepath.Join(n.dir, "root/sandboxes/*/files/x"))
	if len(found) != 1 || err != nil {
		t.Errorf("the artifact is at %q, %v", found, err)
	}
	n.must("rm", "-f", "with")
	if left, err := filepath.Glob(filepath.Join(n.dir, "root/sandboxes/*")); len(left) > 0 || err != nil {
		t.Errorf("left is %q, %v", left, err)
	}
	n.fails(125, "--sandbox says where artifacts are", "run", "--sandbox", "/x", "test", "true")
	n.fails(125, `--artifact "a,cache=maybe": cache is true or false`, "run", "--artifact", "a,cache=maybe", "test", "true")
	n.fails(125, `--artifact "a,nosuch=1": there is no option "nosuch"`, "run", "--artifact", "a,nosuch=1", "test", "true")
	n.fails(125, `--artifact "": it has no URI`, "run", "--artifact", "", "test", "true")
}
