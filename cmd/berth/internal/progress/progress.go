package progress

import (
	"encoding/json"
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

// Mode is a way to show progress.
type Mode string

// Modes, by the names that other tools use.
const (
	Auto  Mode = "auto"  // TTY on a terminal, Plain elsewhere
	TTY   Mode = "tty"   // bars
	Plain Mode = "plain" // a line when a layer enters a phase
	JSON  Mode = "json"  // an object a line, at most four a second and layer
	Quiet Mode = "quiet"
)

// Modes lists them.
func Modes() []Mode { return []Mode{Auto, TTY, Plain, JSON, Quiet} }

// jsonEvery is the least time between two objects about one layer in one phase.
const jsonEvery = 250 * time.Millisecond

// Display shows the layers of one pull, push or copy. It is used from one goroutine
// at a time.
type Display struct {
	out    io.Writer
	mode   Mode // Auto no more
	size   func() (columns, rows int)
	now    func() time.Time
	layers []layer
	index  map[digest.Digest]int
	drawn  int // lines on the screen
	last   time.Time
}

type layer struct {
	containerizer.Progress
	told time.Time
}

// New makes a display on out.
func New(out io.Writer, mode Mode) *Display {
	d := &Display{out: out, mode: mode, now: time.Now, index: map[digest.Digest]int{}, size: func() (int, int) { return 80, 24 }}
	f, isFile := out.(*os.File)
	terminal := isFile && term.IsTerminal(int(f.Fd()))
	if terminal {
		d.size = func() (int, int) {
			w, h, err := term.GetSize(int(f.Fd()))
			if err != nil || w <= 0 || h <= 0 {
				return 80, 24
			}
			return w, h
		}
	}
	if mode == Auto || mode == "" {
		d.mode = Plain
		if terminal {
			d.mode = TTY
		}
	}
	return d
}

// Update takes the state of a layer.
func (d *Display) Update(p containerizer.Progress) {
	if d.mode == Quiet {
		return
	}
	i, known := d.index[p.Layer]
	if !known {
		i = len(d.layers)
		d.index[p.Layer] = i
		d.layers = append(d.layers, layer{})
	}
	l := &d.layers[i]
	entered := p.Phase != l.Phase
	l.Progress = p
	now := d.now()
	switch d.mode {
	case Plain:
		if entered {
			d.line(l)
		}
	case JSON:
		if entered || now.Sub(l.told) >= jsonEvery {
			l.told = now
			d.object(l)
		}
	default:
		if entered || now.Sub(d.last) >= redraw {
			d.last = now
			d.draw()
		}
	}
}

// Finish leaves the last state on the screen.
func (d *Display) Finish() {
	if d.mode == TTY && len(d.layers) > 0 {
		d.draw()
	}
}

// object is what JSON shows of a layer.
func (d *Display) object(l *layer) {
	raw, err := json.Marshal(struct {
		ID      digest.Digest       `json:"id"`
		Status  containerizer.Phase `json:"status"`
		Current int64               `json:"current"`
		Total   int64               `json:"total,omitempty"`
		Rate    int64               `json:"rate,omitempty"`
		Retries int                 `json:"retries,omitempty"`
		Source  string              `json:"source,omitempty"`
	}{l.Layer, l.Phase, l.Done, l.Total, l.Rate, l.Retries, l.Source})
	if err == nil {
		_, _ = d.out.Write(append(raw, '\n')) // progress only
	}
}

// line reports a change of phase.
func (d *Display) line(l *layer) {
	if l.Phase == containerizer.PhaseWaiting || l.Phase == containerizer.PhaseUnpacking {
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
		if skip > 0 && (l.Phase == containerizer.PhaseComplete || l.Phase == containerizer.PhaseExists) {
			skip--
			continue
		}
		out = append(out, l)
	}
	return out[:min(len(out), max(rows, 1))]
}

// bar is one line: digest, phase, and while bytes flow a bar, the amounts, the rate
// and what is not as usual.
func (d *Display) bar(l *layer, columns int) string {
	head := fmt.Sprintf("%s: %-11s ", short(l.Layer), l.Phase)
	if l.Phase != containerizer.PhaseDownloading && l.Phase != containerizer.PhaseUploading {
		if l.Total > 0 {
			head += bytesText(l.Total)
		}
		return clip(head, columns)
	}
	amount := bytesText(l.Done)
	if l.Total > 0 {
		amount += "/" + bytesText(l.Total)
	}
	if l.Rate > 0 {
		amount += "  " + bytesText(l.Rate) + "/s"
	}
	if l.Retries > 0 {
		amount += fmt.Sprintf("  retry %d (%s)", l.Retries, l.Source)
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
