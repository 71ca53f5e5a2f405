package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/cmd/berth/internal/progress"
	"github.com/berth-dev/berth/containerizer"
)

// fetchFlags are the flags of fetch.
type fetchFlags struct {
	output     string
	name       string
	executable bool
	noExtract  bool
	keep       bool
	cache      bool
	sha256     string
	sha512     string
	user       string
	format     string
	quiet      bool
}

func newFetch(a *App) *cobra.Command {
	f := &fetchFlags{}
	cmd := &cobra.Command{
		Use:   "fetch [flags] URI...",
		Short: "Fetch files and archives",
		Long: `Fetch what URIs name into a directory, and extract archives there:

  https://… http://… ftp://… ftps://…     a server
  s3://BUCKET/KEY                         S3, or a server like it (AWS_* variables)
  hdfs://… and others of Hadoop           by the hadoop command
  file:///PATH, PATH                      a file of this node

A URI may end in #sha256=HEX or #sha512=HEX. When one cannot be had, nothing is placed.`,
		Example: `  berth fetch -o /srv/app https://example.com/app.tar.gz#sha256=…
  berth fetch --cache --executable --name run s3://tools/run-1.2`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return invalidf("%s needs at least one URI", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.fetch(cmd.Context(), f, args) },
	}
	set := cmd.Flags()
	set.StringVarP(&f.output, "output", "o", ".", "`directory` to fetch into; made if it is missing")
	set.StringVar(&f.name, "name", "", "`path` of the file below that directory (for one URI)")
	set.BoolVar(&f.executable, "executable", false, "make files executable, and do not extract them")
	set.BoolVar(&f.noExtract, "no-extract", false, "leave archives and compressed files as they are")
	set.BoolVar(&f.keep, "keep-archive", false, "keep archives beside what was extracted from them")
	set.BoolVar(&f.cache, "cache", false, "use and fill the node's cache")
	set.StringVar(&f.sha256, "sha256", "", "checksum in `hexadecimal` digits (for one URI)")
	set.StringVar(&f.sha512, "sha512", "", "checksum in `hexadecimal` digits (for one URI)")
	set.StringVarP(&f.user, "user", "u", "", "owner of the files: `UID[:GID]` or a user of this node")
	set.StringVar(&f.format, "format", "", "table, json, or a Go `template`")
	set.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing")
	return cmd
}

// artifacts describes what is to be fetched.
func (f *fetchFlags) artifacts(uris []string) ([]containerizer.Artifact, error) {
	if len(uris) > 1 && (f.name != "" || f.sha256 != "" || f.sha512 != "") {
		return nil, invalidf("--name, --sha256 and --sha512 go with one URI (a URI may end in #sha256=HEX)")
	}
	if f.sha256 != "" && f.sha512 != "" {
		return nil, invalidf("--sha256 and --sha512: use one")
	}
	if f.executable && f.keep {
		return nil, invalidf("--executable files are not extracted, so that --keep-archive has no meaning")
	}
	var sum digest.Digest
	switch {
	case f.sha256 != "":
		sum = digest.NewDigestFromEncoded(digest.SHA256, strings.ToLower(f.sha256))
	case f.sha512 != "":
		sum = digest.NewDigestFromEncoded(digest.SHA512, strings.ToLower(f.sha512))
	}
	list := make([]containerizer.Artifact, len(uris))
	for i, u := range uris {
		if !strings.Contains(u, "://") { // a path is that of this process
			path, err := filepath.Abs(u)
			if err != nil {
				return nil, err
			}
			u = path
		}
		list[i] = containerizer.Artifact{
			URI: u, Output: f.name, Executable: f.executable, NoExtract: f.noExtract, KeepArchive: f.keep,
			Cache: f.cache, Checksum: sum, User: f.user,
		}
	}
	return list, nil
}

func (a *App) fetch(ctx context.Context, f *fetchFlags, uris []string) error {
	list, err := f.artifacts(uris)
	if err != nil {
		return err
	}
	artifacts, err := a.artifacts(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.output, 0o755); err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	display := (&pullFlags{quiet: f.quiet}).progress(a)
	done, err := artifacts.Fetch(ctx, f.output, list, containerizer.FetchOptions{Progress: func(p containerizer.ArtifactProgress) {
		display.Update(showArtifact(list, p))
	}})
	display.Finish()
	if err != nil || f.quiet {
		return err
	}
	return printFetched(a, done, f.format)
}

// artifactProgress shows how the artifacts of a launch get on. It ends with the last of
// them, before the container's output begins.
type artifactProgress struct {
	display  *progress.Display
	list     []containerizer.Artifact
	complete int
	news     bool // that all of it was in the cache is none
	finished bool
}

func (m *newContainer) artifacts() *artifactProgress {
	return &artifactProgress{display: (&pullFlags{quiet: m.quiet}).progress(m.app), list: m.spec.Artifacts}
}

func (a *artifactProgress) update(p containerizer.ArtifactProgress) {
	if a.news = a.news || p.Phase == "downloading" || p.Phase == "extracting"; a.news {
		a.display.Update(showArtifact(a.list, p))
	}
	if p.Phase == "complete" {
		a.complete++
	}
	if a.complete == len(a.list) {
		a.finish()
	}
}

func (a *artifactProgress) finish() {
	if !a.finished {
		a.finished = true
		a.display.Finish()
	}
}

// showArtifact is a line of progress.
func showArtifact(list []containerizer.Artifact, p containerizer.ArtifactProgress) containerizer.Progress {
	phase := containerizer.Phase(p.Phase)
	switch p.Phase {
	case "cached":
		phase = containerizer.PhaseExists
	case "extracting":
		phase = containerizer.PhaseUnpacking
	}
	return containerizer.Progress{Layer: digest.FromString(list[p.Index].URI), Phase: phase, Done: p.Done, Total: max(p.Total, 0)}
}

func printFetched(a *App, done []containerizer.FetchedArtifact, text string) error {
	layout := format.Layout{
		Fields: []format.Field{
			{Name: "URI", Header: "URI"},
			{Name: "Path", Header: "PATH"},
			{Name: "Entries", Header: "EXTRACTED"},
			{Name: "Bytes", Header: "BYTES"},
			{Name: "SHA256", Header: "SHA256"},
			{Name: "Cached", Header: "CACHED"},
		},
		Table: []string{"Path", "Entries", "Bytes", "Cached", "SHA256"},
		ID:    "Path",
	}
	rows := make([]format.Row, len(done))
	for i, d := range done {
		rows[i] = format.Row{
			"URI": d.URI, "Path": d.Path, "Entries": fmt.Sprint(d.Extracted), "Bytes": fmt.Sprint(d.Bytes),
			"SHA256": d.SHA256.Encoded(), "Cached": fmt.Sprint(d.FromCache),
		}
	}
	return layout.Print(a.Out, rows, format.Options{Format: text})
}
