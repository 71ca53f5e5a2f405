package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/containerizer"
)

func newPause(a *App) *cobra.Command {
	return a.eachCommand("pause", "Stop all processes of containers where they are", []containerizer.State{containerizer.StateRunning},
		func(ctx context.Context, e containerizer.Engine, id containerizer.ContainerID) error {
			return e.Pause(ctx, id)
		})
}

func newUnpause(a *App) *cobra.Command {
	return a.eachCommand("unpause", "Let paused containers go on", []containerizer.State{containerizer.StatePaused},
		func(ctx context.Context, e containerizer.Engine, id containerizer.ContainerID) error {
			return e.Resume(ctx, id)
		})
}
