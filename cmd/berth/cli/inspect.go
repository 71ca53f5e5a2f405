package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/containerizer"
)

// inspectFlags are the flags of inspect.
type inspectFlags struct {
	format, kind string
	size         bool
}

func newInspect(a *App) *cobra.Command {
	f := &inspectFlags{}
	cmd := &cobra.Command{
		Use:   "inspect [flags] NAME...",
		Short: "Show all about containers, images and volumes",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return invalidf("%s needs at least one name", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: a.completeContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inspect(cmd.Context(), f, args)
		},
	}
	cmd.Flags().StringVarP(&f.format, "format", "f", "", "json, or a Go `template`")
	cmd.Flags().StringVar(&f.kind, "type", "", "look for this `kind` only: container, image or volume")
	cmd.Flags().BoolVarP(&f.size, "size", "s", false, "show what containers have written")
	return cmd
}

func newContainerInspect(a *App) *cobra.Command { return inspectOf(a, "container") }
func newImageInspect(a *App) *cobra.Command     { return inspectOf(a, "image") }

// inspectOf is inspect for one kind of thing.
func inspectOf(a *App, kind string) *cobra.Command {
	cmd := newInspect(a)
	cmd.Short = "Show all about " + kind + "s"
	if err := cmd.Flags().Set("type", kind); err != nil {
		panic(err) // the flag is defined above
	}
	cmd.Flags().Lookup("type").Hidden = true
	if kind == "image" {
		cmd.ValidArgsFunction = a.completeImages
	}
	return cmd
}

func (a *App) inspect(ctx context.Context, f *inspectFlags, names []string) error {
	var found []any
	var all error
	for _, name := range names {
		v, err := a.inspectOne(ctx, f, name)
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		found = append(found, v)
	}
	if len(found) == 0 && f.format != "" {
		return all
	}
	return errors.Join(format.Objects(a.Out, found, f.format), all)
}

// inspectOne looks for a container, then an image, then a volume.
func (a *App) inspectOne(ctx context.Context, f *inspectFlags, name string) (any, error) {
	kind := f.kind
	looks := []struct {
		kind string
		look func() (any, error)
	}{
		{"container", func() (any, error) { return a.inspectContainer(ctx, f, name) }},
		{"image", func() (any, error) { return a.inspectImage(ctx, name) }},
		{"volume", func() (any, error) {
			store, err := a.volumes()
			if err != nil {
				return nil, err
			}
			return store.Get(name)
		}},
	}
	known := false
	for _, l := range looks {
		if kind != "" && kind != l.kind {
			continue
		}
		known = true
		v, err := l.look()
		absent := errors.Is(err, containerizer.ErrNotFound) || kind == "" && errors.Is(err, containerizer.ErrInvalid)
		if !absent {
			return v, err
		}
	}
	if !known {
		return nil, invalidf("--type %q: container, image and volume exist", kind)
	}
	if kind == "" {
		kind = "container, image or volume"
	}
	return nil, sentencef(containerizer.ErrNotFound, "no %s %q", kind, name)
}

func (a *App) inspectContainer(ctx context.Context, f *inspectFlags, name string) (any, error) {
	engine, status, err := a.find(ctx, name)
	if err != nil {
		return nil, err
	}
	v := containerView(status)
	if store, err := a.volumes(); err == nil && status.Spec != nil {
		for i, m := range status.Spec.Mounts {
			if m.Type != containerizer.MountVolume {
				continue
			}
			if vol, err := store.Get(m.Source); err == nil {
				v.Mounts[i].Source = vol.Mountpoint
			}
		}
	}
	if f.size {
		usage, err := engine.Usage(ctx, status.ID)
		if err != nil {
			return nil, err
		}
		if usage.Disk != nil {
			n := usage.Disk.Bytes
			v.SizeRw = &n
		}
	}
	return v, nil
}
