// Command berth runs containers from images, without a daemon.
package main

import (
	"os"
	"runtime"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/cmd/internal/wiring"
)

// Set by the linker (Makefile).
var (
	version = "dev"
	commit  = ""
)

func main() {
	app := &cli.App{
		In:  os.Stdin,
		Out: os.Stdout,
		Err: os.Stderr,
		Open: func(s cli.Settings) (cli.Node, error) {
			return wiring.New(s.Config), nil
		},
		Version: cli.Version{Version: version, Commit: commit, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH},
	}
	os.Exit(app.Main(os.Args[1:]))
}
