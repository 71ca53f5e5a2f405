package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Options of a run.
type Options struct {
	// Berth is the path of the binary.
	Berth string
	// Folder keeps the images from run to run.
	Folder string
	// Dir takes the roots. It is the caller's to delete.
	Dir string
	// Rounds of each case.
	Rounds int
	// Peers are the names of contenders; Images those of cases: big, many, small, removal.
	Peers, Images []string
	// Log tells who waits what goes on.
	Log io.Writer
}

// step is one pull of a case, in the root that the steps before it used.
type step struct {
	title string
	repo  string
	by    byWhat
	// removed is an image of this root whose removal begins with the pull.
	removed string
}

type byWhat int

const (
	byTag byWhat = iota
	byDigest
)

// cases are the steps done one after the other in one root.
func cases() map[string][][]step {
	return map[string][][]step{
		"big":   {{{title: "big, cold", repo: big}}},
		"small": {{{title: "small, cold", repo: small}}},
		// Not among the usual ones: removing is not the common company of a pull.
		"removal": {{
			{title: "small, cold, before its removal", repo: small},
			{title: "many, cold, while small is removed", repo: many, removed: small},
		}},
		"many": {
			{
				{title: "many, cold", repo: many},
				{title: "many present, bottom layer differs", repo: other},
				{title: "nothing missing, by tag", repo: many},
				{title: "nothing missing, by digest, first time", repo: many, by: byDigest},
				{title: "nothing missing, by digest", repo: many, by: byDigest},
			},
			{{title: "the other bottom layer alone, cold", repo: bottom}},
		},
	}
}

// Run measures and writes tables.
func Run(ctx context.Context, w io.Writer, o Options) (err error) {
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		return fmt.Errorf("%w (the package docker-registry has it)", err)
	}
	if err := os.MkdirAll(o.Folder, 0o755); err != nil { //nolint:gosec // holds files that everybody can read anyway
		return err
	}
	s, err := startRegistry(ctx, program, filepath.Join(o.Folder, "registry"), o.Dir)
	if err != nil {
		return err
	}
	defer s.stop()
	images, err := prepareImages(ctx, s.host, o.Folder, o.Log)
	if err != nil {
		return err
	}
	r := &runner{Options: o, host: s.host, images: images}
	versions := r.find(ctx)
	if _, err := fmt.Fprintf(w, "\nPulls from docker-registry on loopback; %s.\n", strings.Join(versions, "; ")); err != nil {
		return err
	}
	for _, name := range o.Images {
		for _, steps := range cases()[name] {
			if err := r.steps(ctx, w, steps); err != nil {
				return fmt.Errorf("image %q: %w", name, errors.Join(err, ctx.Err()))
			}
		}
	}
	return nil
}

type runner struct {
	Options
	host       string
	images     map[string]imageInfo
	contenders []contender
	roots      int
}

// find returns the versions of the contenders that are there.
func (r *runner) find(ctx context.Context) []string {
	var versions []string
	for _, name := range r.Peers {
		var c contender
		path, err := exec.LookPath(name)
		switch name {
		case "berth":
			path, err, c = r.Berth, nil, &berth{r.Berth}
		case "podman":
			c = &podman{path}
		case "containerd":
			ctr, missing := exec.LookPath("ctr")
			err, c = errors.Join(err, missing), &containerd{path, ctr}
		default:
			continue
		}
		if err != nil {
			versions = append(versions, name+": not on this machine")
			continue
		}
		out, _ := exec.CommandContext(ctx, path, "--version").Output() // "" is shown
		versions = append(versions, strings.TrimSpace(string(out)))
		r.contenders = append(r.contenders, c)
	}
	return versions
}

// warm has the registry's files of an image in the page cache.
func (r *runner) warm() error {
	return filepath.WalkDir(filepath.Join(r.Folder, "registry"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		return errors.Join(err, f.Close())
	})
}

func (r *runner) steps(ctx context.Context, w io.Writer, steps []step) error {
	if err := r.warm(); err != nil {
		return err
	}
	all := make([]map[string][]figures, len(steps))
	for range r.Rounds {
		for _, c := range r.contenders {
			got, err := r.session(ctx, c, steps)
			if err != nil {
				return fmt.Errorf("%s: %w", c.Name(), err)
			}
			for i, f := range got {
				if all[i] == nil {
					all[i] = map[string][]figures{}
				}
				all[i][c.Name()] = append(all[i][c.Name()], f)
			}
		}
	}
	for i, s := range steps {
		if err := r.table(w, s, all[i]); err != nil {
			return err
		}
	}
	return nil
}

// session does the steps in a new root on a new file system.
func (r *runner) session(ctx context.Context, c contender, steps []step) (_ []figures, err error) {
	r.roots++
	dir := filepath.Join(r.Dir, fmt.Sprintf("%s-%d", c.Name(), r.roots))
	disk, err := newDisk(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, disk.Close(context.WithoutCancel(ctx))) }()
	s, err := c.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Settle(ctx), s.Close()) }()
	var out []figures
	for _, step := range steps {
		ref := r.host + "/" + step.repo + ":1"
		if step.by == byDigest {
			ref = r.host + "/" + step.repo + "@" + r.images[step.repo].Digest
		}
		removed := ""
		if step.removed != "" {
			removed = r.host + "/" + step.removed + ":1"
		}
		f, err := measure(ctx, s, ref, removed)
		if err != nil {
			return nil, err
		}
		_, _ = fmt.Fprintf(r.Log, "%s, %s: %.3f s\n", step.title, c.Name(), f.wall.Seconds()) // for who waits
		out = append(out, f)
	}
	return out, nil
}

func (r *runner) table(w io.Writer, s step, got map[string][]figures) error {
	info := r.images[s.repo]
	_, err := fmt.Fprintf(w, "\n| %s (%d layers, %d entries, %d MB, %d MB gzip) | wall s | all runs | cpu s | peak MiB | disk later s | to containerd | to podman |\n|---|---|---|---|---|---|---|---|\n",
		s.title, info.Layers, info.Entries, info.Tar/1e6, info.Bytes/1e6)
	for _, c := range r.contenders {
		all := got[c.Name()]
		wall := median(all, func(f figures) time.Duration { return f.wall })
		var runs []string
		for _, f := range all {
			runs = append(runs, seconds(f.wall))
		}
		ratio := func(peer string) string {
			if len(got[peer]) == 0 {
				return ""
			}
			return fmt.Sprintf("%.2f", wall.Seconds()/median(got[peer], func(f figures) time.Duration { return f.wall }).Seconds())
		}
		_, failed := fmt.Fprintf(w, "| %s | %s | %s | %s | %d | %s | %s | %s |\n", c.Name(), seconds(wall), strings.Join(runs, ", "),
			seconds(median(all, func(f figures) time.Duration { return f.cpu })), peak(all)>>20,
			seconds(median(all, func(f figures) time.Duration { return f.disk })), ratio("containerd"), ratio("podman"))
		err = errors.Join(err, failed)
	}
	return err
}
