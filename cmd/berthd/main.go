// Command berthd is the node service of berth: it serves the API of berth.v1 over the
// containers and images that `berth` works on, and may die at any time.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// version and commit are set by the linker (Makefile).
var (
	version = "dev"
	commit  = "" //nolint:gochecknoglobals // it is the linker's; the check knows version only
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "berthd: %s\n", err)
		os.Exit(1) //nolint:gocritic // stop only restores signals
	}
}
