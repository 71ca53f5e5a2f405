package launcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
	"github.com/berth-dev/berth/containerizer/monitor/client"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// globals are the arguments of the runtime before its command.
func (f *foreign) globals(dir string) []string {
	args := append([]string{f.Path}, f.Options...)
	return append(args, "--root", filepath.Join(f.dir, foreignState), "--log", filepath.Join(dir, foreignLog), "--log-format", "json")
}

// program is the process that executes the runtime from dir.
func (f *foreign) program(c *containerizer.Container, args []string, dir string) *launch.Config {
	return &launch.Config{
		ID: c.ID, Info: &containerizer.LaunchInfo{}, PivotDir: f.rootfs(), IsDir: isDir,
		Process: launch.Process{
			Path: f.Path, Args: append(f.globals(dir), args...), Env: []string{"PATH=" + launch.DefaultPath}, WorkingDir: dir, Umask: defaultUmask,
		},
	}
}

// console adds the socket for the terminal. It is relative to the working directory,
// because addresses of sockets are short.
func (f *foreign) console(args []string, p *containerizer.Process) []string {
	if p.Terminal {
		return append(args, "--console-socket", foreignConsole)
	}
	return args
}

// command runs a command of the runtime that ends by itself. It dies with this process.
func (f *foreign) command(ctx context.Context, args ...string) error {
	_ = os.Remove(filepath.Join(f.dir, foreignLog)) // of the last one
	all := append(f.globals(f.dir), args...)
	err := runHook(ctx, &specs.Hook{Path: f.Path, Args: all, Env: []string{"PATH=" + launch.DefaultPath}}, f.dir, nil)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if said := lastError(f.dir); said != "" {
		err = errors.New(said)
	}
	return fmt.Errorf("%s %s: %w", f.Name, args[0], commandError(err.Error()))
}

// explain adds what the runtime has logged to the failure of a launch.
func (f *foreign) explain(dir string, err error) error {
	said := lastError(dir)
	if said == "" {
		return fmt.Errorf("OCI runtime %q: %w", f.Name, err)
	}
	return fmt.Errorf("OCI runtime %q: %w", f.Name, commandError(said))
}

// lastError is the last error in a runtime's log.
func lastError(dir string) string {
	text, err := os.ReadFile(filepath.Join(dir, foreignLog))
	if err != nil {
		return ""
	}
	said := ""
	for line := range bytes.Lines(text) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && entry.Level == "error" {
			said = entry.Msg
		}
	}
	return strings.ToValidUTF8(said, "\uFFFD")
}

// commandError gives what a runtime says the class of errors of commands, if it is one.
func commandError(said string) error {
	about := strings.Contains(said, "exec") || strings.Contains(said, "stat ")
	switch {
	case about && (strings.Contains(said, "executable file") && strings.Contains(said, "not found") || strings.Contains(strings.ToLower(said), "no such file or directory")):
		return fmt.Errorf("%s: %w", said, containerizer.ErrCommandNotFound)
	case about && strings.Contains(strings.ToLower(said), "permission denied"):
		return fmt.Errorf("%s: %w", said, containerizer.ErrCommandNotExecutable)
	}
	return errors.New(said)
}

// place is where a runtime leaves what it has made.
type place struct{ dir, console *os.File }

// place opens dir for the monitor.
func (f *foreign) place(dir string, request *client.LaunchRequest) (*place, error) {
	p := &place{}
	var err error
	for _, name := range []string{wire.AdoptFile, foreignConsole, foreignLog} {
		if err = os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("make room for an OCI runtime: %w", err)
		}
	}
	if p.dir, err = openDir(dir); err != nil {
		return nil, err
	}
	request.Adopt = &client.Adopt{Dir: int(p.dir.Fd())}
	if request.Stdio != wire.StdioPty {
		return p, nil
	}
	if p.console, err = listenIn(p.dir, foreignConsole); err != nil {
		p.close()
		return nil, err
	}
	request.Adopt.Console = int(p.console.Fd())
	return p, nil
}

func (p *place) close() {
	for _, f := range []*os.File{p.dir, p.console} {
		if f != nil {
			_ = f.Close() // nothing was written
		}
	}
}

// listenIn listens on a socket in a directory, whose path may be too long for an address.
func listenIn(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make the console socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)})
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make the console socket: %w", err)
	}
	return f, nil
}

// signal sends sig to c's process, by the runtime.
func (f *foreign) signal(ctx context.Context, c *containerizer.Container, sig int) error {
	p, err := openProcess(c)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	if err = f.command(ctx, "kill", f.ID, strconv.Itoa(sig)); err == nil {
		return nil
	}
	if again, gone := openProcess(c); gone != nil { // it has ended meanwhile
		return gone
	} else if again != nil {
		_ = again.Close()
	}
	return fmt.Errorf("send signal %d to container %q: %w", sig, c.ID, err)
}
