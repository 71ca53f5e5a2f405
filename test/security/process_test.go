package security_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/test/fixtures"
)

// newFlags are kinds of containers by how far a process in them may reach.
var newFlags = map[string][]string{
	"default":                                {},
	"with ptrace":                            {"--cap-add", "SYS_PTRACE"},
	"with ptrace in a user namespace":        {"--cap-add", "SYS_PTRACE", "--userns", "private"},
	"privileged in a user namespace":         {"--privileged", "--userns", "private"},
	"with ptrace, without new privileges":    {"--cap-add", "SYS_PTRACE", "--security-opt", "no-new-privileges"},
	"without filter in a user namespace":     {"--security-opt", "seccomp=unconfined", "--userns", "private"},
	"with the host's privilege to kill only": {"--cap-drop", "ALL", "--cap-add", "KILL"},
}

// attacked runs an attack in a container while exec sessions start, and returns what
// it prints.
func (n *node) attacked(flags []string, attack string, sessions int) (output string, failed int) {
	n.t.Helper()
	rootfs := n.rootfs()
	id := n.start(rootfs, flags, "/attack", attack)
	eventually(n.t, func() string {
		if r := n.run("logs", id); !strings.Contains(r.stdout, "ready") {
			return "the attack does not begin: " + r.stdout + r.stderr
		}
		return ""
	})
	for range sessions {
		if r := n.run("exec", id, "true"); r.code != 0 {
			failed++
		}
	}
	if err := os.WriteFile(filepath.Join(rootfs, "stop"), nil, 0o600); err != nil {
		n.t.Fatal(err)
	}
	if r := n.run("wait", id); r.stdout != "0" {
		n.t.Errorf("the container ended: %+v", r)
	}
	return n.run("logs", id).stdout, failed
}

// A process that joins a container for an exec session is out of the reach of hostile
// processes there until it is one of them (CVE-2016-9962, CVE-2019-5736), also though
// it is made without a new program. Whoever has CAP_SYS_PTRACE in the host's user
// namespace reaches it, but finds nothing that the container does not have, apart from
// CAP_SYS_ADMIN and CAP_SETPCAP where a filter is installed without no_new_privs.
func TestExecIsOutOfReach(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for name, flags := range newFlags {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, failed := n.in(t).attacked(flags, "reach", 12)
			if failed > 0 {
				t.Errorf("%d sessions failed", failed)
			}
			lines := strings.Split(out, "\n")
			if !strings.HasPrefix(lines[1], "tried ") || lines[1] == "tried 0" {
				t.Logf("no session was met before it was one of the container's: %q", out)
			}
			root := slices.Contains(flags, "SYS_PTRACE") && !slices.Contains(flags, "private")
			for _, found := range lines[2:] {
				kind, rest, _ := strings.Cut(found, " ")
				switch {
				case root && (kind == "exe" || kind == "mem" || kind == "environ" || kind == "cwd"):
				case root && kind == "caps":
					const container, forFilter = 0xa80425fb | 1<<unix.CAP_SYS_PTRACE, 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_SETPCAP
					if caps, err := strconv.ParseUint(rest, 16, 64); err != nil || caps&^(container|forFilter) != 0 {
						t.Errorf("it has capabilities %s", rest)
					}
				default:
					t.Errorf("reached: %s", found)
				}
			}
		})
	}
}

// What a process may do to one that joins is no harm to the monitor, which it was
// cloned from: neither writing to its memory, nor signals, nor the OOM killer.
func TestMonitorSurvives(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for name, c := range map[string]struct {
		flags  []string
		attack string
	}{
		"memory":                     {[]string{"--cap-add", "SYS_PTRACE"}, "smash"},
		"memory in a user namespace": {[]string{"--cap-add", "SYS_PTRACE", "--userns", "private"}, "smash"},
		"signals":                    {nil, "kill"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// attacked checks that the monitor still knows how the container ended.
			out, failed := n.in(t).attacked(c.flags, c.attack, 10)
			t.Logf("%d of 10 sessions failed; %s", failed, out)
		})
	}
	t.Run("memory that belongs to nobody", func(t *testing.T) {
		t.Parallel()
		n := newNode(t)
		id := n.start(n.rootfs(), []string{"--memory", "24m", "--memory-swap", "24m", "--shm-size", "24m"}, "sleep", "100")
		n.run("exec", id, "/attack", "fill", "23")
		for range 8 {
			n.run("exec", id, "true") // may well be killed
		}
		if r := n.run("inspect", "--format", "{{.State.Status}}", id); r.stdout != "running" && r.stdout != "exited" {
			t.Errorf("the container is %+v", r)
		}
		if got := len(n.monitors()); got != 1 {
			t.Errorf("%d monitors, want 1", got)
		}
	})
}

// monitors are the pids of the node's monitors.
func (n *node) monitors() []string {
	var found []string
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		if line, _ := os.ReadFile(path); bytes.HasPrefix(line, []byte(n.monitor+"\x00")) {
			found = append(found, filepath.Dir(path))
		}
	}
	return found
}

// A container that joins another's pid namespace is not within its reach either.
func TestJoinIsOutOfReach(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, attack := range []string{"reach", "smash", "kill"} {
		t.Run(attack, func(t *testing.T) {
			t.Parallel()
			n := n.in(t)
			hostile := n.rootfs()
			id := n.start(hostile, []string{"--security-opt", "seccomp=unconfined"}, "/attack", attack)
			rootfs := n.rootfs()
			failed := 0
			for range 6 {
				if r := n.run(once(rootfs, []string{"--pid", "container:" + id}, "true")...); r.code != 0 {
					failed++
					t.Logf("launch: %+v", r)
				}
			}
			if failed > 0 && attack != "kill" {
				t.Errorf("%d launches failed", failed)
			}
			if err := os.WriteFile(filepath.Join(hostile, "stop"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			n.run("wait", id)
			out := n.run("logs", id).stdout
			for line := range strings.Lines(out) {
				if line = strings.TrimSpace(line); line != "ready" && line != "smashed 0" && !strings.HasPrefix(line, "tried") {
					t.Errorf("reached: %s", line)
				}
			}
		})
	}
}

// The monitor's executable, which a container has as /proc/self/exe before its own,
// cannot be written (CVE-2019-5736).
func TestExecutableIsSealed(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	before, err := os.ReadFile(n.monitor)
	if err != nil {
		t.Fatal(err)
	}
	rootfs := n.rootfs(fixtures.File{Path: "bin/evil", Mode: 0o755, Data: []byte("#!/proc/self/exe\n")}, fixtures.Symlink("bin/link", "/proc/self/exe"))
	for _, command := range []string{"/bin/evil", "/proc/self/exe", "/bin/link"} {
		if r := n.run(once(rootfs, nil, command)...); r.code == 0 {
			t.Errorf("%s: %+v", command, r)
		}
	}
	n.start(rootfs, nil, "sleep", "100")
	eventually(t, func() string {
		monitors := n.monitors()
		if len(monitors) != 1 {
			return fmt.Sprint(len(monitors), " monitors, want 1")
		}
		// Asking for truncation shows a read-only mount before a busy file.
		if f, err := os.OpenFile(monitors[0]+"/exe", os.O_WRONLY|os.O_TRUNC, 0); err == nil || !strings.Contains(err.Error(), "read-only") {
			_ = f.Close()
			return fmt.Sprintf("write to the monitor's executable: %v, want that it is read-only", err)
		}
		return ""
	})
	if after, err := os.ReadFile(n.monitor); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the monitor's executable has changed: %v", err)
	}
}

// A process gets nothing of its launcher's: descriptors, variables, keyring, signal
// settings (CVE-2024-21626, CVE-2016-1577).
func TestNothingIsInherited(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	rootfs := n.rootfs()
	id := n.start(rootfs, nil, "sleep", "100")
	own, _ := sessionKeyring()
	for name, args := range map[string][]string{
		"run":           once(rootfs, nil, "/attack", "inherited"),
		"init":          once(rootfs, []string{"--init"}, "/attack", "inherited"),
		"terminal":      once(rootfs, []string{"-t"}, "/attack", "inherited"),
		"user":          once(rootfs, []string{"-u", "app", "-w", "/"}, "/attack", "inherited"),
		"user ns":       once(rootfs, []string{"--userns", "private"}, "/attack", "inherited"),
		"exec":          {"exec", id, "/attack", "inherited"},
		"exec terminal": {"exec", "-t", id, "/attack", "inherited"},
	} {
		t.Run(name, func(t *testing.T) {
			n := n.in(t)
			n.ignoring = true
			if r := n.run(args...); r.stdout != "" || r.code != 0 {
				t.Errorf("got %+v, want nothing", r)
			}
		})
	}
	for name, args := range map[string][]string{
		"keyring":              once(rootfs, []string{"--security-opt", "seccomp=unconfined"}, "/attack", "keyring"),
		"keyring of a user":    once(rootfs, []string{"--security-opt", "seccomp=unconfined", "-u", "app"}, "/attack", "keyring"),
		"keyring of a user ns": once(rootfs, []string{"--security-opt", "seccomp=unconfined", "--userns", "private"}, "/attack", "keyring"),
		"keyring of an exec":   {"exec", "--privileged", id, "/attack", "keyring"},
	} {
		t.Run(name, func(t *testing.T) {
			r := n.in(t).run(args...)
			if !strings.Contains(r.stdout, "_ses.") || own != "" && strings.HasPrefix(r.stdout, strings.Fields(own)[0]+" ") {
				t.Errorf("the session keyring is %+v, the host's is %q", r, own)
			}
		})
	}
}
