package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/terminal"
	"github.com/berth-dev/berth/containerizer"
)

func newAttach(a *App) *cobra.Command {
	var noStdin, sigProxy bool
	var detachKeys string
	cmd := &cobra.Command{
		Use:               "attach [flags] CONTAINER",
		Short:             "Connect to the streams of a running container",
		Args:              needContainer,
		ValidArgsFunction: a.completeContainers(containerizer.StateRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.attach(cmd.Context(), args[0], streams{
				stdin: !noStdin, stdout: true, stderr: true, sigProxy: sigProxy, detachKeys: detachKeys,
			})
		},
	}
	set := cmd.Flags()
	set.BoolVar(&noStdin, "no-stdin", false, "do not connect standard input")
	set.BoolVar(&sigProxy, "sig-proxy", true, "pass signals on to the process (without a terminal)")
	set.StringVar(&detachKeys, "detach-keys", terminal.DefaultDetachKeys, "`keys` that leave the container running")
	return cmd
}

func (a *App) attach(ctx context.Context, name string, o streams) error {
	engine, status, err := a.find(ctx, name)
	if err != nil {
		return err
	}
	switch status.State {
	case containerizer.StateRunning:
	case containerizer.StatePaused:
		return sentencef(containerizer.ErrFailedPrecondition, "container %q is paused; unpause it first", name)
	default:
		return sentencef(containerizer.ErrFailedPrecondition, "container %q is %s, not running", name, status.State)
	}
	o.tty = status.Spec.Process.Terminal
	o.stdin = o.stdin && status.Spec.Process.Stdin
	s, err := a.newSession(ctx, o)
	if err != nil {
		return err
	}
	var session containerizer.Session
	err = s.launching(func() error {
		session, err = engine.Attach(ctx, status.ID, s.io)
		return err
	})
	if err != nil {
		return err
	}
	t, err := s.follow(ctx, a.containerTarget(engine, status.ID, session))
	if errors.Is(err, errDetached) {
		return nil
	}
	if err != nil {
		return err
	}
	return terminated(t)
}
