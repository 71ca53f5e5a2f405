package cli

import (
	"fmt"
	"strings"

	"github.com/berth-dev/berth/containerizer"
	"github.com/spf13/cobra"
)

func newPort(a *App) *cobra.Command {
	return &cobra.Command{
		Use:   "port CONTAINER [PORT[/PROTOCOL]]",
		Short: "Show the published ports of a container",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return invalidf("%s needs a container, and at most one port", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: a.completeContainers(containerizer.StateRunning),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, status, err := a.find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			want := ""
			if len(args) == 2 {
				if want = args[1]; !strings.Contains(want, "/") {
					want += "/tcp"
				}
			}
			found := false
			for _, p := range status.Ports {
				name := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
				if want != "" && name != want {
					continue
				}
				found = true
				line := fmt.Sprintf("%s:%d", hostAddress(p), p.HostPort)
				if want == "" {
					line = name + " -> " + line
				}
				if _, err := fmt.Fprintln(a.Out, line); err != nil {
					return err
				}
			}
			if want != "" && !found {
				return sentencef(containerizer.ErrNotFound, "container %q publishes no port %s", args[0], want)
			}
			return nil
		},
	}
}
