package hdfs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri/hdfs"
	"github.com/berth-dev/berth/fetcher/uri/uritest"
)

// fake is a hadoop that knows the two sub-commands, over the directory in
// HADOOP_FAKE_ROOT.
const fake = `#!/bin/sh
[ "$1" = "$FAKE_WORD" ] || { echo "unknown command $1" >&2; exit 9; }
env | sed 's/=.*//' > "$HADOOP_FAKE_ROOT/.env"
shift
for last; do :; done
case "$last" in hdfs://name:8020/*) file="$HADOOP_FAKE_ROOT/${last#hdfs://name:8020/}";; *) echo "bad path $last" >&2; exit 1;; esac
[ -e "$file" ] || { echo "WARN util.NativeCodeLoader: noise" >&2; echo "$1: '$last': No such file or directory" >&2; exit 1; }
[ -e "$file.denied" ] && { echo "$1: Permission denied: user=x" >&2; exit 1; }
case "$1 $2" in
"-stat %b %Y") stat -L -c '%s %Y%i' "$file";;
"-cat "*) cat "$file"; [ -e "$file.fails" ] && { echo "cat: Filesystem closed" >&2; exit 1; }; exit 0;;
*) echo "unknown option $1" >&2; exit 2;;
esac
`

func newFake(t *testing.T, name, word string) (dir, command string, env []string) {
	t.Helper()
	dir = t.TempDir()
	command = filepath.Join(t.TempDir(), name)
	script := strings.ReplaceAll(fake, "$FAKE_WORD", word)
	if err := os.WriteFile(command, []byte(script), 0o700); err != nil { //nolint:gosec // it is to be executed
		t.Fatal(err)
	}
	return dir, command, []string{"PATH=" + os.Getenv("PATH"), "HADOOP_FAKE_ROOT=" + dir, "SECRET=1", "AWS_SECRET_ACCESS_KEY=1", "KRB5CCNAME=/x"}
}

// put replaces a file by another one, whose inode the fake has in its version.
func put(dir string) func(t *testing.T, name string, content []byte) string {
	n := 0
	return func(t *testing.T, name string, content []byte) string {
		t.Helper()
		n++
		data := filepath.Join(dir, fmt.Sprintf("data-%d", n))
		if err := os.WriteFile(data, content, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(filepath.Join(dir, name))
		if err := os.Symlink(data, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		return "hdfs://name:8020/" + url.PathEscape(name)
	}
}

func TestConformance(t *testing.T) {
	for name, word := range map[string]string{"hadoop": "fs", "hdfs": "dfs"} {
		t.Run(name, func(t *testing.T) {
			dir, command, env := newFake(t, name, word)
			uritest.Run(t, uritest.Subject{
				Scheme: hdfs.New(hdfs.Options{Command: command, Environ: env}), Put: put(dir), Missing: "hdfs://name:8020/missing",
			})
		})
	}
}

func TestEnvironmentIsSmall(t *testing.T) {
	dir, command, env := newFake(t, "hadoop", "fs")
	r := uritest.Request(t, put(dir)(t, "x", []byte("x")))
	resp, err := hdfs.New(hdfs.Options{Command: command, Environ: env}).Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadFile(filepath.Join(dir, ".env"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"SECRET", "AWS_SECRET_ACCESS_KEY"} {
		if bytes.Contains(names, []byte(name)) {
			t.Errorf("the command gets %s", name)
		}
	}
	for _, name := range []string{"PATH", "KRB5CCNAME", "HADOOP_FAKE_ROOT"} {
		if !bytes.Contains(names, []byte(name)) {
			t.Errorf("the command does not get %s", name)
		}
	}
}

func TestFailures(t *testing.T) {
	dir, command, env := newFake(t, "hadoop", "fs")
	place := put(dir)
	for _, name := range []string{"denied", "fails"} {
		place(t, name, []byte("content"))
		if err := os.WriteFile(filepath.Join(dir, name+"."+name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(o hdfs.Options, s string) error {
		resp, err := hdfs.New(o).Open(t.Context(), uritest.Request(t, s))
		if err != nil {
			return err
		}
		_, err = io.ReadAll(resp.Body)
		return errors.Join(err, resp.Body.Close())
	}
	here := hdfs.Options{Command: command, Environ: env}
	for name, c := range map[string]struct {
		o    hdfs.Options
		uri  string
		want error
		says string
	}{
		"denied":         {here, "hdfs://name:8020/denied", containerizer.ErrPermission, "Permission denied"},
		"breaks":         {here, "hdfs://name:8020/fails", containerizer.ErrUnavailable, "Filesystem closed"},
		"pattern":        {here, "hdfs://name:8020/a*", containerizer.ErrInvalid, "pattern"},
		"query":          {here, "hdfs://name:8020/a?b", containerizer.ErrInvalid, "query"},
		"no command":     {hdfs.Options{Environ: []string{"PATH=/nonexistent:relative"}}, "hdfs://name:8020/x", containerizer.ErrUnsupported, "not installed"},
		"missing binary": {hdfs.Options{Environ: []string{"HADOOP_HOME=/nonexistent"}}, "hdfs://name:8020/x", containerizer.ErrUnavailable, "/nonexistent/bin/hadoop"},
		"by PATH":        {hdfs.Options{Environ: append([]string{"PATH=" + filepath.Dir(command) + ":" + os.Getenv("PATH")}, env...)}, "hdfs://name:8020/denied", containerizer.ErrPermission, "denied"},
	} {
		t.Run(name, func(t *testing.T) {
			err := read(c.o, c.uri)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want %v with %q", err, c.want, c.says)
			}
		})
	}
}

// What the command started ends with it.
func TestCancelled(t *testing.T) {
	dir := t.TempDir()
	command := filepath.Join(dir, "hadoop")
	if err := os.WriteFile(command, []byte("#!/bin/sh\nsleep 1000\n"), 0o700); err != nil { //nolint:gosec // it is to be executed
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := hdfs.New(hdfs.Options{Command: command}).Open(ctx, uritest.Request(t, "hdfs://name/x")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
