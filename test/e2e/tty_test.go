package e2e_test

import (
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// onTerminal starts berth with a terminal as all three streams.
func (n *node) onTerminal(args ...string) (cmd *exec.Cmd, typed interface{ WriteString(string) (int, error) }, seen *transcript) {
	n.t.Helper()
	controller, tty := terminal(n.t)
	if err := unix.IoctlSetWinsize(int(controller.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 31, Col: 97}); err != nil {
		n.t.Fatal(err)
	}
	cmd = n.command(n.t.Context(), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	_ = tty.Close() // the command has it
	return cmd, controller, transcribe(controller)
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	cmd, typed, seen := n.onTerminal(n.run([]string{"--rm", "-it"}, "sh")...)
	for _, step := range []struct{ input, output string }{
		{"tty; stty size\n", "/dev/pts/0\r\n31 97\r\n"},
		{"(echo be''gin; sleep 100)\n", "begin\r\n"},
		{"\x03", "^C"}, // the terminal in the container turns it into a signal
		{"echo still $((40 + 2))\n", "still 42\r\n"},
	} {
		if _, err := typed.WriteString(step.input); err != nil {
			t.Fatal(err)
		}
		seen.await(t, step.output)
	}
	if _, err := typed.WriteString("exit 5\n"); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the status is looked at
	if got := cmd.ProcessState.ExitCode(); got != 5 {
		t.Errorf("exit status %d, want 5; the terminal showed\n%s", got, seen)
	}
}

func TestTerminalSizeChanges(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	cmd, typed, seen := n.onTerminal(n.run([]string{"--rm", "-it"}, "sh", "-c", `trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done`)...)
	seen.await(t, "ready")
	controller, ok := typed.(interface{ Fd() uintptr })
	if !ok {
		t.Fatal("no descriptor")
	}
	if err := unix.IoctlSetWinsize(int(controller.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 11, Col: 22}); err != nil {
		t.Fatal(err)
	}
	seen.await(t, "11 22")
	if err := cmd.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	n.must("rm", "-f", n.must("ps", "-q"))
}

func TestDetachKeysAndAttach(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	cmd, typed, seen := n.onTerminal(n.run([]string{"-it", "--name", "shell"}, "sh")...)
	t.Cleanup(func() { n.remove("shell") })
	for _, text := range []string{"X=kept\n", "echo one-$X\n"} {
		if _, err := typed.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	seen.await(t, "one-kept\r\n")
	if _, err := typed.WriteString("\x10\x11"); err != nil { // Ctrl-P Ctrl-Q
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after detaching: %v\n%s", err, seen)
	}
	if got := n.inspect("shell", "{{.State.Status}}"); got != "running" {
		t.Fatalf("after detaching the container is %s", got)
	}
	again, typed, seen := n.onTerminal("attach", "shell")
	if _, err := typed.WriteString("echo two-$X\n"); err != nil {
		t.Fatal(err)
	}
	seen.await(t, "two-kept\r\n")
	if _, err := typed.WriteString("exit 6\n"); err != nil {
		t.Fatal(err)
	}
	_ = again.Wait() // the status is looked at
	if got := again.ProcessState.ExitCode(); got != 6 {
		t.Errorf("attach exits with %d, want 6", got)
	}
}

func TestTerminalWithoutTerminal(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	// -t alone gives the container a terminal, whatever ours is.
	if got := n.must(n.run([]string{"--rm", "-t"}, "tty")...); !strings.HasPrefix(got, "/dev/pts/") {
		t.Errorf("tty says %q", got)
	}
	if r := n.berth(n.run([]string{"--rm", "-it"}, "true")...); r.code != 125 || !strings.Contains(r.stderr, "terminal") {
		t.Errorf("-it without a terminal: %+v", r)
	}
}
