package imports_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/berth-dev/berth/"

// pkg is what go list says of a package.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Standard,Imports,Deps"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.String())
	}
	var all []pkg
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// rule says what packages at or below a folder may import of ours. The first rule
// whose folder matches counts. A folder "x/" in may means everything below x, and a
// package may always import what is below its own family (from).
type rule struct {
	from string
	may  []string
}

func rules() []rule {
	return []rule{
		// The vocabulary; everything else of containerizer is below.
		{"containerizer", nil},
		// An adapter turns foreign types into the vocabulary and back; logs are files.
		{"containerizer/adapter/", []string{"containerizer", "containerizer/log", "containerizer/logfile", "containerizer/linux/", "proto/"}},
		// The monitor's process: the interpreter and its own wire, not even the vocabulary.
		{"containerizer/monitor/client/", []string{"containerizer", "containerizer/monitor/"}},
		{"containerizer/monitor/", []string{"containerizer/launch/interp", "containerizer/launch/program"}},
		// The launcher drives the compiler and the monitor; the engine sees its contract only.
		{"containerizer/launcher/", []string{"containerizer", "containerizer/log", "containerizer/linux/", "containerizer/launch/", "containerizer/monitor/"}},
		{"containerizer/", []string{"containerizer", "containerizer/log", "containerizer/linux/"}},
		{"isolators/", []string{"containerizer", "containerizer/log", "containerizer/linux/"}},
		{"provisioner/", []string{"containerizer", "containerizer/log", "containerizer/linux/"}},
		{"fetcher/", []string{"containerizer", "containerizer/log", "containerizer/linux/"}},
		{"proto/", nil},
		// Only commands see everything, and nobody sees commands but commands.
		{"cmd/", []string{"containerizer/", "isolators/", "provisioner/", "fetcher/", "proto/"}},
		{"test/", []string{"containerizer/", "isolators/", "provisioner/", "fetcher/", "proto/"}},
	}
}

// family is the folder within which packages of one rule may import each other:
// isolators/cgroup, containerizer/launch, provisioner, cmd.
func family(path string) string {
	parts := strings.Split(path, "/")
	switch parts[0] {
	case "isolators", "containerizer":
		if len(parts) > 1 {
			return parts[0] + "/" + parts[1]
		}
	}
	return parts[0]
}

func below(path, folder string) bool {
	folder, tree := strings.CutSuffix(folder, "/")
	return path == folder || tree && strings.HasPrefix(path, folder+"/")
}

// allowed says whether the package from may import the package to, both relative to
// the module.
func allowed(from, to string) bool {
	for _, r := range rules() {
		if !below(from, r.from) {
			continue
		}
		mine := family(from)
		// Folders called internal are guarded by the compiler.
		shared := strings.HasPrefix(to, strings.Split(mine, "/")[0]+"/internal/")
		return mine != "containerizer" && below(to, mine+"/") || shared ||
			slices.ContainsFunc(r.may, func(folder string) bool { return below(to, folder) })
	}
	return false
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"containerizer", "containerizer/engine", false},
		{"containerizer/engine", "containerizer", true},
		{"containerizer/engine", "containerizer/launcher", false},
		{"containerizer/engine", "isolators/cgroup", false},
		{"containerizer/launch/seccomp", "containerizer/launch/program", true},
		{"containerizer/monitor", "containerizer", false},
		{"containerizer/monitor/client", "containerizer", true},
		{"isolators/network/internal/bridge", "isolators/network/internal/nat", true},
		{"isolators/network", "isolators/cgroup", false},
		{"isolators/network", "isolators/internal/ledger", true},
		{"isolators/volume", "provisioner", false},
		{"provisioner", "fetcher", false},
		{"provisioner/unpack", "provisioner/store", true},
		{"fetcher", "provisioner", false},
		{"cmd/berth", "provisioner", true},
		{"fetcher", "cmd/berth/cli", false},
		{"test/e2e", "test/fixtures", true},
		{"newfolder", "containerizer", false},
	} {
		if got := allowed(c.from, c.to); got != c.want {
			t.Errorf("may %s import %s: got %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

func TestImportsPointDown(t *testing.T) {
	found := 0
	for _, p := range list(t, module+"...") {
		from := strings.TrimPrefix(p.ImportPath, module)
		for _, path := range p.Imports {
			to, ours := strings.CutPrefix(path, module)
			if !ours {
				continue
			}
			found++
			if !allowed(from, to) {
				t.Errorf("%s imports %s, which the direction of imports does not allow", from, to)
			}
		}
	}
	if found == 0 {
		t.Error("go list found no imports at all; this test sees nothing")
	}
}

// Every `berth run` and `berth exec` starts the command: what it links is initialized
// each time.
func TestCommandStaysQuick(t *testing.T) {
	heavy := []string{"net/http", "crypto/tls", "crypto/x509", "compress/gzip", "archive/zip", "go.uber.org/zap"}
	foreign := []string{"github.com/google/go-containerregistry/", "github.com/klauspost/compress/", "go.opentelemetry.io/"}
	packages := list(t, "-deps", module+"cmd/berth")
	// A package more is a decision: it has variables to initialize, types and functions
	// that the Go runtime looks through at each start (cmd/berth/decisions/0003).
	if most := 241; len(packages) > most {
		t.Errorf("berth links %d packages, more than %d: does what came in belong into berth-images?", len(packages), most)
	}
	// It is initialized early because it imports next to nothing.
	for _, p := range list(t, module+"cmd/internal/faststart") {
		if want := []string{"runtime", "unsafe"}; !slices.Equal(p.Imports, want) {
			t.Errorf("faststart imports %v, want %v", p.Imports, want)
		}
	}
	if !slices.ContainsFunc(packages, func(p pkg) bool { return p.ImportPath == module+"cmd/internal/faststart" }) {
		t.Error("berth does not link faststart")
	}
	for _, p := range packages {
		if slices.Contains(heavy, p.ImportPath) || slices.ContainsFunc(foreign, func(f string) bool { return strings.HasPrefix(p.ImportPath, f) }) {
			t.Errorf("berth links %s, which belongs into berth-images", p.ImportPath)
		}
	}
}

// Traces are wired by berthd, and by nobody else: the engine and the launcher know a
// hook of one method.
func TestTracesAreTheDaemons(t *testing.T) {
	for _, p := range list(t, module+"...") {
		from := strings.TrimPrefix(p.ImportPath, module)
		if below(from, "cmd/internal/tracing") {
			continue
		}
		for _, path := range p.Imports {
			if strings.HasPrefix(path, "go.opentelemetry.io/") {
				t.Errorf("%s imports %s", from, path)
			}
			if path == module+"cmd/internal/tracing" && from != "cmd/berthd" {
				t.Errorf("%s imports the traces of berthd", from)
			}
		}
	}
}

// The monitor stays by every container: what it links is memory times containers.
func TestMonitorStaysSmall(t *testing.T) {
	heavy := []string{"encoding/json", "fmt", "log", "net", "os", "os/exec", "reflect", "regexp", "text/template"}
	for _, p := range list(t, "-deps", module+"cmd/berth-monitor") {
		if slices.Contains(heavy, p.ImportPath) {
			t.Errorf("berth-monitor links %s", p.ImportPath)
		}
		if !p.Standard && !strings.HasPrefix(p.ImportPath, module) {
			t.Errorf("berth-monitor links the foreign package %s", p.ImportPath)
		}
	}
}
