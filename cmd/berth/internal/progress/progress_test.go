package progress

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
)

func TestLines(t *testing.T) {
	var b strings.Builder
	d := New(&b, Auto)
	a := digest.FromString("a")
	for _, p := range []containerizer.Progress{
		{Layer: a, Phase: "waiting"},
		{Layer: a, Phase: "downloading", Total: 2048},
		{Layer: a, Phase: "downloading", Done: 100, Total: 2048},
		{Layer: a, Phase: "complete", Done: 2048, Total: 2048},
	} {
		d.Update(p)
	}
	d.Finish()
	want := "ca978112ca1b: downloading 2.048kB\nca978112ca1b: complete 2.048kB\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// screen is what a terminal shows after the control sequences that draw writes.
func screen(s string) []string {
	var lines []string
	row := 0
	for s != "" {
		switch {
		case strings.HasPrefix(s, "\x1b["):
			end := strings.IndexAny(s, "AKJ")
			n := strings.TrimPrefix(s[:end], "\x1b[")
			if s[end] == 'A' {
				for range len(n) {
					row -= int(n[0] - '0')
				}
			}
			if s[end] == 'J' {
				lines = lines[:row]
			}
			s = s[end+1:]
		default:
			line, rest, _ := strings.Cut(s, "\n")
			for len(lines) <= row {
				lines = append(lines, "")
			}
			lines[row] = line
			row++
			s = rest
		}
	}
	return lines
}

func TestBars(t *testing.T) {
	var b strings.Builder
	now := time.Unix(0, 0)
	d := New(&b, TTY)
	d.size = func() (int, int) { return 70, 4 }
	d.now = func() time.Time { return now }
	layers := []digest.Digest{digest.FromString("a"), digest.FromString("b"), digest.FromString("c"), digest.FromString("d")}
	for _, l := range layers {
		d.Update(containerizer.Progress{Layer: l, Phase: "downloading", Total: 1000})
	}
	now = now.Add(time.Second)
	d.Update(containerizer.Progress{Layer: layers[1], Phase: "downloading", Done: 0, Total: 1000, Retries: 2, Source: "m"})
	d.Update(containerizer.Progress{Layer: layers[0], Phase: "complete", Done: 1000, Total: 1000})
	d.Update(containerizer.Progress{Layer: layers[3], Phase: "downloading", Done: 500, Total: 1000, Rate: 500})
	d.Finish()
	want := []string{
		"3e23e8160039: downloading [ ] 0B/1kB retry 2 (m)",
		"2e7d2c03a950: downloading [ ] 0B/1kB",
		"18ac3e7343f0: downloading [============ ] 500B/1kB 500B/s",
	}
	got := screen(b.String())
	for i := range got {
		got[i] = strings.Join(strings.Fields(got[i]), " ")
		if len(got[i]) > 70 {
			t.Errorf("line %q is longer than the screen is wide", got[i])
		}
	}
	for i := range want {
		want[i] = strings.Join(strings.Fields(want[i]), " ")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
}

func TestJSON(t *testing.T) {
	var b strings.Builder
	now := time.Unix(0, 0)
	d := New(&b, JSON)
	d.now = func() time.Time { return now }
	a := digest.FromString("a")
	for n := range 10 {
		d.Update(containerizer.Progress{Layer: a, Phase: "downloading", Done: int64(n), Total: 10, Rate: 7, Retries: 1, Source: "mirror:5000"})
		now = now.Add(100 * time.Millisecond)
	}
	d.Update(containerizer.Progress{Layer: a, Phase: "complete", Done: 10, Total: 10})
	d.Finish()
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 5 { // at 0, 300, 600 and 900 ms, and the end
		t.Errorf("%d lines:\n%s", len(lines), b.String())
	}
	want := `{"id":"` + string(a) + `","status":"downloading","current":3,"total":10,"rate":7,"retries":1,"source":"mirror:5000"}`
	if lines[1] != want {
		t.Errorf("got  %s\nwant %s", lines[1], want)
	}
	if want := `{"id":"` + string(a) + `","status":"complete","current":10,"total":10}`; lines[len(lines)-1] != want {
		t.Errorf("got  %s\nwant %s", lines[len(lines)-1], want)
	}
}

func TestQuiet(t *testing.T) {
	var b strings.Builder
	d := New(&b, Quiet)
	d.Update(containerizer.Progress{Layer: digest.FromString("a"), Phase: "complete"})
	d.Finish()
	if b.Len() > 0 {
		t.Errorf("quiet said %q", b.String())
	}
}
