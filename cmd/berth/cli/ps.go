package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/containerizer"
)

// psFlags are the flags of ps.
type psFlags struct {
	all, quiet, noTrunc, latest, size bool
	last                              int
	filters                           []string
	format                            string
}

func newPs(a *App) *cobra.Command {
	f := &psFlags{}
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List containers",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.ps(cmd.Context(), f) },
	}
	set := cmd.Flags()
	set.BoolVarP(&f.all, "all", "a", false, "show all containers, not only running ones")
	set.BoolVarP(&f.quiet, "quiet", "q", false, "print ids only")
	set.BoolVar(&f.noTrunc, "no-trunc", false, "do not shorten")
	set.BoolVarP(&f.latest, "latest", "l", false, "show the container made last, in any state")
	set.IntVarP(&f.last, "last", "n", -1, "show the `number` of containers made last, in any state")
	set.BoolVarP(&f.size, "size", "s", false, "show what containers have written")
	set.StringArrayVarP(&f.filters, "filter", "f", nil, "show only what matches `KEY=VALUE` (id, name, label, status, exited, ancestor, before, since, volume, network)")
	set.StringVar(&f.format, "format", "", "table, json, or a Go `template`")
	return cmd
}

// psLayout has Docker's names.
func psLayout() *format.Layout {
	return &format.Layout{
		Fields: []format.Field{
			{Name: "Command", Header: "COMMAND"},
			{Name: "CreatedAt", Header: "CREATED AT"},
			{Name: "ID", Header: "CONTAINER ID"},
			{Name: "Image", Header: "IMAGE"},
			{Name: "Labels", Header: "LABELS"},
			{Name: "LocalVolumes", Header: "LOCAL VOLUMES"},
			{Name: "Mounts", Header: "MOUNTS"},
			{Name: "Names", Header: "NAMES"},
			{Name: "Networks", Header: "NETWORKS"},
			{Name: "Pid", Header: "PID"},
			{Name: "Ports", Header: "PORTS"},
			{Name: "RunningFor", Header: "CREATED"},
			{Name: "Size", Header: "SIZE"},
			{Name: "State", Header: "STATE"},
			{Name: "Status", Header: "STATUS"},
		},
		Table: []string{"ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"},
		ID:    "ID",
	}
}

func (a *App) ps(ctx context.Context, f *psFlags) error {
	engine, err := a.engine(ctx)
	if err != nil {
		return err
	}
	selected, err := f.choose(ctx, engine)
	if err != nil {
		return err
	}
	rows := make([]format.Row, 0, len(selected))
	for i := range selected {
		row := f.row(&selected[i])
		if f.size {
			row["Size"] = writtenText(ctx, engine, selected[i].ID)
		}
		rows = append(rows, row)
	}
	layout := psLayout()
	if f.size {
		layout.Table = append(layout.Table, "Size")
	}
	return layout.Print(a.Out, rows, format.Options{Format: f.format, Quiet: f.quiet})
}

// choose returns the containers that the flags select, newest first.
func (f *psFlags) choose(ctx context.Context, engine containerizer.Engine) ([]containerizer.Status, error) {
	last := f.last
	if f.latest {
		last = 1
	}
	filters, err := parseFilters(f.filters, "id", "name", "label", "status", "exited", "ancestor", "before", "since", "volume", "network")
	if err != nil {
		return nil, err
	}
	match, err := containerMatcher(ctx, engine, filters)
	if err != nil {
		return nil, err
	}
	wanted := containerizer.Filter{Brief: true}
	if everything := f.all || last > 0 || len(filters["status"]) > 0 || len(filters["exited"]) > 0; !everything {
		wanted.States = []containerizer.State{containerizer.StateRunning, containerizer.StatePaused}
	}
	all, err := engine.List(ctx, wanted)
	if err != nil {
		return nil, err
	}
	var out []containerizer.Status
	for _, s := range slices.Backward(all) {
		if s.ID.IsRoot() && match(&s) {
			out = append(out, s)
		}
	}
	if last > 0 && len(out) > last {
		out = out[:last]
	}
	return out, nil
}
