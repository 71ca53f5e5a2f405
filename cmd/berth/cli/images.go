package cli

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/containerizer"
)

// imagesFlags are the flags of images.
type imagesFlags struct {
	all, quiet, noTrunc, digests bool
	filters                      []string
	format                       string
}

func newImages(a *App) *cobra.Command {
	f := &imagesFlags{}
	cmd := &cobra.Command{
		Use:   "images [flags] [REPOSITORY[:TAG]]",
		Short: "List images",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return invalidf("%s takes at most one repository", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.listImages(cmd.Context(), f, args)
		},
	}
	set := cmd.Flags()
	set.BoolVarP(&f.all, "all", "a", false, "show all images (there are no intermediate ones, so this is what is shown anyway)")
	set.BoolVarP(&f.quiet, "quiet", "q", false, "print ids only")
	set.BoolVar(&f.noTrunc, "no-trunc", false, "do not shorten")
	set.BoolVar(&f.digests, "digests", false, "show digests of manifests")
	set.StringArrayVarP(&f.filters, "filter", "f", nil, "show only what matches `KEY=VALUE` (dangling, label, reference, before, since)")
	set.StringVar(&f.format, "format", "", "table, json, or a Go `template`")
	return cmd
}

func imagesLayout() *format.Layout {
	return &format.Layout{
		Fields: []format.Field{
			{Name: "CreatedAt", Header: "CREATED AT"},
			{Name: "CreatedSince", Header: "CREATED"},
			{Name: "Digest", Header: "DIGEST"},
			{Name: "ID", Header: "IMAGE ID"},
			{Name: "Platform", Header: "PLATFORM"},
			{Name: "Repository", Header: "REPOSITORY"},
			{Name: "SharedSize", Header: "SHARED SIZE"},
			{Name: "Size", Header: "SIZE"},
			{Name: "Tag", Header: "TAG"},
			{Name: "UniqueSize", Header: "UNIQUE SIZE"},
			{Name: "VirtualSize", Header: "VIRTUAL SIZE"},
		},
		Table: []string{"Repository", "Tag", "ID", "CreatedSince", "Size"},
		ID:    "ID",
	}
}

func (a *App) listImages(ctx context.Context, f *imagesFlags, args []string) error {
	images, err := a.images(ctx)
	if err != nil {
		return err
	}
	all, err := images.List(ctx)
	if err != nil {
		return err
	}
	keep, err := f.matcher(ctx, images, args)
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, func(a, b containerizer.Image) int { return b.Created.Compare(a.Created) })
	var rows []format.Row
	seen := map[digest.Digest]bool{}
	for i := range all {
		for _, ref := range referencesOf(&all[i]) {
			if !keep(&all[i], ref) || f.quiet && seen[all[i].Config] {
				continue
			}
			seen[all[i].Config] = true
			rows = append(rows, f.row(&all[i], ref))
		}
	}
	layout := imagesLayout()
	if f.digests {
		layout.Table = slices.Insert(layout.Table, 2, "Digest")
	}
	return layout.Print(a.Out, rows, format.Options{Format: f.format, Quiet: f.quiet})
}

// referencesOf are the names of an image, one empty one if it has none.
func referencesOf(i *containerizer.Image) []string {
	if len(i.References) == 0 {
		return []string{""}
	}
	return i.References
}

// imageTest is one condition on an image under one of its names.
type imageTest = func(i *containerizer.Image, ref string) bool

// matcher applies filters and the argument; all have to match.
func (f *imagesFlags) matcher(ctx context.Context, images containerizer.Images, args []string) (imageTest, error) {
	filters, err := parseFilters(f.filters, "dangling", "label", "reference", "before", "since")
	if err != nil {
		return nil, err
	}
	tests, err := imageAgeTests(ctx, images, filters)
	if err != nil {
		return nil, err
	}
	for _, v := range filters["dangling"] {
		if v != "true" && v != "false" {
			return nil, invalidf("--filter dangling=%s: true or false", v)
		}
		tests = append(tests, func(_ *containerizer.Image, ref string) bool { return (ref == "") == (v == "true") })
	}
	for _, l := range filters["label"] {
		tests = append(tests, func(i *containerizer.Image, _ string) bool {
			return hasLabel(i.Labels, l)
		})
	}
	patterns := append(slices.Clone(filters["reference"]), args...)
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return nil, invalidf("%q is not a pattern", p)
		}
	}
	if len(patterns) > 0 {
		tests = append(tests, func(_ *containerizer.Image, ref string) bool {
			return slices.ContainsFunc(patterns, func(p string) bool { return matchReference(p, ref) })
		})
	}
	return func(i *containerizer.Image, ref string) bool {
		return !slices.ContainsFunc(tests, func(t imageTest) bool { return !t(i, ref) })
	}, nil
}

// imageAgeTests are for the filters before and since, which name other images.
func imageAgeTests(ctx context.Context, images containerizer.Images, filters map[string][]string) ([]imageTest, error) {
	var tests []imageTest
	for key, sign := range map[string]int{"before": -1, "since": 1} {
		for _, name := range filters[key] {
			other, err := images.Inspect(ctx, name)
			if err != nil {
				return nil, err
			}
			at := other.Created
			tests = append(tests, func(i *containerizer.Image, _ string) bool { return i.Created.Compare(at) == sign })
		}
	}
	return tests, nil
}

// matchReference matches a name or pattern, with or without tag and registry.
func matchReference(pattern, ref string) bool {
	repository, tag := splitReference(ref)
	for _, repo := range []string{repository, familiar(repository)} {
		for _, s := range []string{repo, repo + ":" + tag} {
			if ok, _ := path.Match(pattern, s); ok { // the pattern was checked
				return true
			}
		}
	}
	return false
}

// splitReference splits a canonical name into repository and tag.
func splitReference(ref string) (repository, tag string) {
	if ref == "" {
		return "<none>", "<none>"
	}
	name, _, digested := strings.Cut(ref, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:]
	}
	if digested {
		return name, "<none>"
	}
	return name, "latest"
}

// familiar leaves out what Docker adds to short names.
func familiar(repository string) string {
	for _, p := range []string{"index.docker.io/library/", "docker.io/library/", "index.docker.io/", "docker.io/"} {
		if short, ok := strings.CutPrefix(repository, p); ok {
			return short
		}
	}
	return repository
}

// row is an image's line under one of its names.
func (f *imagesFlags) row(i *containerizer.Image, ref string) format.Row {
	repository, tag := splitReference(ref)
	id := i.Config.String()
	if !f.noTrunc {
		id = shortDigest(i.Config)
	}
	platform := i.Platform.OS + "/" + i.Platform.Architecture
	if i.Platform.Variant != "" {
		platform += "/" + i.Platform.Variant
	}
	size := func(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	return format.Row{
		"CreatedAt": i.Created.Local().Format(dockerTime), "CreatedSince": ago(i.Created), "Digest": i.Manifest.String(),
		"ID": id, "Platform": platform, "Repository": familiar(repository), "SharedSize": size(i.SharedBytes),
		"Size": size(i.SizeBytes), "Tag": tag, "UniqueSize": size(i.SizeBytes - i.SharedBytes), "VirtualSize": size(i.SizeBytes),
	}
}

func shortDigest(d digest.Digest) string {
	_, hex, _ := strings.Cut(d.String(), ":")
	return hex[:min(12, len(hex))]
}
