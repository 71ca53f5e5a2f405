package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/specflag"
	"github.com/berth-dev/berth/cmd/berth/internal/terminal"
	"github.com/berth-dev/berth/containerizer"
)

// execFlags are the flags of exec.
type execFlags struct {
	specflag.ProcessFlags
	detach     bool
	detachKeys string
}

func newExec(a *App) *cobra.Command {
	f := &execFlags{}
	cmd := &cobra.Command{
		Use:   "exec [flags] CONTAINER COMMAND [ARG...]",
		Short: "Run a command in a running container",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return invalidf("%s needs a container and a command", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: a.completeContainers(containerizer.StateRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.exec(cmd.Context(), f, args[0], args[1:])
		},
	}
	set := cmd.Flags()
	set.SetInterspersed(false)
	f.Register(set)
	set.BoolVarP(&f.detach, "detach", "d", false, "do not wait for the command")
	set.StringVar(&f.detachKeys, "detach-keys", terminal.DefaultDetachKeys, "`keys` that leave the command running")
	return cmd
}

func (a *App) exec(ctx context.Context, f *execFlags, name string, command []string) error {
	process, err := f.Process(host{ctx: ctx, app: a}, command)
	if err != nil {
		return err
	}
	engine, err := a.engine(ctx)
	if err != nil {
		return err
	}
	id, err := resolve(ctx, engine, name)
	if err != nil {
		return err
	}
	if f.detach {
		p, err := engine.Exec(ctx, id, process, nil)
		if err != nil {
			return err
		}
		return p.Close()
	}
	process.StdinOnce = process.Stdin && !process.Terminal
	if process.Terminal {
		process.ConsoleSize = a.consoleSize()
	}
	s, err := a.newSession(ctx, streams{
		stdin: process.Stdin, stdout: true, stderr: true, tty: process.Terminal,
		detachKeys: f.detachKeys, sigProxy: true,
	})
	if err != nil {
		return err
	}
	var p containerizer.ExecProcess
	err = s.launching(func() error {
		p, err = engine.Exec(ctx, id, process, &s.io)
		return err
	})
	if err != nil {
		return err
	}
	t, err := s.follow(ctx, target{session: p.Session(), wait: p.Wait, signal: p.Signal})
	err = errors.Join(ignore(err, errDetached), p.Close())
	if err != nil || t == nil {
		return err
	}
	return terminated(t)
}

// ignore is nil for one error and the identity for others.
func ignore(err, which error) error {
	if errors.Is(err, which) {
		return nil
	}
	return err
}
