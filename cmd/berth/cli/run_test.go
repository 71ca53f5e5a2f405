package cli_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// longID is an id that nobody can read.
var longID = regexp.MustCompile("[0-9a-f]{64}")

// words splits a command line; '~' is a blank within a word.
func words(line string) []string {
	out := strings.Fields(line)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], "~", " ")
	}
	return out
}

func TestRunForeground(t *testing.T) {
	n := newNode(t)
	for name, c := range map[string]struct {
		args string
		want result
	}{
		"output": {"run --rm test /bin/echo hello", result{out: "hello\n"}},
		"code":   {"run --rm --entrypoint /bin/sh test -c exit~42", result{code: 42}},
		"signal": {"run --rm --entrypoint /bin/sh test -c kill~-TERM~$$", result{code: 143}},
		"pull":   {"run --rm -q remote /bin/echo pulled", result{out: "pulled\n"}},
		"env":    {"run --rm -e A=b --entrypoint /bin/sh test -c echo~$A", result{out: "b\n"}},
		"dry":    {"run --dry-run test", result{out: "program of test\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := n.run(words(c.args)...); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
	if got := n.must("ps", "-a", "-q"); got != "" {
		t.Errorf("containers are left: %s", got)
	}
}

// A command whose own work is done keeps its exit code when what it leaves behind is
// not cleaned up yet, and says so.
func TestLeftToOthers(t *testing.T) {
	n := newNode(t)
	n.closeErr = errors.New("the rest is left")
	for script, want := range map[string]result{
		"echo~hello": {out: "hello\n", err: "berth: the rest is left\n"},
		"exit~42":    {err: "berth: the rest is left\n", code: 42},
	} {
		if got := n.run(words("run --rm --entrypoint /bin/sh test -c " + script)...); got != want {
			t.Errorf("%s: got %+v, want %+v", script, got, want)
		}
	}
}

func TestRunFailures(t *testing.T) {
	n := newNode(t)
	for args, want := range map[string]struct {
		code     int
		sentence string
	}{
		"run":                               {125, "berth run needs an image"},
		"run --rm nosuch":                   {125, `image "nosuch": not found`},
		"run --rm --pull never remote":      {125, "launch container"},
		"run --restart always test":         {125, "--restart: berth does not restart containers"},
		"run --gpus all test":               {125, "--gpus: name the devices"},
		"run --health-cmd x test":           {125, "--health-cmd: berth runs no health checks"},
		"run --nosuch test":                 {125, "unknown flag: --nosuch; see berth run --help"},
		"run -d -a stdout test":             {125, "-d runs in the background, -a attaches"},
		"run -a foo test":                   {125, `--attach "foo"`},
		"run -a stdin test":                 {125, "--attach stdin needs -i"},
		"run -it test":                      {125, "input to a process with a terminal"},
		"run -d --log-driver passthrough x": {125, "--log-driver passthrough gives the process"},
		"run --detach-keys foo test":        {125, `--detach-keys "foo"`},
		"run --network container:nope test": {125, `no container "nope"`},
		"run --cpus x test":                 {125, `--cpus "x" is not a number of CPUs`},
		"create --log-driver passthrough x": {125, "--log-driver passthrough gives the process"},
		"rnu":                               {125, `no command "rnu" in berth; did you mean run`},
		"volume foo":                        {125, `no command "foo" in berth volume`},
		"--log-level loud ps":               {125, `log level "loud"`},
		"--config /nosuch/config ps":        {125, "read the configuration: open /nosuch/config"},
		"ps extra":                          {125, `berth ps takes no arguments, not "extra"`},
	} {
		t.Run(args, func(t *testing.T) {
			m := *n
			m.t = t
			m.fails(want.code, want.sentence, strings.Fields(args)...)
		})
	}
	if got := n.must("ps", "-a", "-q"); got != "" {
		t.Errorf("containers are left: %s", got)
	}
}

func TestRunCommandMissing(t *testing.T) {
	n := newNode(t)
	n.fails(127, "", "run", "--rm", "test", "/no/such/command")
	if r := n.run("run", "--rm", "test", "/no/such/command"); longID.MatchString(r.err) {
		t.Errorf("the message holds a long id: %q", r.err)
	}
	n.fails(126, "", "run", "--rm", "test", "/etc/passwd")
	if got := n.must("ps", "-a", "-q"); got != "" {
		t.Errorf("containers are left: %s", got)
	}
	n.fails(127, "", "run", "--name", "kept", "test", "/no/such/command")
	if got := n.must("ps", "-a", "--format", "{{.Names}} {{.State}}"); got != "kept exited" {
		t.Errorf("without --rm: %q, want the container for a look", got)
	}
}

func TestRunDetached(t *testing.T) {
	n := newNode(t)
	cid := filepath.Join(n.dir, "cid")
	id := n.must("run", "-d", "--name", "web", "--cidfile", cid, "test", "/bin/sleep", "1000")
	data, err := os.ReadFile(cid)
	if err != nil || string(data) != id || len(id) != 64 {
		t.Errorf("id %q, cidfile %q, %v", id, data, err)
	}
	n.fails(125, "--cidfile: open "+cid+": file exists", "run", "-d", "--cidfile", cid, "test")
	if r := n.run("run", "-d", "--name", "web", "test", "/bin/sleep", "1"); r.code != 125 || !strings.Contains(r.err, `"web"`) {
		t.Errorf("a name that is taken: %+v", r)
	}
	if got := n.must("ps", "--format", "{{.ID}} {{.Names}} {{.State}}"); got != id[:12]+" web running" {
		t.Errorf("ps: %q", got)
	}
	n.fails(125, `container "web" is running; stop it first, or use rm -f`, "rm", "web")
	if got := n.must("rm", "-f", "web"); got != "web" {
		t.Errorf("rm: %q", got)
	}
	n.fails(125, `no container "web"`, "rm", "web")
	n.must("rm", "-f", "web")
}

func TestRunCidfileOfFailure(t *testing.T) {
	n := newNode(t)
	cid := filepath.Join(n.dir, "cid")
	n.fails(125, `image "nosuch": not found`, "run", "--cidfile", cid, "-v", "data:/data", "nosuch")
	if _, err := os.Stat(cid); !os.IsNotExist(err) {
		t.Errorf("the id file of a failed run: %v", err)
	}
	if got := n.must("volume", "ls", "-q"); got != "" {
		t.Errorf("volumes are left: %q", got)
	}
}

func TestRunVolumes(t *testing.T) {
	n := newNode(t)
	n.must("run", "--rm", "-v", "data:/data", "-v", "/anonymous", "test", "/bin/true")
	if got := n.must("volume", "ls", "-q"); got != "data" {
		t.Errorf("volumes %q, want the named one only", got)
	}
	n.must("create", "--name", "c", "-v", "data:/data", "-v", "/anonymous", "test", "/bin/true")
	n.fails(125, `volume "data" is used by container`, "volume", "rm", "data")
	if got := len(strings.Fields(n.must("volume", "ls", "-q"))); got != 2 {
		t.Errorf("%d volumes, want 2", got)
	}
	n.must("rm", "-v", "c")
	if got := n.must("volume", "ls", "-q"); got != "data" {
		t.Errorf("volumes %q after rm -v", got)
	}
	n.must("volume", "rm", "data")
	n.fails(125, `volume "data": not found`, "volume", "rm", "data")
	n.must("volume", "rm", "-f", "data")
}
