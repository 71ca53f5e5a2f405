package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// stopFlags say how containers are stopped.
type stopFlags struct {
	seconds int
	signal  string
}

func (f *stopFlags) register(set *pflag.FlagSet) {
	set.IntVarP(&f.seconds, "time", "t", 0, "`seconds` to wait before SIGKILL; -1 waits for ever (default: the container's, else 10)")
	set.IntVar(&f.seconds, "timeout", 0, "the same as --time")
	set.Lookup("timeout").Hidden = true
	set.StringVarP(&f.signal, "signal", "s", "", "`signal` to send instead of the container's stop signal")
}

// stop stops a container.
func (f *stopFlags) stop(ctx context.Context, set *pflag.FlagSet, e containerizer.Engine, id containerizer.ContainerID) error {
	var timeout *time.Duration
	if set.Changed("time") || set.Changed("timeout") {
		d := time.Duration(f.seconds) * time.Second
		if f.seconds < 0 {
			d = 1<<63 - 1
		}
		timeout = &d
	}
	if f.signal == "" {
		return e.Stop(ctx, id, timeout)
	}
	sig, err := parseSignal(f.signal)
	if err != nil {
		return err
	}
	status, err := e.Status(ctx, id)
	if err != nil || !status.State.Alive() {
		return err
	}
	if err := e.Kill(ctx, id, sig, false); err != nil {
		return err
	}
	wait := 10 * time.Second
	switch {
	case timeout != nil:
		wait = *timeout
	case status.Spec != nil && status.Spec.StopTimeout != nil:
		wait = *status.Spec.StopTimeout
	}
	patient, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if _, err := e.Wait(patient, id); err == nil || ctx.Err() != nil {
		return err
	}
	now := time.Duration(0)
	return e.Stop(ctx, id, &now)
}

func newStop(a *App) *cobra.Command {
	f := &stopFlags{}
	cmd := &cobra.Command{
		Use:               "stop [flags] CONTAINER...",
		Short:             "Ask containers to end, and kill those that do not",
		Args:              needContainers,
		ValidArgsFunction: a.completeContainers(containerizer.StateRunning, containerizer.StatePaused),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd.Context(), args, func(e containerizer.Engine, id containerizer.ContainerID) error {
				return f.stop(cmd.Context(), cmd.Flags(), e, id)
			})
		},
	}
	f.register(cmd.Flags())
	return cmd
}

func newRestart(a *App) *cobra.Command {
	f := &stopFlags{}
	cmd := &cobra.Command{
		Use:               "restart [flags] CONTAINER...",
		Short:             "Stop containers and start them again",
		Args:              needContainers,
		ValidArgsFunction: a.completeContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd.Context(), args, func(e containerizer.Engine, id containerizer.ContainerID) error {
				if err := f.stop(cmd.Context(), cmd.Flags(), e, id); err != nil {
					return err
				}
				_, err := e.Start(cmd.Context(), id, containerizer.LaunchOptions{})
				return err
			})
		},
	}
	f.register(cmd.Flags())
	return cmd
}
