//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command berth-images is the whole command line of berth. The command berth becomes
// it (execve(2)) for everything but the life of containers whose images are there:
// it alone links what speaks to registries. Layers it has berth-unpack unpack.
package main

import (
	"os"
	"runtime"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/cmd/internal/fetching"
	"github.com/berth-dev/berth/cmd/internal/weburl"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/provisioner/trust"
)

// version and commit are set by the linker (Makefile).
var (
	version = "dev"
	commit  = "" //nolint:gochecknoglobals // it is the linker's; the check knows version only
)

func main() {
	app := &cli.App{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Open: open, OpenURL: weburl.Open, Become: wiring.Become,
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
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	berth, err := wiring.Program("berth")
	if err != nil { // then this one does all
		berth = self
	}
	return wiring.New(s.Config, s.ConfigPath, log, wiring.Parts{
		Fetcher: fetching.New, Accounts: fetching.NewAccounts, Artifacts: fetching.Artifacts,
		CDI: fetching.CDI, Verifier: trust.Verifier{}, Unpack: fetching.Unpacker(), Command: berth,
	}), nil
}
