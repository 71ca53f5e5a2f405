package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
)

func TestLifecycle(t *testing.T) {
	n := newNode(t)
	id := n.must("create", "--name", "xa", "-l", "team=x", "--stop-timeout", "1", "test", "/bin/sleep", "1000")
	state := func() string {
		t.Helper()
		return n.must("inspect", "-f", "{{.State.Status}}", "xa")
	}
	expect := func(want string) {
		t.Helper()
		if got := state(); got != want {
			t.Fatalf("state %q, want %q", got, want)
		}
	}
	expect("created")
	if got := n.must("start", "xa"); got != "xa" {
		t.Errorf("start: %q", got)
	}
	n.must("start", "xa") // running already
	expect("running")
	n.must("pause", "xa")
	expect("paused")
	n.fails(125, `container "xa" is paused; unpause it first`, "attach", "xa")
	n.must("unpause", "xa")
	expect("running")
	n.must("kill", "-s", "CONT", "xa") // the freezer of this node is made of signals
	n.must("rename", "xa", "xb")
	n.fails(125, `no container "xa"`, "pause", "xa")
	n.must("rename", "xb", "xa")
	n.must("update", "--pids-limit", "10", "xa")
	n.fails(125, "nothing to change", "update", "xa")
	if r := n.run("update", "--pids-limit", "13", "xa"); r.code != 125 || !strings.Contains(r.err, "unlucky") {
		t.Errorf("update: %+v", r)
	}
	n.must("kill", "-s", "TERM", "xa")
	if got := n.must("wait", "xa"); got != "143" {
		t.Errorf("wait: %q", got)
	}
	expect("exited")
	n.must("stop", "xa") // ended already
	n.fails(125, "no signal \"FOO\"", "kill", "-s", "FOO", "xa")
	n.must("restart", "-t", "0", "xa")
	expect("running")
	if got := n.must("stop", "-t", "5", id[:8]); got != id[:8] {
		t.Errorf("stop: %q", got)
	}
	expect("exited")
	n.must("start", "xa")
	n.must("stop", "-s", "INT", "-t", "5", "xa")
	if got := n.must("inspect", "-f", "{{.State.ExitCode}} {{.RestartCount}}", "xa"); got != "130 2" {
		t.Errorf("exit code and starts: %q", got)
	}
	n.must("container", "rm", "xa")
	n.fails(125, `no container "xa"`, "inspect", "--type", "container", "xa")
}

func TestExec(t *testing.T) {
	n := newNode(t)
	n.must("run", "-d", "--name", "xa", "test", "/bin/sleep", "1000")
	if r := n.run("exec", "xa", "/bin/echo", "in"); r.code != 0 || r.out != "in\n" {
		t.Errorf("exec: %+v", r)
	}
	if r := n.run("exec", "-e", "X=7", "xa", "/bin/sh", "-c", "exit $X"); r.code != 7 {
		t.Errorf("exec: %+v", r)
	}
	n.fails(127, "", "exec", "xa", "/no/such")
	n.fails(125, "berth exec needs a container and a command", "exec", "xa")
	n.fails(125, `no container "nope"`, "exec", "nope", "/bin/true")
	n.fails(125, `--workdir "x" is not an absolute path`, "exec", "-w", "x", "xa", "/bin/true")
	marker := filepath.Join(n.dir, "marker")
	if r := n.run("exec", "-d", "xa", "/bin/sh", "-c", "echo > "+marker); r.code != 0 || r.out != "" {
		t.Errorf("exec -d: %+v", r)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := os.Stat(marker); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the command of exec -d never ran")
		}
		n.must("ps") // something to do in between
	}
}

func TestPs(t *testing.T) {
	n := newNode(t)
	n.must("run", "-d", "--name", "up", "-l", "team=x", "test", "/bin/sleep", "1000")
	n.must("create", "--name", "new", "-l", "team=y", "-v", "data:/data", "test", "/bin/true")
	n.run("run", "--name", "ended", "--entrypoint", "/bin/sh", "test", "-c", "exit 3")
	for args, want := range map[string]string{
		"ps --format {{.Names}}":                                  "up",
		"ps -a --format {{.Names}}":                               "ended new up",
		"ps -n 2 --format {{.Names}}":                             "ended new",
		"ps -l --format {{.Names}}":                               "ended",
		"ps -a --filter label=team --format {{.Names}}":           "new up",
		"ps -a --filter label=team=y --format {{.Names}}":         "new",
		"ps --filter status=exited --format {{.Names}}":           "ended",
		"ps --filter exited=3 --format {{.Names}}":                "ended",
		"ps --filter exited=0 --format {{.Names}}":                "",
		"ps -a --filter name=e --format {{.Names}}":               "ended new",
		"ps -a --filter volume=data --format {{.Names}}":          "new",
		"ps -a --filter before=new --format {{.Names}}":           "up",
		"ps -a --filter since=new --format {{.Names}}":            "ended",
		"ps -a --filter ancestor=test --format {{.Names}}":        "ended new up",
		"ps -a --filter ancestor=other --format {{.Names}}":       "",
		`ps -a --filter name=new --format {{.Label~"team"}}`:      "y",
		"ps -a --filter name=new --format {{.Command}}":           `"/bin/true"`,
		"ps -a --filter name=new --format {{.Mounts}}":            "data",
		"ps -a --filter name=new --format {{.Status}}":            "Created",
		"container ls -a --filter name=ended --format {{.State}}": "exited",
	} {
		if got := strings.Join(strings.Fields(n.must(words(args)...)), " "); got != want {
			t.Errorf("berth %s: %q, want %q", args, got, want)
		}
	}
	table := strings.Split(n.must("ps", "-a"), "\n")
	if head := strings.Join(strings.Fields(table[0]), " "); head != "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES" || len(table) != 4 {
		t.Errorf("table %q", table)
	}
	var row map[string]any
	if err := json.Unmarshal([]byte(n.must("ps", "--format", "json")), &row); err != nil || row["Names"] != "up" {
		t.Errorf("json: %v, %v", row, err)
	}
	n.fails(125, `--format: no field "Foo"`, "ps", "--format", "{{.Foo}}")
	n.fails(125, `--filter "health=x": no key "health"`, "ps", "--filter", "health=x")
}

func TestInspectContainer(t *testing.T) {
	n := newNode(t)
	id := n.must("create", "--name", "xa", "-e", "A=1", "-m", "64m", "--cpus", "0.5", "-v", "data:/data:ro", "--cap-add", "NET_ADMIN",
		"--network", "none", "test", "/bin/echo", "x")
	var got []struct {
		ID                string `json:"Id"`
		Path, Name, Image string
		Args              []string
		State             struct {
			Status        string
			Running       bool
			Pid, ExitCode int
			OOMKilled     bool
			FinishedAt    time.Time
		}
		Config     struct{ Env, Cmd []string }
		HostConfig struct {
			Memory, NanoCpus int64
			CapAdd           []string
			NetworkMode      string
		}
		Mounts []struct {
			Type, Name, Source, Destination string
			RW                              bool
		}
		Spec *containerizer.Spec
	}
	if err := json.Unmarshal([]byte(n.must("inspect", "xa")), &got); err != nil {
		t.Fatal(err)
	}
	c := got[0]
	if c.ID != id || c.Name != "/xa" || c.Path != "/bin/echo" || !cmp.Equal(c.Args, []string{"x"}) || c.State.Status != "created" || c.State.Running {
		t.Errorf("container %+v", c)
	}
	if c.HostConfig.Memory != 64<<20 || c.HostConfig.NanoCpus != 5e8 || c.HostConfig.NetworkMode != "none" || !cmp.Equal(c.HostConfig.CapAdd, []string{"NET_ADMIN"}) {
		t.Errorf("host configuration %+v", c.HostConfig)
	}
	m := c.Mounts[0]
	if m.Type != "volume" || m.Name != "data" || m.Source != filepath.Join(n.dir, "root", "volumes", "data") || m.Destination != "/data" || m.RW {
		t.Errorf("mount %+v", m)
	}
	if c.Spec.Name != "xa" || !slices.Contains(c.Config.Env, "A=1") {
		t.Errorf("spec %+v", c.Spec)
	}
	if got := n.must("inspect", "-f", "{{.State.Running}} {{json .HostConfig.CapAdd}}", "xa"); got != `false ["NET_ADMIN"]` {
		t.Errorf("template: %q", got)
	}
	n.fails(125, `--format: no field "Nope"`, "inspect", "-f", "{{.State.Nope}}", "xa")
	n.fails(125, `no container, image or volume "zzz"`, "inspect", "-f", "x", "zzz")
	n.fails(125, `--type "x": container, image and volume exist`, "inspect", "-f", "x", "--type", "x", "xa")
	if r := n.run("inspect", "xa", "zzz"); r.code != 125 || !strings.Contains(r.out, id) {
		t.Errorf("one of two: %+v", r)
	}
}

func TestTopAndStats(t *testing.T) {
	n := newNode(t)
	n.must("run", "-d", "--name", "xa", "test", "/bin/sleep", "1000")
	pid := n.must("inspect", "-f", "{{.State.Pid}}", "xa")
	if got := strings.Join(strings.Fields(n.must("top", "xa", "-o", "pid,args")), " "); got != "PID COMMAND "+pid+" /bin/sleep 1000" {
		t.Errorf("top -o: %q", got)
	}
	if got := n.must("top", "xa"); !strings.HasPrefix(got, "UID ") || !strings.Contains(got, pid) {
		t.Errorf("top: %q", got)
	}
	if got := strings.Split(n.must("top", "xa", "-e", "-f"), "\n"); len(got) != 2 || !strings.Contains(got[1], pid) {
		t.Errorf("top -e -f: %q", got)
	}
	n.fails(125, `no column "foo"`, "top", "xa", "-o", "foo")
	n.must("create", "--name", "xb", "test", "/bin/true")
	n.fails(125, `container "xb" is created, not running`, "top", "xb")

	n.usage.now = containerizer.Usage{
		CPU:     &containerizer.CPUUsage{Total: time.Second},
		Memory:  &containerizer.MemoryUsage{WorkingSetBytes: 32 << 20, LimitBytes: 64 << 20},
		PIDs:    &containerizer.PIDsUsage{Current: 1},
		IO:      &containerizer.IOUsage{ReadBytes: 1000, WriteBytes: 2_500_000},
		Network: []containerizer.NetworkUsage{{Interface: "lo", RxBytes: 5}, {Interface: "eth0", RxBytes: 1500, TxBytes: 10}},
	}
	got := n.must("stats", "--no-stream", "--format", "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.MemPerc}}|{{.NetIO}}|{{.BlockIO}}|{{.PIDs}}")
	if want := "xa|0.00%|32MiB / 64MiB|50.00%|1.5kB / 10B|1kB / 2.5MB|1"; got != want {
		t.Errorf("stats: %q, want %q", got, want)
	}
	n.fails(125, `no container "nope"`, "stats", "--no-stream", "nope")
}

func TestLogs(t *testing.T) {
	n := newNode(t)
	n.must("run", "-d", "--name", "xa", "test", "/bin/sleep", "1000")
	path := n.must("inspect", "-f", "{{.LogPath}}", "xa")
	// The engine under test keeps no logs; the reader only needs the file.
	text := ""
	for i, stream := range []string{"stdout", "stderr", "stdout"} {
		text += "2026-01-02T03:04:0" + strconv.Itoa(i) + ".5Z " + stream + " F line" + strconv.Itoa(i) + "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]result{
		"logs xa":             {out: "line0\nline2\n", err: "line1\n"},
		"logs -t --tail 1 xa": {out: "2026-01-02T03:04:02.500000000Z line2\n"},
		"logs --details --since 2026-01-02T03:04:01Z xa": {out: "stdout line2\n", err: "stderr line1\n"},
		"logs --until 2026-01-02T03:04:01Z xa":           {out: "line0\n"},
	} {
		if got := n.run(strings.Fields(args)...); got != want {
			t.Errorf("berth %s: %+v, want %+v", args, got, want)
		}
	}
	n.fails(125, `--tail "x" is not a number or all`, "logs", "--tail", "x", "xa")
	n.fails(125, `--since: "x" is not a time`, "logs", "--since", "x", "xa")

	followed := make(chan result, 1)
	go func() { followed <- n.run("logs", "-f", "--tail", "0", "xa") }()
	n.must("kill", "xa")
	select {
	case got := <-followed:
		if got.code != 0 {
			t.Errorf("logs -f: %+v", got)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("logs -f does not end with the container")
	}
}
