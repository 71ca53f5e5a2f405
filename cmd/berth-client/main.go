//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command berth-client is the command line of berth over a daemon's socket. The command
// berth becomes it (execve(2)) where berthd listens: it alone links what speaks to it.
package main

import (
	"fmt"
	"os"
	"runtime"

	"github.com/berth-dev/berth/cmd/berth/cli"
	_ "github.com/berth-dev/berth/cmd/internal/faststart" // first of all
	"github.com/berth-dev/berth/cmd/internal/remote"
	"github.com/berth-dev/berth/cmd/internal/weburl"
	"github.com/berth-dev/berth/containerizer"
)

// version and commit are set by the linker (Makefile).
var (
	version = "dev"
	commit  = "" //nolint:gochecknoglobals // it is the linker's; the check knows version only
)

func main() {
	app := &cli.App{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Open: open, OpenURL: weburl.Open,
		Version: cli.Version{Version: version, Commit: commit, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH},
	}
	os.Exit(app.Main(os.Args[1:]))
}

func open(s cli.Settings) (cli.Node, error) {
	target, err := s.Daemon()
	if err != nil {
		return nil, err
	}
	if target == "" {
		return nil, fmt.Errorf("berthd does not listen any more at %q: %w", s.Socket(s.State), containerizer.ErrUnavailable)
	}
	return remote.New(target, s.TLS)
}
