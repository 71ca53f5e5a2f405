package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/cmd/berth/internal/procfs"
	"github.com/berth-dev/berth/containerizer"
)

func newTop(a *App) *cobra.Command {
	f := &liveFlags{}
	cmd := &cobra.Command{
		Use:   "top [flags] [CONTAINER [-o COLUMN,... | PS OPTIONS]]",
		Short: "Show what all containers use, or the processes of one",
		Long: `Without a container, show what all running containers use, again and again: processor time, memory (the working set),
I/O, network, processes, pressure (the share of the last ten seconds in which something was stalled for want of processor,
memory or I/O; version 2 of control groups) and what they wrote. Keys choose the order; q leaves. Once, where the
output is no terminal.

With a container, list its processes, with their ids of the host. -o chooses columns, which berth reads itself:
` + strings.Join(topColumnNames(), ", ") + `.
Any other options are given to the host's ps, of whose output the container's processes are shown.`,
		ValidArgsFunction: a.completeContainers(containerizer.StateRunning, containerizer.StatePaused),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.live(cmd.Context(), f)
			}
			for _, name := range []string{"sort", "interval", "no-stream"} {
				if cmd.Flags().Changed(name) {
					return invalidf("--%s is for the table of all containers; %s lists processes", name, cmd.CommandPath()+" "+args[0])
				}
			}
			return a.top(cmd.Context(), args[0], args[1:])
		},
	}
	set := cmd.Flags()
	set.SetInterspersed(false)
	set.StringVar(&f.sort, "sort", "cpu", "`column` to order by: "+strings.Join(liveColumnNames(), ", "))
	set.DurationVar(&f.interval, "interval", defaultInterval, "`time` between two looks")
	set.BoolVar(&f.noStream, "no-stream", false, "show it once")
	return cmd
}

func (a *App) top(ctx context.Context, name string, options []string) error {
	engine, status, err := a.find(ctx, name)
	if err != nil {
		return err
	}
	if status.State != containerizer.StateRunning && status.State != containerizer.StatePaused {
		return sentencef(containerizer.ErrFailedPrecondition, "container %q is %s, not running", name, status.State)
	}
	pids, err := engine.Processes(ctx, status.ID)
	if err != nil {
		return err
	}
	slices.Sort(pids)
	columns, own, err := topColumns(options)
	if err != nil {
		return err
	}
	if !own {
		return a.hostPs(ctx, pids, options)
	}
	layout := format.Layout{ID: "pid"}
	for _, c := range columns {
		layout.Fields = append(layout.Fields, format.Field{Name: c.name, Header: c.header})
		layout.Table = append(layout.Table, c.name)
	}
	var rows []format.Row
	for _, pid := range pids {
		p, err := procfs.Read("/proc", pid)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it ended in the meantime
		}
		if err != nil {
			return err
		}
		row := format.Row{}
		for _, c := range columns {
			row[c.name] = c.value(p)
		}
		rows = append(rows, row)
	}
	return layout.Print(a.Out, rows, format.Options{})
}

// topColumns chooses columns; own is false for options of ps.
func topColumns(options []string) (columns []topColumn, own bool, err error) {
	var names []string
	switch {
	case len(options) == 0:
		names = []string{"uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd"}
	case len(options) == 2 && options[0] == "-o":
		names = strings.Split(options[1], ",")
	case len(options) == 1 && strings.HasPrefix(options[0], "-o"):
		names = strings.Split(strings.TrimPrefix(options[0][2:], "="), ",")
	default:
		return nil, false, nil
	}
	known := topTable()
	for _, n := range names {
		i := slices.IndexFunc(known, func(c topColumn) bool { return c.name == strings.ToLower(n) })
		if i < 0 {
			return nil, false, invalidf("no column %q (there are %s)", n, strings.Join(topColumnNames(), ", "))
		}
		columns = append(columns, known[i])
	}
	return columns, true, nil
}

// hostPs runs ps and shows the lines about pids, as Docker does.
func (a *App) hostPs(ctx context.Context, pids []int, options []string) error {
	cmd := exec.CommandContext(ctx, "ps", options...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("ps %s: %w: %s", strings.Join(options, " "), err, strings.TrimSpace(errs.String()))
	}
	lines := strings.SplitAfter(string(out), "\n")
	column := slices.Index(strings.Fields(lines[0]), "PID")
	if column < 0 {
		return invalidf("ps %s shows no column PID", strings.Join(options, " "))
	}
	for i, line := range lines {
		if i > 0 && !isAbout(line, column, pids) {
			continue
		}
		if _, err := io.WriteString(a.Out, line); err != nil {
			return err
		}
	}
	return nil
}

// isAbout says whether a line of ps is about one of pids.
func isAbout(line string, column int, pids []int) bool {
	fields := strings.Fields(line)
	if column >= len(fields) {
		return false
	}
	pid, err := strconv.Atoi(fields[column])
	return err == nil && slices.Contains(pids, pid)
}
