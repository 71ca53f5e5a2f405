package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/containerizer"
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
			if len(args) == 1 {
				return a.allPorts(status)
			}
			return a.onePort(status, args[0], args[1])
		},
	}
}

func portName(p containerizer.PortMapping) string {
	return fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
}

func (a *App) allPorts(s *containerizer.Status) error {
	for _, p := range s.Ports {
		if _, err := fmt.Fprintf(a.Out, "%s -> %s:%d\n", portName(p), hostAddress(p), p.HostPort); err != nil {
			return err
		}
	}
	return nil
}

func (a *App) onePort(s *containerizer.Status, name, want string) error {
	if !strings.Contains(want, "/") {
		want += "/tcp"
	}
	found := false
	for _, p := range s.Ports {
		if portName(p) != want {
			continue
		}
		found = true
		if _, err := fmt.Fprintf(a.Out, "%s:%d\n", hostAddress(p), p.HostPort); err != nil {
			return err
		}
	}
	if !found {
		return sentencef(containerizer.ErrNotFound, "container %q publishes no port %s", name, want)
	}
	return nil
}
