//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command berth-mesos is the command line of berth with what speaks Mesos's protocols. The
// command berth becomes it (execve(2)) for `berth mesos`: it alone links their messages.
package main

import (
	"context"
	"io"
	"os"
	"runtime"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/cmd/internal/fetching"
	"github.com/berth-dev/berth/cmd/internal/weburl"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/external"
	"github.com/berth-dev/berth/provisioner/trust"
)

// version and commit are set by the linker (Makefile).
var (
	version = "dev"
	commit  = "" //nolint:gochecknoglobals // it is the linker's; the check knows version only
)

func main() {
	app := &cli.App{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Open: open, OpenURL: weburl.Open, Become: wiring.Become, External: serve,
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
	berth, err := wiring.Program("berth")
	if err != nil {
		return nil, err
	}
	return wiring.New(s.Config, s.ConfigPath, log, wiring.Parts{
		Fetcher: fetching.New, Accounts: fetching.NewAccounts, Artifacts: fetching.Artifacts,
		Verifier: trust.Verifier{}, Unpack: fetching.Unpacker(), Command: berth,
	}), nil
}

// serve serves a call of an agent.
func serve(ctx context.Context, n cli.Node, s *cli.Settings, command string, in io.Reader, out io.Writer) error {
	engine, err := n.Engine(ctx)
	if err != nil {
		return err
	}
	images, err := n.Images(ctx)
	if err != nil {
		return err
	}
	artifacts, err := n.Artifacts(ctx)
	if err != nil {
		return err
	}
	c := external.New(external.Parts{Engine: engine, Images: images, Artifacts: artifacts}, external.Options{
		Environ: os.Environ(), EnableCFS: s.Mesos.CgroupsEnableCFS,
	})
	return c.Serve(ctx, command, in, out)
}
