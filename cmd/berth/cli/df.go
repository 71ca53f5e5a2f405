package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/containerizer"
)

func newDf(a *App) *cobra.Command {
	var text string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "df [flags]",
		Short: "Show what takes space on disk",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.df(cmd.Context(), text); err != nil || !verbose {
				return err
			}
			return a.dfImages(cmd.Context())
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show what each image takes, too")
	cmd.Flags().StringVar(&text, "format", "", "table, json, or a Go `template`")
	return cmd
}

func (a *App) df(ctx context.Context, text string) error {
	images, err := a.images(ctx)
	if err != nil {
		return err
	}
	usage, err := images.Usage(ctx)
	if err != nil {
		return err
	}
	engine, err := a.engine(ctx)
	if err != nil {
		return err
	}
	containers, err := engine.List(ctx, containerizer.Filter{})
	if err != nil {
		return err
	}
	used, running := map[string]bool{}, 0
	for _, s := range containers {
		used[s.ImageManifest.String()] = s.ImageManifest != ""
		if s.State.Alive() {
			running++
		}
	}
	delete(used, "")
	total, active, size, unused, err := a.volumeUsage(ctx)
	if err != nil {
		return err
	}
	artifacts, err := a.artifacts(ctx)
	if err != nil {
		return err
	}
	cached, err := artifacts.CacheUsage(ctx)
	if err != nil {
		return err
	}
	layout := format.Layout{
		Fields: []format.Field{
			{Name: "Active", Header: "ACTIVE"},
			{Name: "Reclaimable", Header: "RECLAIMABLE"},
			{Name: "Size", Header: "SIZE"},
			{Name: "TotalCount", Header: "TOTAL"},
			{Name: "Type", Header: "TYPE"},
		},
		Table: []string{"Type", "TotalCount", "Active", "Size", "Reclaimable"},
		ID:    "Type",
	}
	stored := usage.LayerBytes + usage.BlobBytes
	return layout.Print(a.Out, []format.Row{
		dfRow("Images", usage.Images, len(used), stored, usage.ReclaimableBytes),
		dfRow("Containers", len(containers), running, usage.WritableBytes, 0),
		dfRow("Volumes", total, active, size, unused),
		dfRow("Artifacts", cached.Entries, cached.UsedEntries, cached.Bytes, cached.Bytes-cached.UsedBytes),
	}, format.Options{Format: text})
}

// dfImages shows what images take alone and together. What is shared by several is
// in the total once.
func (a *App) dfImages(ctx context.Context) error {
	images, err := a.images(ctx)
	if err != nil {
		return err
	}
	list, err := images.List(ctx)
	if err != nil {
		return err
	}
	usage, err := images.Usage(ctx)
	if err != nil {
		return err
	}
	f := &imagesFlags{}
	var rows []format.Row
	shared := usage.LayerBytes + usage.BlobBytes
	for i := range list {
		shared -= list[i].SizeBytes - list[i].SharedBytes
		rows = append(rows, f.row(&list[i], referencesOf(&list[i])[0]))
	}
	layout := imagesLayout()
	layout.Table = []string{"Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize"}
	if _, err := fmt.Fprint(a.Out, "\nImages:\n\n"); err != nil {
		return err
	}
	if err := layout.Print(a.Out, rows, format.Options{}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Out, "\nOf several images or of none, counted once: %s\n", units.HumanSizeWithPrecision(float64(shared), 4))
	return err
}

func dfRow(kind string, total, active int, size, reclaimable int64) format.Row {
	text := units.HumanSizeWithPrecision(float64(reclaimable), 4)
	if size > 0 {
		text += fmt.Sprintf(" (%d%%)", min(reclaimable*100/size, 100))
	}
	return format.Row{
		"Type": kind, "TotalCount": strconv.Itoa(total), "Active": strconv.Itoa(active),
		"Size": units.HumanSizeWithPrecision(float64(size), 4), "Reclaimable": text,
	}
}

// volumeUsage counts volumes, those in use, and their bytes, and those of the rest.
func (a *App) volumeUsage(ctx context.Context) (total, active int, bytes, unused int64, err error) {
	users, err := a.volumeUsers(ctx)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	store, err := a.volumes()
	if err != nil {
		return 0, 0, 0, 0, err
	}
	list, err := store.List()
	if err != nil {
		return 0, 0, 0, 0, err
	}
	for _, v := range list {
		n, err := store.Size(v.Name)
		if err != nil {
			return 0, 0, 0, 0, err
		}
		bytes += n
		if len(users[v.Name]) > 0 {
			active++
		} else {
			unused += n
		}
	}
	return len(list), active, bytes, unused, nil
}
