package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/terminal"
	"github.com/berth-dev/berth/containerizer"
)

// startFlags are the flags of start.
type startFlags struct {
	attach, interactive, sigProxy bool
	detachKeys                    string
}

func newStart(a *App) *cobra.Command {
	f := &startFlags{}
	cmd := &cobra.Command{
		Use:               "start [flags] CONTAINER...",
		Short:             "Start created or ended containers",
		Args:              needContainers,
		ValidArgsFunction: a.completeContainers(containerizer.StateCreated, containerizer.StateExited),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.attach || f.interactive {
				if len(args) > 1 {
					return invalidf("only one container can be attached to at a time")
				}
				return a.startAttached(cmd.Context(), f, args[0])
			}
			return a.each(cmd.Context(), args, func(e containerizer.Engine, id containerizer.ContainerID) error {
				status, err := e.Status(cmd.Context(), id)
				if err != nil || status.State == containerizer.StateRunning {
					return err
				}
				_, err = e.Start(cmd.Context(), id, containerizer.LaunchOptions{})
				return err
			})
		},
	}
	set := cmd.Flags()
	set.BoolVarP(&f.attach, "attach", "a", false, "connect to output and pass on signals")
	set.BoolVarP(&f.interactive, "interactive", "i", false, "connect to standard input too")
	set.BoolVar(&f.sigProxy, "sig-proxy", true, "pass signals on to the process (without a terminal)")
	set.StringVar(&f.detachKeys, "detach-keys", terminal.DefaultDetachKeys, "`keys` that leave the container running")
	return cmd
}

func (a *App) startAttached(ctx context.Context, f *startFlags, name string) error {
	engine, status, err := a.find(ctx, name)
	if err != nil {
		return err
	}
	if status.State == containerizer.StateRunning || status.State == containerizer.StatePaused {
		return sentencef(containerizer.ErrFailedPrecondition, "container %q is %s; use attach", name, status.State)
	}
	p := &status.Spec.Process
	s, err := a.newSession(ctx, streams{
		stdin: f.interactive && p.Stdin, stdout: true, stderr: true,
		tty: p.Terminal, sigProxy: f.sigProxy, detachKeys: f.detachKeys,
	})
	if err != nil {
		return err
	}
	var session containerizer.Session
	err = s.launching(func() error {
		session, err = engine.Start(ctx, status.ID, containerizer.LaunchOptions{Attach: &s.io})
		return err
	})
	if err != nil {
		return err
	}
	t, err := s.follow(ctx, a.containerTarget(engine, status.ID, session))
	switch {
	case errors.Is(err, errDetached):
		return nil
	case err != nil:
		return err
	}
	if status.Spec.AutoRemove && len(anonymousVolumes(status.Spec)) > 0 { // the rest goes by itself
		if err := a.destroy(context.WithoutCancel(ctx), engine, status.ID, status.Spec); err != nil {
			_, _ = fmt.Fprintf(a.Err, "berth: remove the container: %s\n", message(err))
		}
	}
	a.explain(t)
	return terminated(t)
}

// containerTarget is a container's own process.
func (a *App) containerTarget(e containerizer.Engine, id containerizer.ContainerID, s containerizer.Session) target {
	return target{
		session: s,
		wait:    func(ctx context.Context) (*containerizer.Termination, error) { return e.Wait(ctx, id) },
		signal:  func(ctx context.Context, sig int) error { return e.Kill(ctx, id, sig, false) },
	}
}
