package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/cmd/berth/internal/specflag"
	"github.com/berth-dev/berth/cmd/berth/internal/volume"
	"github.com/berth-dev/berth/containerizer"
)

// volumes is the store of named volumes.
func (a *App) volumes() (*volume.Store, error) {
	s, err := a.Settings()
	if err != nil {
		return nil, err
	}
	if err := s.checkHere(); err != nil {
		return nil, err
	}
	return volume.New(filepath.Join(s.Root, "volumes")), nil
}

func newVolumeGroup(a *App) *cobra.Command {
	return group("volume", "Manage volumes",
		newVolumeCreate(a), newVolumeLs(a), newVolumeInspect(a), newVolumeRm(a), newVolumePrune(a))
}

func newVolumeCreate(a *App) *cobra.Command {
	var labels []string
	cmd := &cobra.Command{
		Use:   "create [flags] [NAME]",
		Short: "Make a volume",
		Long: `Make a volume. A volume begins empty: unlike with Docker, what an image has at
the place where it is first mounted is not copied into it.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return invalidf("%s takes at most one name", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			name := containerizer.NewContainerID().String()
			if len(args) == 1 {
				name = args[0]
			}
			set, err := specflag.Labels(labels)
			if err != nil {
				return err
			}
			store, err := a.volumes()
			if err != nil {
				return err
			}
			if _, err := store.Ensure(name, set); err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, name)
			return err
		},
	}
	cmd.Flags().StringArrayVar(&labels, "label", nil, "set metadata on the volume (`KEY=VALUE`)")
	return cmd
}

func newVolumeLs(a *App) *cobra.Command {
	var quiet bool
	var text string
	var filters []string
	cmd := &cobra.Command{
		Use:     "ls [flags]",
		Aliases: []string{"list"},
		Short:   "List volumes",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.listVolumes(cmd.Context(), filters, format.Options{Format: text, Quiet: quiet})
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print names only")
	cmd.Flags().StringArrayVarP(&filters, "filter", "f", nil, "show only what matches `KEY=VALUE` (name, label, dangling)")
	cmd.Flags().StringVar(&text, "format", "", "table, json, or a Go `template`")
	return cmd
}

func (a *App) listVolumes(ctx context.Context, filters []string, o format.Options) error {
	values, err := parseFilters(filters, "name", "label", "dangling")
	if err != nil {
		return err
	}
	store, err := a.volumes()
	if err != nil {
		return err
	}
	all, err := store.List()
	if err != nil {
		return err
	}
	used := map[string][]string{}
	if len(values["dangling"]) > 0 {
		if used, err = a.volumeUsers(ctx); err != nil {
			return err
		}
	}
	var rows []format.Row
	for _, v := range all {
		if !volumeMatches(v, values, used[v.Name]) {
			continue
		}
		r := format.Row{
			"Driver": v.Driver, "Labels": labelsText(v.Labels), "Mountpoint": v.Mountpoint, "Name": v.Name, "Scope": v.Scope,
			"CreatedAt": v.CreatedAt.Local().Format(dockerTime),
		}
		r.SetLabels(v.Labels)
		rows = append(rows, r)
	}
	layout := format.Layout{
		Fields: []format.Field{
			{Name: "CreatedAt", Header: "CREATED AT"},
			{Name: "Driver", Header: "DRIVER"},
			{Name: "Labels", Header: "LABELS"},
			{Name: "Mountpoint", Header: "MOUNTPOINT"},
			{Name: "Name", Header: "VOLUME NAME"},
			{Name: "Scope", Header: "SCOPE"},
		},
		Table: []string{"Driver", "Name"},
		ID:    "Name",
	}
	return layout.Print(a.Out, rows, o)
}

func volumeMatches(v volume.Volume, filters map[string][]string, users []string) bool {
	for _, n := range filters["name"] {
		if ok, _ := filepath.Match("*"+n+"*", v.Name); !ok {
			return false
		}
	}
	for _, l := range filters["label"] {
		if !hasLabel(v.Labels, l) {
			return false
		}
	}
	for _, d := range filters["dangling"] {
		if (d == "true" || d == "1") == (len(users) > 0) {
			return false
		}
	}
	return true
}

func newVolumeInspect(a *App) *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:               "inspect [flags] VOLUME...",
		Short:             "Show all about volumes",
		Args:              needVolumes,
		ValidArgsFunction: a.completeVolumes,
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := a.volumes()
			if err != nil {
				return err
			}
			var found []*volume.Volume
			var all error
			for _, name := range args {
				v, err := store.Get(name)
				if err != nil {
					all = errors.Join(all, err)
					continue
				}
				found = append(found, v)
			}
			return errors.Join(format.Objects(a.Out, found, text), all)
		},
	}
	cmd.Flags().StringVarP(&text, "format", "f", "", "json, or a Go `template`")
	return cmd
}

func newVolumeRm(a *App) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "rm [flags] VOLUME...",
		Aliases:           []string{"remove"},
		Short:             "Remove volumes",
		Args:              needVolumes,
		ValidArgsFunction: a.completeVolumes,
		RunE: func(cmd *cobra.Command, args []string) error {
			used, err := a.volumeUsers(cmd.Context())
			if err != nil {
				return err
			}
			store, err := a.volumes()
			if err != nil {
				return err
			}
			var all error
			for _, name := range args {
				err := removeVolume(store, name, used[name])
				if err != nil && (!force || !errors.Is(err, containerizer.ErrNotFound)) {
					all = errors.Join(all, err)
					continue
				}
				if _, err := fmt.Fprintln(a.Out, name); err != nil {
					return err
				}
			}
			return all
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not mind volumes that are gone")
	return cmd
}

func removeVolume(store *volume.Store, name string, users []string) error {
	if _, err := store.Get(name); err != nil {
		return err
	}
	if len(users) > 0 {
		return sentencef(containerizer.ErrFailedPrecondition, "volume %q is used by container %s", name, users[0])
	}
	return store.Remove(name)
}

func newVolumePrune(a *App) *cobra.Command {
	what := func(f *pruneFlags) []string {
		if f.all {
			return []string{"all volumes that no container uses"}
		}
		return []string{"the volumes without a name that no container uses"}
	}
	prune := func(ctx context.Context, f *pruneFlags, which *selection) (int64, error) {
		return a.pruneVolumes(ctx, func(v volume.Volume) bool {
			return (f.all || anonymousName(v)) && which.takes(v.CreatedAt, v.Labels)
		})
	}
	cmd, f := a.pruneCommand("Remove volumes that no container uses", what, prune)
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "remove those with a name, too")
	return cmd
}

// anonymousName says whether a volume was made without a name.
func anonymousName(v volume.Volume) bool {
	_, err := hex.DecodeString(v.Name)
	return err == nil && len(v.Name) == 64
}

// pruneVolumes removes unused volumes that doomed selects and prints their names.
func (a *App) pruneVolumes(ctx context.Context, doomed func(volume.Volume) bool) (int64, error) {
	used, err := a.volumeUsers(ctx)
	if err != nil {
		return 0, err
	}
	store, err := a.volumes()
	if err != nil {
		return 0, err
	}
	list, err := store.List()
	if err != nil {
		return 0, err
	}
	var bytes int64
	for _, v := range list {
		if len(used[v.Name]) > 0 || !doomed(v) {
			continue
		}
		size, err := store.Size(v.Name)
		if err == nil {
			err = store.Remove(v.Name)
		}
		if err != nil {
			return bytes, err
		}
		bytes += size
		if _, err := fmt.Fprintln(a.Out, v.Name); err != nil {
			return bytes, err
		}
	}
	return bytes, nil
}

// volumeUsers lists the containers that use each volume.
func (a *App) volumeUsers(ctx context.Context) (map[string][]string, error) {
	engine, err := a.engine(ctx)
	if err != nil {
		return nil, err
	}
	list, err := engine.List(ctx, containerizer.Filter{})
	if err != nil {
		return nil, err
	}
	used := map[string][]string{}
	for _, s := range list {
		if s.Spec == nil {
			continue
		}
		for _, m := range s.Spec.Mounts {
			if m.Type == containerizer.MountVolume && !slices.Contains(used[m.Source], s.ID.Short()) {
				used[m.Source] = append(used[m.Source], s.ID.Short())
			}
		}
	}
	return used, nil
}

func (a *App) reclaimed(bytes int64) error {
	_, err := fmt.Fprintf(a.Out, "Total reclaimed space: %s\n", units.HumanSizeWithPrecision(float64(bytes), 3))
	return err
}

func needVolumes(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return invalidf("%s needs at least one volume", cmd.CommandPath())
	}
	return nil
}

func (a *App) completeVolumes(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	store, err := a.volumes()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	list, err := store.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, len(list))
	for i, v := range list {
		names[i] = v.Name
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
