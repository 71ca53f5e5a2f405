package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/berth-dev/berth/cmd/berth/internal/terminal"
	"github.com/berth-dev/berth/containerizer"
)

// liveFlags are the flags of top without a container.
type liveFlags struct {
	sort     string
	interval time.Duration
	noStream bool
}

const (
	defaultInterval  = 2 * time.Second
	shortestInterval = 200 * time.Millisecond
	// firstInterval is how long is waited for the second of two samples, which make the
	// first table.
	firstInterval = 300 * time.Millisecond
)

func (f *liveFlags) check() error {
	if f.interval < shortestInterval {
		return invalidf("--interval %s is shorter than %s", f.interval, shortestInterval)
	}
	if liveColumnBy(f.sort) == nil {
		return invalidf("--sort %q: there are %s", f.sort, strings.Join(liveColumnNames(), ", "))
	}
	return nil
}

// liveTop is a table of all containers that is drawn again and again.
type liveTop struct {
	app     *App
	sampler liveSampler
	sort    *liveColumn
	first   int // the line of the table at the top of the screen
	size    containerizer.Size
	rows    []liveRow
	problem error // of the last sample
}

// live shows what all running containers use, until a key or a signal ends it; once
// where nobody looks.
func (a *App) live(ctx context.Context, f *liveFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	engine, err := a.engine(ctx)
	if err != nil {
		return err
	}
	t := &liveTop{app: a, sampler: liveSampler{engine: engine}, sort: liveColumnBy(f.sort)}
	if err := t.take(ctx); err != nil {
		return err
	}
	select { // rates are differences of two samples
	case <-time.After(firstInterval):
	case <-ctx.Done():
		return ignore(ctx.Err(), context.Canceled)
	}
	if err := t.take(ctx); err != nil {
		return err
	}
	screen, _ := a.Out.(*os.File)
	if f.noStream || !terminal.Is(screen) || !terminal.Is(a.In) {
		_, err := a.Out.Write(t.table(0))
		return err
	}
	return t.run(ctx, screen, f.interval)
}

const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the alternate one, without a cursor (xterm)
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

// run draws on screen until somebody leaves.
func (t *liveTop) run(ctx context.Context, screen *os.File, interval time.Duration) error {
	restore, err := terminal.Raw(t.app.In)
	if err != nil {
		return err
	}
	defer restore()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if _, err := screen.WriteString(enterScreen); err != nil {
		return err
	}
	defer func() { _, _ = screen.WriteString(leaveScreen) }() // there is nobody to tell
	sizes, keys := terminal.Sizes(ctx, screen), typed(ctx, t.app.In)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	t.size = terminal.Size(screen)
	for {
		if err := t.draw(screen); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ignore(ctx.Err(), context.Canceled)
		case t.size = <-sizes:
		case key, open := <-keys:
			if !open || t.key(key) {
				return nil
			}
		case <-tick.C:
			if err := t.take(ctx); err != nil {
				t.problem = err // it is shown, and tried again
			}
		}
	}
}

// typed sends the keys that are typed: single characters, and the names of arrows.
func typed(ctx context.Context, in *os.File) <-chan string {
	keys := make(chan string)
	go func() { // ends with the process, if nobody types anything
		defer close(keys)
		var buf [64]byte
		for {
			n, err := in.Read(buf[:])
			if err != nil {
				return
			}
			for _, key := range splitKeys(string(buf[:n])) {
				select {
				case keys <- key:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return keys
}

// splitKeys takes apart what a terminal sent. A sequence that is none of ours is
// left out.
func splitKeys(s string) []string {
	var keys []string
	for s != "" {
		switch {
		case strings.HasPrefix(s, "\x1b[A"), strings.HasPrefix(s, "\x1bOA"):
			keys, s = append(keys, "up"), s[3:]
		case strings.HasPrefix(s, "\x1b[B"), strings.HasPrefix(s, "\x1bOB"):
			keys, s = append(keys, "down"), s[3:]
		case s[0] == '\x1b':
			s = ""
		default:
			keys, s = append(keys, s[:1]), s[1:]
		}
	}
	return keys
}

// key does what a key is for, and says whether that is to leave.
func (t *liveTop) key(key string) (leave bool) {
	switch key {
	case "q", "Q", "\x03", "\x04":
		return true
	case "up", "k":
		t.first = max(0, t.first-1)
	case "down", "j":
		t.first = min(t.first+1, max(0, len(t.rows)-1))
	default:
		for _, c := range liveColumns() {
			if c.key == key {
				t.sort, t.first = liveColumnBy(c.name), 0
				t.arrange()
			}
		}
	}
	return false
}

// take takes a sample of all containers.
func (t *liveTop) take(ctx context.Context) error {
	rows, err := t.sampler.rows(ctx)
	if err != nil {
		return err
	}
	t.rows, t.problem = rows, nil
	t.arrange()
	return nil
}

// arrange puts the rows in order; those of equal use by name.
func (t *liveTop) arrange() {
	slices.SortStableFunc(t.rows, func(a, b liveRow) int { return strings.Compare(a.name, b.name) })
	if t.sort.less != nil {
		slices.SortStableFunc(t.rows, func(a, b liveRow) int { return t.sort.less(&a, &b) })
	}
	t.first = min(t.first, max(0, len(t.rows)-1))
}

// draw draws all of the screen in one write, so that nothing flickers.
func (t *liveTop) draw(screen *os.File) error {
	lines := strings.Split(strings.TrimSuffix(string(t.table(t.first)), "\n"), "\n")
	head := t.heading()
	var b bytes.Buffer
	b.WriteString("\x1b[H")
	for i, line := range slices.Concat(head, lines) {
		if t.size.Rows > 0 && i >= int(t.size.Rows) {
			break
		}
		if i > 0 {
			b.WriteString("\r\n")
		}
		if i == len(head) {
			b.WriteString("\x1b[7m") // the names of columns, on a bar
			line += strings.Repeat(" ", max(0, int(t.size.Columns)-len(line)))
		}
		b.WriteString(t.crop(line))
		b.WriteString("\x1b[m\x1b[K")
	}
	b.WriteString("\x1b[J")
	_, err := screen.Write(b.Bytes())
	return err
}

// crop makes a line fit the screen.
func (t *liveTop) crop(line string) string {
	if t.size.Columns == 0 {
		return line
	}
	return line[:min(len(line), int(t.size.Columns))] // it is ASCII
}

// heading are the lines above the table.
func (t *liveTop) heading() []string {
	line := fmt.Sprintf("berth top  %s  %d containers, by %s", time.Now().Format(time.TimeOnly), len(t.rows), t.sort.name)
	if t.problem != nil {
		line = "berth top  " + printable(t.problem.Error())
	}
	var help strings.Builder
	help.WriteString("q leaves; order by")
	for _, c := range liveColumns() {
		if c.key != "" {
			fmt.Fprintf(&help, " %s:%s", c.key, c.name)
		}
	}
	return []string{line, help.String()}
}

// printable is s on one line, in ASCII.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
