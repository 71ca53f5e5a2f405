package e2e_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// scenario is one "berth run --rm" with the busybox image.
type scenario struct {
	name    string
	flags   []string
	command []string
	input   string
	// want is a regular expression for the whole of standard output.
	want string
	// stderr is a regular expression for part of standard error; "" wants it empty.
	stderr string
	code   int
}

func sh(script string) []string { return []string{"sh", "-c", script} }

func (n *node) play(t *testing.T, scenarios []scenario) {
	t.Helper()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			in := *n
			in.t = t
			r := in.with(s.input, in.run(append([]string{"--rm"}, s.flags...), s.command...)...)
			if r.code != s.code {
				t.Errorf("exit status %d, want %d", r.code, s.code)
			}
			if !regexp.MustCompile(`^(?s:` + s.want + `)\n?$`).MatchString(r.stdout) {
				t.Errorf("standard output %q does not match %q", r.stdout, s.want)
			}
			if s.stderr == "" && r.stderr != "" || !regexp.MustCompile(s.stderr).MatchString(r.stderr) {
				t.Errorf("standard error %q does not match %q", r.stderr, s.stderr)
			}
		})
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	newNode(t).play(t, []scenario{
		{name: "output", command: sh("echo out; echo err >&2"), want: "out", stderr: "^err\n$"},
		{name: "exit status", command: sh("exit 7"), code: 7},
		{name: "input", flags: []string{"-i"}, command: []string{"cat"}, input: "a\nb\n", want: "a\nb"},
		{name: "input ends", flags: []string{"-i"}, command: []string{"wc", "-c"}, input: strings.Repeat("x", 300_000), want: "300000"},
		{name: "no input without -i", command: []string{"cat"}, input: "lost"},
		{name: "much output", command: sh("yes 0123456789 | head -n 200000 | md5sum; head -c 5000000 /dev/zero | wc -c"), want: ".*5000000"},
		{name: "command of the image", flags: []string{"-i"}, input: "echo from sh", want: "from sh"},
		{name: "missing command", command: []string{"/no/such"}, code: 127, stderr: `^berth: .*/no/such`},
		{name: "missing command in the path", command: []string{"nosuch"}, code: 127, stderr: `^berth: .*nosuch`},
		{name: "not executable", command: []string{"/etc/passwd"}, code: 126, stderr: `^berth: .*/etc/passwd`},
		{name: "directory as command", command: []string{"/etc"}, code: 126, stderr: `^berth: .*/etc`},
		{name: "killed by a signal", command: sh(`sh -c 'kill -TERM $$'; exit $?`), code: 143, stderr: "Terminated|^$"},
		{name: "entrypoint", flags: []string{"--entrypoint", "echo"}, command: []string{"a", "b"}, want: "a b"},
		{name: "environment", flags: []string{"-e", "A=1 2", "-e", "B="}, command: sh(`echo "$A|$B|${C-unset}"`), want: `1 2\|\|unset`},
		{name: "working directory", flags: []string{"-w", "/new/dir"}, command: []string{"pwd"}, want: "/new/dir"},
		{name: "user by name", flags: []string{"-u", "app"}, command: []string{"id"}, want: `uid=1000\(app\) gid=1000\(app\) groups=.*2000\(extra\).*`},
		{name: "user by id", flags: []string{"-u", "1234:5678"}, command: sh("id -u; id -g"), want: "1234\n5678"},
		{name: "further groups", flags: []string{"--group-add", "extra", "--group-add", "77"}, command: sh("id -G"), want: "(.* )?2000 .*77|.*77.* 2000.*"},
		{name: "host name", flags: []string{"--hostname", "box"}, command: sh("hostname; grep -c box /etc/hosts"), want: "box\n1"},
		{name: "an init is process 1", flags: []string{"--init"}, command: sh("[ $$ -ne 1 ] && echo not 1"), want: "not 1"},
		{name: "without init the command is process 1", command: sh("echo $$"), want: "1"},
		{name: "umask", flags: []string{"--umask", "0027"}, command: sh("umask"), want: "0027"},
		{name: "added host", flags: []string{"--add-host", "db:10.9.8.7"}, command: sh("grep -w db /etc/hosts"), want: `10\.9\.8\.7\s+db`},
		{name: "name server", flags: []string{"--dns", "192.0.2.53"}, command: sh("grep nameserver /etc/resolv.conf"), want: `nameserver 192\.0\.2\.53`},
	})
}

func TestEnvironmentFile(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	path := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(path, []byte("# comment\nONE=1\nTWO=two words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := n.sh(`echo "$ONE $TWO"`, "--env-file", path), "1 two words"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.detached([]string{"--name", "one"}, "sleep", "1000")
	r := n.berth(n.run([]string{"--rm", "--name", "one"}, "true")...)
	if r.code != 125 || !strings.Contains(r.stderr, `"one"`) {
		t.Errorf("second container of a name: exit status %d, %q", r.code, r.stderr)
	}
	if got := n.inspect("one", "{{.Id}}"); got != id {
		t.Errorf("inspect by name gives %q, want %q", got, id)
	}
	if got := n.inspect(id[:12], "{{.Name}}"); strings.TrimPrefix(got, "/") != "one" {
		t.Errorf("name is %q", got)
	}
	n.must("rename", "one", "two")
	if got := n.must("ps", "--format", "{{.Names}} {{.Image}}"); !strings.HasPrefix(got, "two ") {
		t.Errorf("ps shows %q", got)
	}
}
