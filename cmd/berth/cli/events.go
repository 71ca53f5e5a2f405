package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/format"
	"github.com/berth-dev/berth/containerizer"
)

// eventsFlags are the flags of events.
type eventsFlags struct {
	after   uint64
	filters []string
	format  string
}

func newEvents(a *App) *cobra.Command {
	f := &eventsFlags{}
	cmd := &cobra.Command{
		Use:   "events [flags]",
		Short: "Show what happens to containers, as it happens",
		Long: `Show what happens to containers, from now on, until it is interrupted. Each event has a sequence number (in --format):
with --after, what followed that event comes first, also when it was shown by another process or an earlier berthd. About
five minutes are remembered.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.events(cmd.Context(), f) },
	}
	set := cmd.Flags()
	set.Uint64Var(&f.after, "after", 0, "begin behind the event with this sequence `number`")
	set.StringArrayVar(&f.filters, "filter", nil, "show only `container=NAME` or event=TYPE (created, started, paused, resumed, updated, renamed, oom, exited, destroyed)")
	set.StringVarP(&f.format, "format", "f", "", "json (an object a line), or a Go `template`")
	return cmd
}

func (a *App) events(ctx context.Context, f *eventsFlags) error {
	filters, err := parseFilters(f.filters, "container", "event")
	if err != nil {
		return err
	}
	engine, err := a.engine(ctx)
	if err != nil {
		return err
	}
	containers := make([]string, 0, len(filters["container"]))
	for _, name := range filters["container"] {
		id, err := resolve(ctx, engine, name)
		if err != nil {
			return err
		}
		containers = append(containers, id.String())
	}
	events, err := engine.Events(ctx, f.after)
	if err != nil {
		return err
	}
	for ev := range events {
		if len(containers) > 0 && !slices.Contains(containers, ev.ID.String()) ||
			len(filters["event"]) > 0 && !slices.Contains(filters["event"], string(ev.Type)) {
			continue
		}
		if err := a.showEvent(ev, f.format); err != nil {
			return err
		}
	}
	if ctx.Err() == nil { // else it was to end so
		err = fmt.Errorf("the events have ended: %w", containerizer.ErrUnavailable)
	}
	return err
}

func (a *App) showEvent(ev containerizer.Event, text string) error {
	switch text {
	case "":
		_, err := fmt.Fprintln(a.Out, eventLine(ev))
		return err
	case "json":
		b, err := json.Marshal(ev)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.Out, "%s\n", b)
		return err
	}
	return format.Objects(a.Out, []containerizer.Event{ev}, text)
}

// eventLine is an event for people.
func eventLine(ev containerizer.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s container %s %s", ev.At.Local().Format(time.RFC3339Nano), ev.Type, ev.ID)
	if t := ev.Termination; t != nil {
		fmt.Fprintf(&b, " (exitCode=%d, reason=%s)", t.ExitCode, t.Reason)
	}
	return b.String()
}
