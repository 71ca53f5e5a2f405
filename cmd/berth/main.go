//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command berth runs containers from images, without a daemon.
package main

import (
	"os"
	"runtime"

	"go.uber.org/zap/zapcore"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/provisioner/unpack/apply"
)

// version and commit are set by the linker (Makefile).
var (
	version = "dev"
	commit  = "" //nolint:gochecknoglobals // it is the linker's; the check knows version only
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == wiring.UnpackChild {
		os.Exit(apply.ChildMain(os.Args[2:]))
	}
	app := &cli.App{
		In:  os.Stdin,
		Out: os.Stdout,
		Err: os.Stderr,
		Open: func(s cli.Settings) (cli.Node, error) {
			l, err := logger(s.LogLevel)
			if err != nil {
				return nil, err
			}
			return wiring.New(s.Config, s.ConfigPath, l), nil
		},
		Version: cli.Version{Version: version, Commit: commit, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH},
	}
	os.Exit(app.Main(os.Args[1:]))
}

// logger writes to standard error, for people.
func logger(level string) (*log.Logger, error) {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, err
	}
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		TimeKey: "T", LevelKey: "L", NameKey: "N", MessageKey: "M",
		EncodeTime: zapcore.ISO8601TimeEncoder, EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeDuration: zapcore.StringDurationEncoder,
	})
	return log.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), l)), nil
}
