package cli

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/logfile"
)

// logsFlags are the flags of logs.
type logsFlags struct {
	follow, timestamps, details bool
	tail, since, until          string
}

func newLogs(a *App) *cobra.Command {
	f := &logsFlags{}
	cmd := &cobra.Command{
		Use:               "logs [flags] CONTAINER",
		Short:             "Show what a container has written",
		Args:              needContainer,
		ValidArgsFunction: a.completeContainers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.logs(cmd.Context(), f, args[0])
		},
	}
	set := cmd.Flags()
	set.BoolVarP(&f.follow, "follow", "f", false, "go on with what is written, until the container ends")
	set.BoolVarP(&f.timestamps, "timestamps", "t", false, "begin each line with its time")
	set.BoolVar(&f.details, "details", false, "show what else is known of each line: the stream it was written to")
	set.StringVarP(&f.tail, "tail", "n", "all", "`number` of lines to show from the end")
	set.StringVar(&f.since, "since", "", "show lines from this `time` on (2026-01-02T13:04:05, or 42m for 42 minutes ago)")
	set.StringVar(&f.until, "until", "", "show lines up to this `time`")
	return cmd
}

func (f *logsFlags) options(now time.Time) (o logfile.Options, err error) {
	o.Tail = logfile.All
	if f.tail != "all" {
		n, err := strconv.Atoi(f.tail)
		if err != nil {
			return o, invalidf("--tail %q is not a number or all", f.tail)
		}
		o.Tail = max(n, logfile.All)
	}
	for _, t := range []struct {
		flag, value string
		out         *time.Time
	}{{"--since", f.since, &o.Since}, {"--until", f.until, &o.Until}} {
		if t.value == "" {
			continue
		}
		if *t.out, err = logfile.ParseTime(t.value, now); err != nil {
			return o, invalidf("%s: %s", t.flag, message(err))
		}
	}
	return o, nil
}

func (a *App) logs(ctx context.Context, f *logsFlags, name string) error {
	o, err := f.options(time.Now())
	if err != nil {
		return err
	}
	engine, status, err := a.find(ctx, name)
	if err != nil {
		return err
	}
	if status.LogPath == "" {
		return sentencef(containerizer.ErrUnsupported, "container %q keeps no log", name)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if f.follow && status.State != containerizer.StateExited {
		ended := make(chan struct{})
		o.Ended = ended
		go func() {
			defer close(ended)
			_, _ = engine.Wait(ctx, status.ID) // gone is ended, too
		}()
		defer func() { cancel(); <-ended }()
	}
	p := logPrinter{
		out: bufio.NewWriter(a.Out), err: bufio.NewWriter(a.Err), flags: f,
		buffered: !f.follow,
	}
	err = logfile.Read(ctx, status.LogPath, o, p.print)
	return errors.Join(err, p.out.Flush(), p.err.Flush())
}

// logPrinter writes records to the streams they came from.
type logPrinter struct {
	out, err *bufio.Writer
	flags    *logsFlags
	buffered bool
	inside   bool // within a line that came in several records
}

func (p *logPrinter) print(e logfile.Entry) error {
	w := p.out
	if e.Stream == "stderr" {
		w = p.err
	}
	if !p.inside {
		p.prefix(w, e)
	}
	_, _ = w.Write(e.Content) // Flush reports the error
	if p.inside = e.Partial; !e.Partial {
		_ = w.WriteByte('\n')
	}
	if p.buffered {
		return nil
	}
	return w.Flush()
}

func (p *logPrinter) prefix(w io.StringWriter, e logfile.Entry) {
	const nanos = "2006-01-02T15:04:05.000000000Z07:00"
	if p.flags.timestamps {
		_, _ = w.WriteString(e.Time.UTC().Format(nanos) + " ")
	}
	if p.flags.details {
		_, _ = w.WriteString(e.Stream + " ")
	}
}
