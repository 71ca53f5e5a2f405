package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// typed is a file that stands for standard input.
func typed(t *testing.T, text string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stdin")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestLogin(t *testing.T) {
	n := newNode(t)
	if got := n.must("login", "-u", "user", "-p", "right", "--authfile", "/a/b.json"); got != "Login Succeeded (kept in docker.io in /a/b.json)" {
		t.Errorf("got %q", got)
	}
	r := n.runIn(typed(t, "right\n"), "login", "-u", "user", "--password-stdin", "reg.example")
	if r.code != 0 || !strings.HasPrefix(r.out, "Login Succeeded (kept in reg.example in") {
		t.Errorf("%+v", r)
	}
	if got := n.must("login", "-u", "user", "-p", "right", "--tls-verify=false"); !strings.HasSuffix(got, "(TLS verified: false))") {
		t.Errorf("got %q", got)
	}
	if got := n.must("login", "-u", "user", "-p", "right", "--tls-verify"); !strings.HasSuffix(got, "(TLS verified: true))") {
		t.Errorf("got %q", got)
	}
	n.fails(125, "invalid argument \"x\" for \"--tls-verify\"", "login", "--tls-verify=x")
	n.fails(125, "log in to \"reg.example\" as \"user\"", "login", "-u", "user", "-p", "wrong", "reg.example")
	n.fails(125, "login needs --username and --password-stdin where there is no terminal", "login")
	n.fails(125, "login needs --username and --password-stdin where there is no terminal", "login", "-u", "user")
	n.fails(125, "--password-stdin goes with --username", "login", "--password-stdin")
	n.fails(125, "--password-stdin goes with --username", "login", "-u", "a", "-p", "b", "--password-stdin")
	n.fails(125, "standard input holds no password", "login", "-u", "a", "--password-stdin")
	n.fails(125, "login needs a user name, without a colon", "login", "-u", "a:b", "-p", "c")
	n.fails(125, "berth login takes one registry", "login", "a", "b")
	if got := n.must("logout", "known.example"); got != "Removed login credentials for known.example" {
		t.Errorf("got %q", got)
	}
	if r := n.run("logout"); r.code != 0 || r.err != "Not logged in to docker.io\n" {
		t.Errorf("%+v", r)
	}
}

func TestPullCredentials(t *testing.T) {
	n := newNode(t)
	n.must("pull", "-q", "--creds", "user:right", "private")
	n.fails(125, "--creds needs a user name", "pull", "--creds", ":x", "private")
	n.fails(125, "--creds has no password, and there is no terminal", "pull", "--creds", "user", "private")
}

// TestLoginAsks has a terminal, where the password is not shown.
func TestLoginAsks(t *testing.T) {
	n := newNode(t)
	master, slave := pty(t)
	results := make(chan result, 1)
	go func() { results <- n.runIn(slave, "login", "reg.example") }()
	if _, err := master.WriteString("user\n"); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); localModes(t, slave)&unix.ECHO != 0; {
		if time.Now().After(deadline) {
			t.Fatal("what is typed is shown while the password is asked for")
		}
	}
	if _, err := master.WriteString("right\n"); err != nil {
		t.Fatal(err)
	}
	r := n.ends(results)
	if r.code != 0 || !strings.Contains(r.err, "Username: ") || !strings.Contains(r.err, "Password: ") {
		t.Errorf("%+v", r)
	}
}
