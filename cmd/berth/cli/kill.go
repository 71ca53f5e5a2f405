package cli

import (
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

func newKill(a *App) *cobra.Command {
	var name string
	var all bool
	cmd := &cobra.Command{
		Use:               "kill [flags] CONTAINER...",
		Short:             "Send a signal to containers",
		Args:              needContainers,
		ValidArgsFunction: a.completeContainers(containerizer.StateRunning, containerizer.StatePaused),
		RunE: func(cmd *cobra.Command, args []string) error {
			sig, err := parseSignal(name)
			if err != nil {
				return err
			}
			return a.each(cmd.Context(), args, func(e containerizer.Engine, id containerizer.ContainerID) error {
				return e.Kill(cmd.Context(), id, sig, all)
			})
		},
	}
	cmd.Flags().StringVarP(&name, "signal", "s", "KILL", "`signal` to send, by name or number")
	cmd.Flags().BoolVar(&all, "all", false, "send it to all processes of the container")
	return cmd
}

// parseSignal parses "9", "KILL", "SIGKILL", "RTMIN+3".
func parseSignal(s string) (int, error) {
	const rtMin, rtMax = 34, 64 // as the C library has them
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > rtMax {
			return 0, invalidf("signal %d is not within 1 and %d", n, rtMax)
		}
		return n, nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for prefix, base := range map[string]int{"RTMIN": rtMin, "RTMAX": rtMax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		offset := 0
		if rest != "" {
			var err error
			if offset, err = strconv.Atoi(rest); err != nil {
				break
			}
		}
		if n := base + offset; n >= rtMin && n <= rtMax {
			return n, nil
		}
	}
	if n := unix.SignalNum("SIG" + name); n != syscall.Signal(0) {
		return int(n), nil
	}
	return 0, invalidf("no signal %q", s)
}
