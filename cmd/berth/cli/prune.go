package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// pruneFlags are the flags of the commands that prune.
type pruneFlags struct {
	all, force, volumes, artifacts bool
	filters                        []string
}

func (f *pruneFlags) register(set *pflag.FlagSet) {
	set.BoolVarP(&f.force, "force", "f", false, "do not ask")
	set.StringArrayVar(&f.filters, "filter", nil, "spare what is younger (`until=DURATION`)")
}

// confirm asks on the terminal whether to remove what is described.
func (f *pruneFlags) confirm(a *App, what ...string) (bool, error) {
	if f.force {
		return true, nil
	}
	if _, err := fmt.Fprintf(a.Err, "This removes %s. Go on? [y/N] ", strings.Join(what, ", ")); err != nil {
		return false, err
	}
	answer := make([]byte, 16)
	n, err := a.In.Read(answer)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return n > 0 && (answer[0] == 'y' || answer[0] == 'Y'), nil
}

// age parses --filter until=DURATION.
func (f *pruneFlags) age() (time.Duration, error) {
	values, err := parseFilters(f.filters, "until")
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

// images describes the images that go.
func (f *pruneFlags) images() string {
	if f.all {
		return "all images without a container"
	}
	return "images without a name"
}

// pruneCommand is a command that prunes after it has asked.
func (a *App) pruneCommand(short string, what func(*pruneFlags) []string, prune func(context.Context, *pruneFlags, time.Duration) (int64, error)) (*cobra.Command, *pruneFlags) {
	f := &pruneFlags{}
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: short,
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			age, err := f.age()
			if err != nil {
				return err
			}
			if ok, err := f.confirm(a, what(f)...); !ok {
				return err
			}
			bytes, err := prune(cmd.Context(), f, age)
			if a.node != nil { // volumes are pruned without
				err = errors.Join(err, a.node.Sweep(cmd.Context()))
			}
			return errors.Join(err, a.reclaimed(bytes))
		},
	}
	f.register(cmd.Flags())
	return cmd, f
}

func newSystemPrune(a *App) *cobra.Command {
	what := func(f *pruneFlags) []string {
		list := []string{"all ended containers", f.images()}
		if f.volumes {
			list = append(list, "volumes without a name that no container uses")
		}
		if f.artifacts {
			list = append(list, "all cached artifacts")
		}
		return list
	}
	cmd, f := a.pruneCommand("Remove ended containers and unused images", what, a.pruneSystem)
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "remove all images without a container, not only those without a name")
	cmd.Flags().BoolVar(&f.volumes, "volumes", false, "remove volumes without a name that no container uses, too")
	cmd.Flags().BoolVar(&f.artifacts, "artifacts", false, "empty the cache of artifacts, too")
	return cmd
}

func (a *App) pruneSystem(ctx context.Context, f *pruneFlags, age time.Duration) (int64, error) {
	total, err := a.pruneContainers(ctx, f, age)
	if err != nil {
		return total, err
	}
	n, err := a.pruneImages(ctx, f, age)
	total += n
	if err == nil && f.volumes {
		n, err = a.pruneVolumes(ctx, anonymousName)
		total += n
	}
	if err == nil && f.artifacts {
		n, err = a.pruneArtifacts(ctx, age)
		total += n
	}
	return total, err
}

func (a *App) pruneArtifacts(ctx context.Context, age time.Duration) (int64, error) {
	artifacts, err := a.artifacts(ctx)
	if err != nil {
		return 0, err
	}
	return artifacts.PruneCache(ctx, age)
}

func newContainerPrune(a *App) *cobra.Command {
	what := func(*pruneFlags) []string { return []string{"all ended containers"} }
	cmd, _ := a.pruneCommand("Remove all ended containers", what, a.pruneContainers)
	return cmd
}

func newImagePrune(a *App) *cobra.Command {
	what := func(f *pruneFlags) []string { return []string{f.images()} }
	cmd, f := a.pruneCommand("Remove unused images", what, a.pruneImages)
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "remove all images without a container, not only those without a name")
	return cmd
}

// pruneContainers removes what has ended or never ran, and says how much it had
// written.
func (a *App) pruneContainers(ctx context.Context, _ *pruneFlags, age time.Duration) (int64, error) {
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
			bytes += int64(u.Disk.Bytes)
		}
		if err := a.destroy(ctx, engine, s.ID, s.Spec); err != nil {
			all = errors.Join(all, err)
			continue
		}
		if _, err := fmt.Fprintln(a.Out, s.ID); err != nil {
			return bytes, err
		}
	}
	return bytes, all
}

func (a *App) pruneImages(ctx context.Context, f *pruneFlags, age time.Duration) (int64, error) {
	images, err := a.images(ctx)
	if err != nil {
		return 0, err
	}
	report, err := images.Prune(ctx, containerizer.PruneOptions{All: f.all, OlderThan: age})
	if err != nil {
		return 0, err
	}
	return report.ReclaimedBytes, a.removed(report.Images)
}
