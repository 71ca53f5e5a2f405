package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/cmd/berth/internal/terminal"
	"github.com/berth-dev/berth/containerizer"
)

// statsFlags are the flags of stats.
type statsFlags struct {
	all, noStream, noTrunc bool
	format                 string
}

func newStats(a *App) *cobra.Command {
	f := &statsFlags{}
	cmd := &cobra.Command{
		Use:   "stats [flags] [CONTAINER...]",
		Short: "Show what containers use, again every second",
		Long: `Show what containers use, again every second. Beside the columns of the table, --format has .CPUPressure, .MemPressure
and .IOPressure, the share of the last ten seconds in which something was stalled (version 2 of control groups), and
.DiskUsage and .DiskInodes, what the container wrote.`,
		ValidArgsFunction: a.completeContainers(containerizer.StateRunning, containerizer.StatePaused),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.stats(cmd.Context(), f, args)
		},
	}
	set := cmd.Flags()
	set.BoolVarP(&f.all, "all", "a", false, "show all containers, not only running ones")
	set.BoolVar(&f.noStream, "no-stream", false, "show it once")
	set.BoolVar(&f.noTrunc, "no-trunc", false, "do not shorten")
	set.StringVar(&f.format, "format", "", "table, json, or a Go `template`")
	return cmd
}

func statsLayout() *format.Layout {
	return &format.Layout{
		Fields: []format.Field{
			{Name: "BlockIO", Header: "BLOCK I/O"},
			{Name: "CPUPerc", Header: "CPU %"},
			{Name: "CPUPressure", Header: "CPU PRESSURE"},
			{Name: "Container", Header: "CONTAINER"},
			{Name: "DiskInodes", Header: "INODES"},
			{Name: "DiskUsage", Header: "DISK"},
			{Name: "ID", Header: "CONTAINER ID"},
			{Name: "IOPressure", Header: "I/O PRESSURE"},
			{Name: "MemPerc", Header: "MEM %"},
			{Name: "MemPressure", Header: "MEM PRESSURE"},
			{Name: "MemUsage", Header: "MEM USAGE / LIMIT"},
			{Name: "Name", Header: "NAME"},
			{Name: "NetIO", Header: "NET I/O"},
			{Name: "PIDs", Header: "PIDS"},
		},
		Table: []string{"ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"},
		ID:    "ID",
	}
}

// statsEvery is how often stats samples.
const statsEvery = time.Second

func (a *App) stats(ctx context.Context, f *statsFlags, names []string) error {
	engine, err := a.engine(ctx)
	if err != nil {
		return err
	}
	sample := sampler{engine: engine, flags: f, names: names, processors: runtime.NumCPU()}
	if err := sample.check(ctx); err != nil {
		return err
	}
	// CPU is a difference of two samples: the first is not shown.
	if _, err := sample.rows(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(statsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ignore(ctx.Err(), context.Canceled)
		case <-tick.C:
		}
		rows, err := sample.rows(ctx)
		if err != nil {
			return err
		}
		if err := a.showStats(f, rows); err != nil {
			return err
		}
		if f.noStream {
			return nil
		}
	}
}

// showStats prints a table, over the last one where the screen is a terminal.
func (a *App) showStats(f *statsFlags, rows []format.Row) error {
	screen, _ := a.Out.(*os.File)
	over := !f.noStream && terminal.Is(screen)
	var b bytes.Buffer
	if over {
		b.WriteString("\x1b[H")
	}
	if err := statsLayout().Print(&b, rows, format.Options{Format: f.format}); err != nil {
		return err
	}
	out := b.Bytes()
	if over {
		out = bytes.ReplaceAll(out, []byte("\n"), []byte("\x1b[K\n"))
		out = append(out, "\x1b[J"...)
	}
	_, err := a.Out.Write(out)
	return err
}

// sampler turns usage into rows.
type sampler struct {
	engine     containerizer.Engine
	flags      *statsFlags
	names      []string
	processors int
	before     map[containerizer.ContainerID]*containerizer.Usage
}

// check finds the containers that were named, so that a wrong name is an error.
func (s *sampler) check(ctx context.Context) error {
	var all error
	for _, n := range s.names {
		_, err := resolve(ctx, s.engine, n)
		all = errors.Join(all, err)
	}
	return all
}

func (s *sampler) containers(ctx context.Context) ([]containerizer.Status, error) {
	if len(s.names) == 0 {
		f := containerizer.Filter{}
		if !s.flags.all {
			f.States = []containerizer.State{containerizer.StateRunning, containerizer.StatePaused}
		}
		return s.engine.List(ctx, f)
	}
	var out []containerizer.Status
	for _, n := range s.names {
		id, err := s.engine.ResolveID(ctx, n)
		if err == nil {
			var status *containerizer.Status
			if status, err = s.engine.Status(ctx, id); err == nil {
				out = append(out, *status)
			}
		}
		if err != nil && !errors.Is(err, containerizer.ErrNotFound) {
			return nil, err
		}
	}
	return out, nil
}

// rows takes a sample of each container.
func (s *sampler) rows(ctx context.Context) ([]format.Row, error) {
	list, err := s.containers(ctx)
	if err != nil {
		return nil, err
	}
	now := map[containerizer.ContainerID]*containerizer.Usage{}
	var rows []format.Row
	for i := range list {
		c := &list[i]
		if !c.ID.IsRoot() {
			continue
		}
		usage := &containerizer.Usage{}
		if c.State == containerizer.StateRunning || c.State == containerizer.StatePaused {
			if usage, err = s.engine.Usage(ctx, c.ID); err != nil {
				if errors.Is(err, containerizer.ErrNotFound) || errors.Is(err, containerizer.ErrFailedPrecondition) {
					continue // it ended in the meantime
				}
				return nil, err
			}
		}
		now[c.ID] = usage
		rows = append(rows, s.row(c, usage))
	}
	s.before = now
	return rows, nil
}
