package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"golang.org/x/term"

	"github.com/berth-dev/berth/containerizer"
)

// redraw is the least time between two drawings.
const redraw = 80 * time.Millisecond

// Display shows the layers of one pull. It is used from one goroutine at a time.
type Display struct {
	out    io.Writer
	size   func() (columns, rows int) // nil: no terminal
	now    func() time.Time
	layers []layer
	index  map[digest.Digest]int
	drawn  int // lines on the screen
	last   time.Time
}

type layer struct {
	containerizer.Progress
	began time.Time
}

// New makes a display on out; one on io.Discard shows nothing.
func New(out io.Writer) *Display {
	d := &Display{out: out, now: time.Now, index: map[digest.Digest]int{}}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		d.size = func() (int, int) {
			w, h, err := term.GetSize(int(f.Fd()))
			if err != nil || w <= 0 || h <= 0 {
				return 80, 24
			}
			return w, h
		}
	}
	return d
}

// Update takes the state of a layer.
func (d *Display) Update(p containerizer.Progress) {
	i, known := d.index[p.Layer]
	if !known {
		i = len(d.layers)
		d.index[p.Layer] = i
		d.layers = append(d.layers, layer{began: d.now()})
	}
	previous := d.layers[i].Phase
	d.layers[i].Progress = p
	if d.size == nil {
		if p.Phase != previous {
			d.line(&d.layers[i])
		}
		return
	}
	if now := d.now(); p.Phase != previous || now.Sub(d.last) >= redraw {
		d.last = now
		d.draw()
	}
}

// Finish leaves the last state on the screen.
func (d *Display) Finish() {
	if d.size != nil && len(d.layers) > 0 {
		d.draw()
	}
}

// line reports a change of phase.
func (d *Display) line(l *layer) {
	if l.Phase == "waiting" {
		return
	}
	size := ""
	if l.Total > 0 {
		size = " " + bytesText(l.Total)
	}
	_, _ = fmt.Fprintf(d.out, "%s: %s%s\n", short(l.Layer), l.Phase, size) // progress only
}

// draw draws all layers over the last drawing. Where there are more than rows,
// those that are done are left out first.
func (d *Display) draw() {
	columns, rows := d.size()
	var b strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", d.drawn)
	}
	lines := d.visible(rows - 1)
	for _, l := range lines {
		b.WriteString("\x1b[2K" + d.bar(l, columns) + "\n")
	}
	if d.drawn > len(lines) {
		b.WriteString("\x1b[0J")
	}
	d.drawn = len(lines)
	_, _ = io.WriteString(d.out, b.String()) // progress only
}

func (d *Display) visible(rows int) []*layer {
	skip := len(d.layers) - max(rows, 1)
	var out []*layer
	for i := range d.layers {
		l := &d.layers[i]
		if skip > 0 && (l.Phase == "complete" || l.Phase == "exists") {
			skip--
			continue
		}
		out = append(out, l)
	}
	return out[:min(len(out), max(rows, 1))]
}

// bar is one line: digest, phase, and while it is downloading a bar, the amounts
// and the rate.
func (d *Display) bar(l *layer, columns int) string {
	head := fmt.Sprintf("%s: %-11s ", short(l.Layer), l.Phase)
	if l.Phase != "downloading" {
		if l.Total > 0 {
			head += bytesText(l.Total)
		}
		return clip(head, columns)
	}
	amount := bytesText(l.Done)
	if l.Total > 0 {
		amount += "/" + bytesText(l.Total)
	}
	if seconds := d.now().Sub(l.began).Seconds(); seconds > 0.5 {
		amount += "  " + bytesText(int64(float64(l.Done)/seconds)) + "/s"
	}
	width := min(columns-len(head)-len(amount)-4, 50)
	if width < 8 || l.Total <= 0 {
		return clip(head+amount, columns)
	}
	full := int(min(l.Done, l.Total) * int64(width) / l.Total)
	return head + "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "] " + amount
}

func bytesText(n int64) string { return units.HumanSizeWithPrecision(float64(n), 4) }

func clip(s string, columns int) string {
	if len(s) > columns {
		return s[:columns]
	}
	return s
}

func short(d digest.Digest) string {
	_, hex, _ := strings.Cut(string(d), ":")
	return hex[:min(len(hex), 12)]
}
