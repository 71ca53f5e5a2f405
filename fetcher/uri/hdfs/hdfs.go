package hdfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
)

// Options of the scheme. The zero value works.
type Options struct {
	// Command is the path of hadoop or hdfs; "" is $HADOOP_HOME/bin/hadoop, else the
	// first of hadoop and hdfs in PATH.
	Command string
	// Environ replaces the environment that variables are taken from; nil is the
	// process's.
	Environ []string
}

// Scheme reads by the command.
type Scheme struct{ o Options }

var _ uri.Scheme = (*Scheme)(nil)

// New returns the scheme. It does no I/O.
func New(o Options) *Scheme {
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	return &Scheme{o}
}

// Names implements [uri.Scheme].
func (*Scheme) Names() []string {
	return []string{"hdfs", "viewfs", "webhdfs", "swebhdfs", "hftp", "s3a", "s3n"}
}

// Open implements [uri.Scheme].
func (s *Scheme) Open(ctx context.Context, r uri.Request) (*uri.Response, error) {
	what := fmt.Sprintf("fetch %q", r.Reference)
	if strings.ContainsAny(r.URL.Path, "*?[]{}\\") {
		return nil, fmt.Errorf("%s: the path holds characters that Hadoop takes for a pattern: %w", what, containerizer.ErrInvalid)
	}
	if r.URL.RawQuery != "" {
		return nil, fmt.Errorf("%s: URIs of Hadoop have no query: %w", what, containerizer.ErrInvalid)
	}
	command, err := s.command()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	// Hadoop takes the path as it is written, not escaped.
	target := r.URL.Scheme + "://" + r.URL.Host + r.URL.Path
	if u := r.URL.User; u != nil {
		target = r.URL.Scheme + "://" + u.String() + "@" + r.URL.Host + r.URL.Path
	}
	size, version, err := s.stat(ctx, what, command, target)
	if err != nil {
		return nil, err
	}
	if r.Offset == 0 && r.Version == version {
		return &uri.Response{NotModified: true}, nil
	}
	body, err := s.cat(ctx, what, command, target)
	if err != nil {
		return nil, err
	}
	return &uri.Response{Body: body, Size: size, Version: version}, nil
}

// command finds the command: its words before the sub-command of "fs".
func (s *Scheme) command() ([]string, error) {
	if s.o.Command != "" {
		return words(s.o.Command), nil
	}
	if home := s.getenv("HADOOP_HOME"); home != "" {
		return words(filepath.Join(home, "bin", "hadoop")), nil
	}
	for dir := range strings.SplitSeq(s.getenv("PATH"), ":") {
		for _, name := range []string{"hadoop", "hdfs"} {
			path := filepath.Join(dir, name)
			if st, err := os.Stat(path); filepath.IsAbs(path) && err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return words(path), nil
			}
		}
	}
	return nil, fmt.Errorf("the command hadoop is not installed (looked at HADOOP_HOME and PATH; artifacts.hadoop in the configuration names it): %w", containerizer.ErrUnsupported)
}

// words: hdfs calls its client of file systems dfs.
func words(path string) []string {
	if filepath.Base(path) == "hdfs" {
		return []string{path, "dfs"}
	}
	return []string{path, "fs"}
}

func (s *Scheme) getenv(name string) string {
	for _, e := range s.o.Environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// environment is what the command gets.
func (s *Scheme) environment() []string {
	var env []string
	for _, e := range s.o.Environ {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case name == "PATH", name == "HOME", name == "LANG", name == "JAVA_HOME",
			strings.HasPrefix(name, "HADOOP_"), strings.HasPrefix(name, "HDFS_"), strings.HasPrefix(name, "KRB5"):
			env = append(env, e)
		}
	}
	return env
}

func (s *Scheme) start(ctx context.Context, command []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)], args...)...)
	cmd.Env, cmd.Dir = s.environment(), "/"
	// The command is a script that starts Java: all of it has to end. When this process
	// dies, it ends by its output, which nobody reads any more.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// stat asks for length and modification time.
func (s *Scheme) stat(ctx context.Context, what string, command []string, target string) (int64, string, error) {
	cmd := s.start(ctx, command, "-stat", "%b %Y", target)
	errs := &tail{}
	cmd.Stderr = errs
	out, err := cmd.Output()
	if err != nil {
		return 0, "", explain(ctx, what, command[0], err, errs)
	}
	length, modified, ok := strings.Cut(strings.TrimSpace(string(out)), " ")
	n, nerr := strconv.ParseInt(length, 10, 64)
	_, terr := strconv.ParseInt(modified, 10, 64)
	if !ok || nerr != nil || terr != nil || n < 0 {
		return 0, "", fmt.Errorf("%s: %q says %.100q of its length and time: %w", what, command[0], out, containerizer.ErrUnavailable)
	}
	return n, length + " " + modified, nil
}

// cat starts reading the content.
func (s *Scheme) cat(ctx context.Context, what string, command []string, target string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := s.start(ctx, command, "-cat", target)
	errs := &tail{}
	cmd.Stderr = errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, explain(ctx, what, command[0], err, errs)
	}
	return &body{what: what, name: command[0], ctx: ctx, cancel: cancel, cmd: cmd, out: out, errs: errs}, nil
}

// body is the output of a command.
type body struct {
	what, name string
	ctx        context.Context //nolint:containedctx // the reader's life is one call's
	cancel     context.CancelFunc
	cmd        *exec.Cmd
	out        io.Reader
	errs       *tail
	waited     bool
}

// Read reads the output. At its end the command has to say that it was all.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.out.Read(p)
	if errors.Is(err, io.EOF) && !b.waited {
		b.waited = true
		if werr := b.cmd.Wait(); werr != nil {
			return n, explain(b.ctx, b.what, b.name, werr, b.errs)
		}
	}
	return n, err
}

// Close ends the command.
func (b *body) Close() error {
	b.cancel()
	if !b.waited {
		b.waited = true
		_ = b.cmd.Wait() // it was killed
	}
	return nil
}

// explain makes an error of how the command ended, with its last words.
func explain(ctx context.Context, what, name string, err error, errs *tail) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if _, ok := errors.AsType[*exec.ExitError](err); !ok {
		return fmt.Errorf("%s: run %q: %w: %w", what, name, err, containerizer.ErrUnavailable)
	}
	text := errs.String()
	class := containerizer.ErrUnavailable
	switch {
	case strings.Contains(text, "No such file or directory"):
		class = containerizer.ErrNotFound
	case strings.Contains(text, "Permission denied"), strings.Contains(text, "AccessControlException"):
		class = containerizer.ErrPermission
	case strings.Contains(text, "Is a directory"):
		class = containerizer.ErrInvalid
	}
	return uri.Permanent(fmt.Errorf("%s: %q: %w: %.300q: %w", what, name, err, text, class))
}

// tail keeps the end of what a command says.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 4 << 10

// Write takes what the command says.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > tailBytes {
		t.b = bytes.Clone(t.b[len(t.b)-tailBytes:])
	}
	return len(p), nil
}

// String is its last line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.b)), "\n")
	return lines[len(lines)-1]
}
