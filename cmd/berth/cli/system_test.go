package cli_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCompletion(t *testing.T) {
	n := newNode(t)
	n.must("run", "-d", "--name", "web", "test", "/bin/sleep", "1000")
	n.must("create", "--name", "worker", "test", "/bin/true")
	n.must("volume", "create", "data")
	for args, want := range map[string]string{
		"__complete stop w":         "web",
		"__complete rm w":           "web worker",
		"__complete start w":        "worker",
		"__complete run te":         "test:latest",
		"__complete volume rm ~":    "data",
		"__complete unp":            "unpause	Let paused containers go on",
		"__complete inspect web wo": "worker",
	} {
		line := words(args)
		if line[len(line)-1] == " " {
			line[len(line)-1] = ""
		}
		lines := strings.Split(n.must(line...), "\n")
		if got := strings.Join(lines[:len(lines)-1], " "); got != want { // the last is for the shell
			t.Errorf("berth %s: %q, want %q", args, got, want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if got := n.must("completion", shell); !strings.Contains(got, "berth") {
			t.Errorf("completion %s: %.60q", shell, got)
		}
	}
}

func TestVersion(t *testing.T) {
	n := newNode(t)
	if got := n.must("version"); !strings.Contains(got, "Version:    1.2.3\nGit commit: abc\n") {
		t.Errorf("version: %q", got)
	}
	if got := n.must("version", "-f", "{{.Version}} {{.Arch}}"); got != "1.2.3 amd64" {
		t.Errorf("version -f: %q", got)
	}
	if got := n.must("--version"); got != "berth version 1.2.3" {
		t.Errorf("--version: %q", got)
	}
}

func TestSystem(t *testing.T) {
	n := newNode(t)
	n.must("run", "--name", "ended", "test", "/bin/true")
	n.must("create", "--name", "new", "-v", "used:/a", "-v", "/anonymous", "test", "/bin/true")
	var info struct {
		Containers, ContainersStopped, Images int
		DockerRootDir                         string
	}
	if err := json.Unmarshal([]byte(n.must("info", "-f", "json")), &info); err != nil {
		t.Fatal(err)
	}
	if info.Containers != 2 || info.ContainersStopped != 2 || info.Images != 1 || info.DockerRootDir != n.dir+"/root" {
		t.Errorf("info: %+v", info)
	}
	got := n.must("system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}")
	if want := "Images 1 1 4MB 1MB (25%)\nContainers 2 1 2kB 0B (0%)\nVolumes 2 2 "; !strings.HasPrefix(got, want) {
		t.Errorf("df: %q, want %q…", got, want)
	}
	if got := n.must("system", "check"); got != "nothing found" {
		t.Errorf("check: %q", got)
	}
	// Nobody answers the question: nothing is removed.
	if r := n.run("system", "prune"); r.code != 0 || !strings.Contains(r.err, "Go on? [y/N]") {
		t.Errorf("prune without an answer: %+v", r)
	}
	if got := n.must("ps", "-aq"); len(strings.Fields(got)) != 2 {
		t.Errorf("containers after a question: %q", got)
	}
	n.fails(125, "--filter until=x is not a duration", "system", "prune", "-f", "--filter", "until=x")
	n.must("volume", "create", "unused")
	got = n.must("system", "prune", "-a", "-f", "--volumes")
	if !strings.Contains(got, "Deleted: sha256:") || !strings.Contains(got, "Total reclaimed space: ") {
		t.Errorf("prune: %q", got)
	}
	if diff := cmp.Diff("unused\nused", n.must("volume", "ls", "-q")); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	n.must("volume", "prune", "-a", "-f")
	if got := n.must("volume", "ls", "-q"); got != "" {
		t.Errorf("volumes after prune: %q", got)
	}
}

func TestReap(t *testing.T) {
	n := newNode(t)
	id := n.must("run", "-d", "--rm", "-v", "/anonymous", "test", "/bin/sleep", "1000")
	n.must("kill", id)
	n.must("system", "reap", id)
	n.must("system", "reap", id) // somebody was faster
	if got := n.must("ps", "-aq") + n.must("volume", "ls", "-q"); got != "" {
		t.Errorf("left: %q", got)
	}
}

func TestGlobalFlagsAnywhere(t *testing.T) {
	n := newNode(t)
	n.must("volume", "create", "v")
	for _, args := range []string{"--root ROOT volume ls -q", "volume --root ROOT ls -q", "volume ls -q --root ROOT", "--root=ROOT -D volume ls -q"} {
		if got := n.must(strings.Fields(strings.ReplaceAll(args, "ROOT", n.dir+"/root"))...); got != "v" {
			t.Errorf("berth %s: %q", args, got)
		}
		if got := n.must(strings.Fields(strings.ReplaceAll(args, "ROOT", n.dir+"/other"))...); got != "" {
			t.Errorf("berth %s with another root: %q", args, got)
		}
	}
}
