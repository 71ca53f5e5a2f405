package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// idleGap between two commands is long enough for the kernel to have nothing under
// way any more.
const idleGap = 50 * time.Millisecond

// report measures what was asked for and writes a table for each.
func (b *bench) report(ctx context.Context, w io.Writer) error {
	out := &printer{w: w}
	out.line("%s", machine())
	if len(b.versions) > 0 {
		out.line("%s", strings.Join(b.versions, "; "))
	}
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"busy", func() error {
			samples, err := b.launch(ctx, "busy", b.rounds, 0)
			out.times("launch to exit, busy", samples)
			return err
		}},
		{"idle", func() error {
			samples, err := b.launch(ctx, "idle", b.rounds/2+1, idleGap)
			out.times(fmt.Sprintf("launch to exit, idle (%v apart)", idleGap), samples)
			return err
		}},
		{"exec", func() error {
			samples, err := b.exec(ctx, b.rounds, 0)
			out.times("exec into a running container", samples)
			return err
		}},
		{"throughput", func() error {
			const workers, turns, turn = 8, 2, 3 * time.Second
			rates, err := b.throughput(ctx, workers, turns, turn)
			out.rates(fmt.Sprintf("throughput, %d workers", workers), rates)
			return err
		}},
		{"nested", func() error {
			n, err := b.nested(ctx)
			if err == nil {
				out.line("\n| %d nested containers over the API of a Mesos agent, %d clients | s |\n|---|---|\n| launched | %.1f |\n| ended with their parent, removed | %.1f |",
					nestedCount, nestedWorkers, n.launch.Seconds(), n.destroy.Seconds())
			}
			return err
		}},
		{"memory", func() error { return b.memory(ctx, out) }},
	} {
		if !slices.Contains(b.only, c.name) {
			continue
		}
		if err := c.do(); err != nil {
			return fmt.Errorf("case %q: %w", c.name, errors.Join(err, ctx.Err()))
		}
	}
	return out.err
}

func (b *bench) memory(ctx context.Context, out *printer) error {
	const instances = 20
	uses := map[string]*memoryUse{}
	for comm, m := range b.monitors {
		use, err := measureMonitors(ctx, m, comm, instances)
		if err != nil {
			return err
		}
		uses[comm] = use
	}
	out.memory(fmt.Sprintf("monitor of an idle container, mean of %d", instances), uses)
	return nil
}

// machine describes where the figures come from.
func machine() string {
	var u unix.Utsname
	release := "unknown kernel"
	if unix.Uname(&u) == nil {
		release = "Linux " + unix.ByteSliceToString(u.Release[:])
	}
	return fmt.Sprintf("%s, %s, %d processors, %s", release, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}

// printer writes tables in Markdown; the first failure sticks.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// times writes samples with ratios to crun and runc where they were measured.
func (p *printer) times(title string, samples map[string]*sample) {
	if len(samples) == 0 {
		return
	}
	p.line("\n| %s | wall ms | cpu ms | to crun | to runc |\n|---|---|---|---|---|", title)
	for _, name := range byMedian(samples) {
		s := samples[name]
		ratio := func(to string) string {
			if samples[to] == nil {
				return ""
			}
			return fmt.Sprintf("%.2f", float64(median(s.wall))/float64(median(samples[to].wall)))
		}
		p.line("| %s | %s | %s | %s | %s |", name, spread(s.wall), ms(median(s.cpu)), ratio("crun"), ratio("runc"))
	}
}

func byMedian(samples map[string]*sample) []string {
	var names []string
	for name := range samples {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(median(samples[a].wall) - median(samples[b].wall)) })
	return names
}

func (p *printer) rates(title string, rates map[string]float64) {
	if len(rates) == 0 {
		return
	}
	p.line("\n| %s | containers/s | to crun |\n|---|---|---|", title)
	var names []string
	for name := range rates {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(rates[b] - rates[a]) })
	for _, name := range names {
		ratio := ""
		if rates["crun"] > 0 {
			ratio = fmt.Sprintf("%.2f", rates[name]/rates["crun"])
		}
		p.line("| %s | %.0f | %s |", name, rates[name], ratio)
	}
}

func (p *printer) memory(title string, uses map[string]*memoryUse) {
	p.line("\n| %s | PSS KiB | RSS KiB | private KiB | threads | switches/min | PSS to conmon |\n|---|---|---|---|---|---|---|", title)
	for _, name := range slices.Sorted(maps.Keys(uses)) {
		u, ratio := uses[name], ""
		if c := uses["conmon"]; c != nil {
			ratio = fmt.Sprintf("%.2f", u.pss/c.pss)
		}
		p.line("| %s | %.0f | %.0f | %.0f | %.1f | %.0f | %s |", name, u.pss, u.rss, u.private, u.threads, u.switchRate, ratio)
	}
}
