package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"

	"github.com/berth-dev/berth/containerizer"
)

// liveRow is a container's line. A negative number was not measured.
type liveRow struct {
	id, name             string
	state                containerizer.State
	cpu, memory, percent float64
	read, write          float64 // bytes a second, as are rx and tx
	rx, tx               float64
	pids                 float64
	pressure             [3]float64 // of processor, memory and I/O: some, in the last ten seconds
	disk                 float64
}

// liveColumn is one of the table.
type liveColumn struct {
	name, header, key string
	text              func(*liveRow) string
	less              func(a, b *liveRow) int
}

// most puts rows with more of v first.
func most(v func(*liveRow) float64) func(a, b *liveRow) int {
	return func(a, b *liveRow) int { return cmp.Compare(v(b), v(a)) }
}

func liveColumns() []liveColumn {
	pressure := func(i int) func(*liveRow) string {
		return func(r *liveRow) string { return liveText(r.pressure[i], "%.1f") }
	}
	return []liveColumn{
		{name: "id", header: "CONTAINER ID", text: func(r *liveRow) string { return r.id }},
		{name: "name", header: "NAME", key: "a", text: func(r *liveRow) string { return r.name }},
		{name: "cpu", header: "CPU %", key: "c", text: func(r *liveRow) string { return liveText(r.cpu, "%.1f") }, less: most(func(r *liveRow) float64 { return r.cpu })},
		{name: "memory", header: "MEMORY", key: "m", text: func(r *liveRow) string { return liveSize(r.memory) }, less: most(func(r *liveRow) float64 { return r.memory })},
		{name: "", header: "MEM %", text: func(r *liveRow) string { return liveText(r.percent, "%.1f") }},
		{name: "", header: "READ/s", text: func(r *liveRow) string { return liveSize(r.read) }},
		{name: "io", header: "WRITE/s", key: "i", text: func(r *liveRow) string { return liveSize(r.write) }, less: most(func(r *liveRow) float64 { return r.read + r.write })},
		{name: "", header: "RX/s", text: func(r *liveRow) string { return liveSize(r.rx) }},
		{name: "network", header: "TX/s", key: "n", text: func(r *liveRow) string { return liveSize(r.tx) }, less: most(func(r *liveRow) float64 { return r.rx + r.tx })},
		{name: "pids", header: "PIDS", key: "p", text: func(r *liveRow) string { return liveText(r.pids, "%.0f") }, less: most(func(r *liveRow) float64 { return r.pids })},
		{name: "", header: "PSI CPU", text: pressure(0)},
		{name: "pressure", header: "MEM", key: "s", text: pressure(1), less: most(func(r *liveRow) float64 { return max(r.pressure[0], r.pressure[1], r.pressure[2]) })},
		{name: "", header: "IO", text: pressure(2)},
		{name: "disk", header: "DISK", key: "d", text: func(r *liveRow) string { return liveSize(r.disk) }, less: most(func(r *liveRow) float64 { return r.disk })},
		{name: "", header: "STATE", text: func(r *liveRow) string { return string(r.state) }},
	}
}

// liveColumnBy is the column to sort by that is called name, nil when there is none.
func liveColumnBy(name string) *liveColumn {
	for _, c := range liveColumns() {
		if c.key != "" && c.name == name {
			return &c
		}
	}
	return nil
}

func liveColumnNames() []string {
	var names []string
	for _, c := range liveColumns() {
		if c.key != "" {
			names = append(names, c.name)
		}
	}
	return names
}

func liveText(v float64, form string) string {
	if v < 0 {
		return unmeasured
	}
	return fmt.Sprintf(form, v)
}

func liveSize(v float64) string {
	if v < 0 {
		return unmeasured
	}
	return units.CustomSize("%.4g%s", v, 1024, []string{"", "K", "M", "G", "T", "P", "E"})
}

// table is the table without its first rows.
func (t *liveTop) table(first int) []byte {
	columns := liveColumns()
	width := make([]int, len(columns))
	lines := [][]string{make([]string, len(columns))}
	for i, c := range columns {
		lines[0][i], width[i] = c.header, len(c.header)
	}
	for r := range t.rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = c.text(&t.rows[r])
			width[i] = max(width[i], len(cells[i]))
		}
		if r >= first {
			lines = append(lines, cells)
		}
	}
	const words = 2 // columns of words, aligned to the left
	var b bytes.Buffer
	for _, cells := range lines {
		var line strings.Builder
		for i, cell := range cells {
			if i < words || i == len(cells)-1 {
				fmt.Fprintf(&line, "%-*s  ", width[i], cell)
			} else {
				fmt.Fprintf(&line, "%*s  ", width[i], cell)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// liveSampler measures all containers.
type liveSampler struct {
	engine containerizer.Engine
	before map[containerizer.ContainerID]*containerizer.Usage
}

const (
	// livePatience is how long a container may take to be measured.
	livePatience = time.Second
	// liveAtOnce is how many are measured at a time.
	liveAtOnce = 16
)

// rows measures all containers that run. One that cannot be measured, or not in time,
// has no numbers.
func (s *liveSampler) rows(ctx context.Context) ([]liveRow, error) {
	list, err := s.engine.List(ctx, containerizer.Filter{States: []containerizer.State{containerizer.StateRunning, containerizer.StatePaused}})
	if err != nil {
		return nil, err
	}
	measured := make([]*containerizer.Usage, len(list))
	turn := make(chan struct{}, liveAtOnce)
	var wg sync.WaitGroup
	for i := range list {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			ctx, cancel := context.WithTimeout(ctx, livePatience)
			defer cancel()
			if u, err := s.engine.Usage(ctx, list[i].ID); err == nil {
				measured[i] = u
			}
		})
	}
	wg.Wait()
	now := make(map[containerizer.ContainerID]*containerizer.Usage, len(list))
	rows := make([]liveRow, len(list))
	for i := range list {
		now[list[i].ID] = measured[i]
		rows[i] = newLiveRow(&list[i], s.before[list[i].ID], measured[i])
	}
	s.before = now
	return rows, ctx.Err()
}

func newLiveRow(c *containerizer.Status, before, now *containerizer.Usage) liveRow {
	r := liveRow{
		id: c.ID.Short(), name: c.ID.Short(), state: c.State, cpu: -1, memory: -1, percent: -1, read: -1, write: -1, rx: -1, tx: -1, pids: -1,
		pressure: [3]float64{-1, -1, -1}, disk: -1,
	}
	if c.Spec != nil && c.Spec.Name != "" {
		r.name = c.Spec.Name
	}
	if now == nil {
		return r
	}
	r.levels(now)
	if before != nil && now.At.After(before.At) {
		r.rates(before, now)
	}
	return r
}

// levels fills in what one sample says.
func (r *liveRow) levels(now *containerizer.Usage) {
	if m := now.Memory; m != nil {
		r.memory = float64(m.WorkingSetBytes)
		if limit := memoryLimit(m); limit > 0 {
			r.percent = r.memory / float64(limit) * 100
		}
		r.pressure[1] = stalled(m.Pressure)
	}
	if now.CPU != nil {
		r.pressure[0] = stalled(now.CPU.Pressure)
	}
	if now.IO != nil {
		r.pressure[2] = stalled(now.IO.Pressure)
	}
	if now.PIDs != nil {
		r.pids = float64(now.PIDs.Current)
	}
	if now.Disk != nil {
		r.disk = float64(now.Disk.Bytes)
	}
}

func stalled(p *containerizer.Pressure) float64 {
	if p == nil {
		return -1
	}
	return p.Some.Avg10
}

// rates fills in what two samples say.
func (r *liveRow) rates(before, now *containerizer.Usage) {
	seconds := now.At.Sub(before.At).Seconds()
	rate := func(before, now uint64) float64 {
		if now < before { // it was started anew
			return 0
		}
		return float64(now-before) / seconds
	}
	if before.CPU != nil && now.CPU != nil {
		share := rate(uint64(before.CPU.Total), uint64(now.CPU.Total)) / float64(time.Second)
		r.cpu = min(share, float64(runtime.NumCPU())) * 100
	}
	if before.IO != nil && now.IO != nil {
		r.read, r.write = rate(before.IO.ReadBytes, now.IO.ReadBytes), rate(before.IO.WriteBytes, now.IO.WriteBytes)
	}
	if len(now.Network) > 0 {
		rxBefore, txBefore := traffic(before.Network)
		rx, tx := traffic(now.Network)
		r.rx, r.tx = rate(rxBefore, rx), rate(txBefore, tx)
	}
}
