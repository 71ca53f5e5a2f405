// Command berth-launches measures launches through an embedded engine in one process,
// as a daemon makes them. It is for the benchmark (test/bench), and not installed.
//
// The first line of its input is a specification in JSON, every further one the id of
// a container to launch from it, to wait for and to destroy. For each it writes a line:
// nanoseconds passed, and nanoseconds of processor time of this process and those it
// reaped.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/cmd/internal/fetching"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/trust"
)

func main() {
	root := flag.String("root", config.DefaultRoot, "`directory` of images and containers")
	state := flag.String("state", config.DefaultState, "`directory` of what does not outlive a reboot")
	flag.Parse()
	if err := run(context.Background(), config.Config{Root: *root, State: *state}, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "berth-launches:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cfg config.Config, in io.Reader, out io.Writer) error {
	log, err := wiring.Logger("warn")
	if err != nil {
		return err
	}
	berth, err := wiring.Program("berth") // for teardowns that nobody waits for
	if err != nil {
		return err
	}
	node := wiring.New(cfg, "", log, wiring.Parts{Fetcher: fetching.New, Verifier: trust.Verifier{}, Command: berth, Resident: true, SpareMonitors: 2})
	engine, err := node.Engine(ctx)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		return fmt.Errorf("there is no specification on standard input: %w", io.ErrUnexpectedEOF)
	}
	var spec containerizer.Spec
	if err := json.Unmarshal(lines.Bytes(), &spec); err != nil {
		return fmt.Errorf("decode the specification: %w", err)
	}
	for lines.Scan() {
		if err := launch(ctx, engine, containerizer.ContainerID(lines.Text()), spec, out); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return node.Close() //nolint:contextcheck // as in the command
}

func launch(ctx context.Context, engine containerizer.Engine, id containerizer.ContainerID, spec containerizer.Spec, out io.Writer) error {
	before, start := processorTime(), time.Now()
	if _, err := engine.Launch(ctx, id, &spec, containerizer.LaunchOptions{}); err != nil {
		return err
	}
	t, err := engine.Wait(ctx, id)
	if err != nil {
		return err
	}
	if t.ExitCode != 0 {
		return fmt.Errorf("container %q exited with %d", id, t.ExitCode)
	}
	if err := engine.Destroy(ctx, id); err != nil {
		return err
	}
	passed := time.Since(start)
	_, err = fmt.Fprintln(out, passed.Nanoseconds(), (processorTime() - before).Nanoseconds())
	return err
}

// processorTime is that of this process and of the processes that it reaped.
func processorTime() time.Duration {
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if unix.Getrusage(who, &r) == nil { // it cannot fail
			sum += time.Duration(r.Utime.Nano() + r.Stime.Nano())
		}
	}
	return sum
}
