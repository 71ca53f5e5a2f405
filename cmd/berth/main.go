//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command berth runs containers from images, without a daemon.
//
// It links what the life of a container needs and nothing else, since every page
// that a start touches counts (decisions/0002). For the rest, such as fetching the
// image of a run, it becomes berth-images, with the same arguments.
package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/cmd/internal/wiring"
)

// version and commit are set by the linker (Makefile).
var (
	version = "dev"
	commit  = "" //nolint:gochecknoglobals // it is the linker's; the check knows version only
)

func main() {
	runtime.GOMAXPROCS(1) // it mostly waits; each further one has a heap cache and threads to begin with
	if !cli.Quick(os.Args[1:]) {
		os.Exit(elsewhere())
	}
	app := &cli.App{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Open: open, Elsewhere: elsewhere,
		Version: cli.Version{Version: version, Commit: commit, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH},
	}
	os.Exit(app.Main(os.Args[1:]))
}

func open(s cli.Settings) (cli.Node, error) {
	log, err := wiring.Logger(s.LogLevel)
	if err != nil {
		return nil, err
	}
	return wiring.New(s.Config, s.ConfigPath, log, wiring.Parts{
		Fetcher: newNames, Artifacts: newArtifacts, Verifier: judgeElsewhere{},
	}), nil
}

// elsewhere becomes berth-images. It returns, with the code to exit with, only when
// that fails.
func elsewhere() int {
	path, err := wiring.Program("berth-images")
	if err == nil {
		if err = syscall.Exec(path, os.Args, os.Environ()); err != nil {
			err = fmt.Errorf("execute %q: %w", path, err)
		}
	}
	_, _ = fmt.Fprintf(os.Stderr, "berth: %s\n", err)
	return cli.ExitError
}
