package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/spf13/cobra"
)

func newSystemPrune(a *App) *cobra.Command {
	var all, force, volumes bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove ended containers and unused images",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			age, err := pruneAge(filters)
			if err != nil {
				return err
			}
			what := []string{"all ended containers", "images without a name"}
			if all {
				what[1] = "all images without a container"
			}
			if volumes {
				what = append(what, "volumes without a name that no container uses")
			}
			if ok, err := a.confirm(force, strings.Join(what, ", ")); !ok {
				return err
			}
			bytes, err := a.pruneContainers(ctx, age)
			if err != nil {
				return err
			}
			n, err := a.pruneImages(ctx, containerizer.PruneOptions{All: all, OlderThan: age})
			if bytes += n; err != nil {
				return err
			}
			if volumes {
				n, err := a.pruneVolumes(ctx, false)
				if bytes += n; err != nil {
					return err
				}
			}
			return a.reclaimed(bytes)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "remove all images without a container, not only those without a name")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().BoolVar(&volumes, "volumes", false, "remove volumes without a name that no container uses, too")
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "spare what is younger (`until=DURATION`)")
	return cmd
}

func newContainerPrune(a *App) *cobra.Command {
	var force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove all ended containers",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			age, err := pruneAge(filters)
			if err != nil {
				return err
			}
			if ok, err := a.confirm(force, "all ended containers"); !ok {
				return err
			}
			bytes, err := a.pruneContainers(cmd.Context(), age)
			return errors.Join(err, a.reclaimed(bytes))
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "spare what is younger (`until=DURATION`)")
	return cmd
}

func newImagePrune(a *App) *cobra.Command {
	var all, force bool
	var filters []string
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove unused images",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			age, err := pruneAge(filters)
			if err != nil {
				return err
			}
			what := "images without a name"
			if all {
				what = "all images without a container"
			}
			if ok, err := a.confirm(force, what); !ok {
				return err
			}
			bytes, err := a.pruneImages(cmd.Context(), containerizer.PruneOptions{All: all, OlderThan: age})
			return errors.Join(err, a.reclaimed(bytes))
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "remove all images without a container, not only those without a name")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "spare what is younger (`until=DURATION`)")
	return cmd
}

// pruneAge parses --filter until=DURATION.
func pruneAge(filters []string) (time.Duration, error) {
	values, err := parseFilters(filters, "until")
	if err != nil {
		return 0, err
	}
	var age time.Duration
	for _, v := range values["until"] {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return 0, invalidf("--filter until=%s is not a duration, such as 24h", v)
		}
		age = max(age, d)
	}
	return age, nil
}

// pruneContainers removes what has ended or never ran, and says how much it had
// written.
func (a *App) pruneContainers(ctx context.Context, age time.Duration) (int64, error) {
	engine, err := a.engine(ctx)
	if err != nil {
		return 0, err
	}
	list, err := engine.List(ctx, containerizer.Filter{
		States: []containerizer.State{containerizer.StateExited, containerizer.StateCreated},
	})
	if err != nil {
		return 0, err
	}
	var bytes int64
	var all error
	for _, s := range list {
		if !s.ID.IsRoot() || time.Since(s.CreatedAt) < age {
			continue
		}
		if u, err := engine.Usage(ctx, s.ID); err == nil && u.Disk != nil {
			bytes += int64(u.Disk.Bytes) //nolint:gosec // of a disk
		}
		if err := a.destroy(ctx, engine, s.ID, s.Spec, true); err != nil {
			all = errors.Join(all, err)
			continue
		}
		if _, err := fmt.Fprintln(a.Out, s.ID); err != nil {
			return bytes, err
		}
	}
	return bytes, all
}

func (a *App) pruneImages(ctx context.Context, o containerizer.PruneOptions) (int64, error) {
	images, err := a.images(ctx)
	if err != nil {
		return 0, err
	}
	report, err := images.Prune(ctx, o)
	if err != nil {
		return 0, err
	}
	return report.ReclaimedBytes, a.removed(report.Images)
}
