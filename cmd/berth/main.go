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

	"github.com/berth-dev/berth/cmd/berth/cli"
	_ "github.com/berth-dev/berth/cmd/internal/faststart" // first of all
	"github.com/berth-dev/berth/cmd/internal/wiring"
)

// version and commit are set by the linker (Makefile).
var (
	version = "dev"
	commit  = "" //nolint:gochecknoglobals // it is the linker's; the check knows version only
)

func main() {
	if !cli.Quick(os.Args[1:]) {
		os.Exit(elsewhere(cli.ProgramImages))
	}
	app := &cli.App{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Open: open, Become: wiring.Become,
		Version: cli.Version{Version: version, Commit: commit, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH},
	}
	os.Exit(app.Main(os.Args[1:]))
}

func open(s cli.Settings) (cli.Node, error) {
	switch socket, err := s.Daemon(); {
	case err != nil:
		return nil, err
	case socket != "":
		return nil, cli.ErrDaemon
	}
	log, err := wiring.Logger(s.LogLevel)
	if err != nil {
		return nil, err
	}
	return wiring.New(s.Config, s.ConfigPath, log, wiring.Parts{
		Fetcher: newNames, Artifacts: newArtifacts, Verifier: judgeElsewhere{}, CDI: newDevices,
	}), nil
}

// elsewhere becomes another program of berth. It returns, with the code to exit with,
// only when that fails.
func elsewhere(program string) int {
	_, _ = fmt.Fprintf(os.Stderr, "berth: %s\n", wiring.Become(program))
	return cli.ExitError
}
