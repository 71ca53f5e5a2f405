package cli

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
)

// errMesos is what a program answers that does not speak Mesos: the command begins anew
// in the one that does.
var errMesos = errors.New("berth-mesos has to do this")

// External serves a call of an agent of Mesos to its external containerizer.
type External func(ctx context.Context, n Node, s *Settings, command string, in io.Reader, out io.Writer) error

func newMesosGroup(a *App) *cobra.Command {
	external := group("external", "Be the external containerizer of a Mesos agent (0.19 to 1.0)",
		newExternal(a, "launch", "Launch the executor that is described on standard input"),
		newExternal(a, "wait", "Wait for the end of a container, and tell it on standard output"),
		newExternal(a, "update", "Change what a container may use"),
		newExternal(a, "usage", "Measure a container"),
		newExternal(a, "destroy", "End a container"),
		newExternal(a, "containers", "List the containers that live"),
		newExternal(a, "recover", "Put right what calls left that were cut off"),
	)
	external.Long = `An agent is started with --containerizers=external and --containerizer_path=PROGRAM, a program that executes
"berth mesos external" with its own arguments. Messages are protobuf, each behind its length in four bytes.`
	return group("mesos", "Speak the protocols of Mesos", external)
}

func newExternal(a *App, command, short string) *cobra.Command {
	return &cobra.Command{
		Use: command, Short: short, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.External == nil {
				return errMesos
			}
			a.here = true // containers write their files themselves, which no daemon can let them
			n, err := a.openNode()
			if err != nil {
				return err
			}
			return a.External(cmd.Context(), n, a.settings, command, a.In, a.Out)
		},
	}
}
