package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/cmd/berth/internal/volume"
	"github.com/berth-dev/berth/containerizer"
)

// pruneFlags are the flags of the commands that prune.
type pruneFlags struct {
	all, force, volumes, artifacts bool
	filters                        []string
}

func (f *pruneFlags) register(set *pflag.FlagSet) {
	set.BoolVarP(&f.force, "force", "f", false, "do not ask")
	set.StringArrayVar(&f.filters, "filter", nil, "remove only what is older (until=DURATION) and has a label, or not (label=KEY[=VALUE], label!=KEY[=VALUE]): `KEY=VALUE`")
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

// selection is what is left of a prune after its filters.
type selection struct {
	age           time.Duration
	with, without []string // labels
}

// parse parses the filters.
func (f *pruneFlags) parse() (*selection, error) {
	values, err := parseFilters(f.filters, "until", "label", "label!")
	if err != nil {
		return nil, err
	}
	s := &selection{with: values["label"], without: values["label!"]}
	for _, v := range values["until"] {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return nil, invalidf("--filter until=%s is not a duration, such as 24h", v)
		}
		s.age = max(s.age, d)
	}
	return s, nil
}

// takes says whether something goes that was made then and has these labels.
func (s *selection) takes(made time.Time, labels map[string]string) bool {
	has := func(l string) bool { return hasLabel(labels, l) }
	missing := slices.ContainsFunc(s.with, func(l string) bool { return !has(l) })
	return !missing && !slices.ContainsFunc(s.without, has) && time.Since(made) >= s.age
}

// images describes the images that go.
func (f *pruneFlags) images() string {
	if f.all {
		return "all images without a container"
	}
	return "images without a name"
}

// pruneCommand is a command that prunes after it has asked.
func (a *App) pruneCommand(short string, what func(*pruneFlags) []string, prune func(context.Context, *pruneFlags, *selection) (int64, error)) (*cobra.Command, *pruneFlags) {
	f := &pruneFlags{}
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: short,
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			which, err := f.parse()
			if err != nil {
				return err
			}
			if ok, err := f.confirm(a, what(f)...); !ok {
				return err
			}
			bytes, err := prune(cmd.Context(), f, which)
			if a.node != nil { // volumes are pruned without
				err = errors.Join(err, a.node.SweepBriefly(cmd.Context()))
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

func (a *App) pruneSystem(ctx context.Context, f *pruneFlags, which *selection) (int64, error) {
	total, err := a.pruneContainers(ctx, f, which)
	if err != nil {
		return total, err
	}
	n, err := a.pruneImages(ctx, f, which)
	total += n
	if err == nil && f.volumes {
		n, err = a.pruneVolumes(ctx, func(v volume.Volume) bool { return anonymousName(v) && which.takes(v.CreatedAt, v.Labels) })
		total += n
	}
	if err == nil && f.artifacts {
		n, err = a.pruneArtifacts(ctx, which.age)
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
func (a *App) pruneContainers(ctx context.Context, _ *pruneFlags, which *selection) (int64, error) {
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
		if !s.ID.IsRoot() || !which.takes(s.CreatedAt, labelsOf(&s)) {
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

func labelsOf(s *containerizer.Status) map[string]string {
	if s.Spec == nil {
		return nil
	}
	return s.Spec.Labels
}

func (a *App) pruneImages(ctx context.Context, f *pruneFlags, which *selection) (int64, error) {
	images, err := a.images(ctx)
	if err != nil {
		return 0, err
	}
	report, err := images.Prune(ctx, containerizer.PruneOptions{
		All: f.all, OlderThan: which.age, Labels: which.with, WithoutLabels: which.without,
	})
	if err != nil {
		return 0, err
	}
	return report.ReclaimedBytes, a.removed(report.Images)
}
