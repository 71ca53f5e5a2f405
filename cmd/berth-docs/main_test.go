package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/cmd/berth/cli"
)

// The committed page must be the one that the commands give.
func TestMarkdownIsCurrent(t *testing.T) {
	want := markdown((&cli.App{}).Root())
	got, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/cli.md is old: go run ./cmd/berth-docs markdown docs/cli.md\n%s", diff)
	}
}

func TestPages(t *testing.T) {
	dir := t.TempDir()
	if err := run([]string{"man", dir}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"berth.1", "berth-run.1", "berth-system-check.1"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	man, err := exec.LookPath("man")
	if err != nil {
		t.Skip("there is no man here to read the pages with")
	}
	cmd := exec.CommandContext(t.Context(), man, "--warnings", "-l", filepath.Join(dir, "berth-run.1"))
	cmd.Env = append(os.Environ(), "MANWIDTH=100", "LC_ALL=C.UTF-8", "MANPAGER=cat", "MANROFFSEQ=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("man: %v\n%s", err, out)
	}
	for _, want := range []string{"--memory bytes", "SYNOPSIS", "berth run --rm -it debian:12 bash"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the page lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "warning:") {
		t.Errorf("roff warns:\n%s", out)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"man"}, {"pdf", "x"}} {
		if err := run(args); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
