package cli

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/cmd/berth/internal/procfs"
)

// topColumn is a column of top, called as ps calls it.
type topColumn struct {
	name, header string
	value        func(*procfs.Process) string
}

func topColumnNames() []string {
	var names []string
	for _, c := range topTable() {
		names = append(names, c.name)
	}
	return names
}

func topTable() []topColumn {
	number := func(get func(*procfs.Process) int) func(*procfs.Process) string {
		return func(p *procfs.Process) string { return strconv.Itoa(get(p)) }
	}
	kib := func(get func(*procfs.Process) uint64) func(*procfs.Process) string {
		return func(p *procfs.Process) string { return strconv.FormatUint(get(p)/1024, 10) }
	}
	owner := func(p *procfs.Process) string { return userName(p.EUID) }
	return []topColumn{
		{"uid", "UID", owner},
		{"user", "USER", owner},
		{"ruser", "RUSER", func(p *procfs.Process) string { return userName(p.UID) }},
		{"pid", "PID", number(func(p *procfs.Process) int { return p.PID })},
		{"ppid", "PPID", number(func(p *procfs.Process) int { return p.PPID })},
		{"pgid", "PGID", number(func(p *procfs.Process) int { return p.PGID })},
		{"sid", "SID", number(func(p *procfs.Process) int { return p.SID })},
		{"c", "C", func(p *procfs.Process) string { return strconv.Itoa(int(cpuPercent(p))) }},
		{"pcpu", "%CPU", func(p *procfs.Process) string { return fmt.Sprintf("%.1f", cpuPercent(p)) }},
		{"stime", "STIME", func(p *procfs.Process) string { return startText(p.Started) }},
		{"etime", "ELAPSED", func(p *procfs.Process) string { return clock(time.Since(p.Started)) }},
		{"tty", "TTY", func(p *procfs.Process) string { return p.TTY }},
		{"time", "TIME", func(p *procfs.Process) string { return longClock(p.CPU) }},
		{"stat", "STAT", func(p *procfs.Process) string { return p.State }},
		{"ni", "NI", number(func(p *procfs.Process) int { return p.Nice })},
		{"nlwp", "NLWP", number(func(p *procfs.Process) int { return p.Threads })},
		{"rss", "RSS", kib(func(p *procfs.Process) uint64 { return p.RSSBytes })},
		{"vsz", "VSZ", kib(func(p *procfs.Process) uint64 { return p.VSizeBytes })},
		{"comm", "COMMAND", func(p *procfs.Process) string { return p.Comm }},
		{"args", "COMMAND", argsText},
		{"cmd", "CMD", argsText},
	}
}

// userName is the host's name for an id, or the number.
func userName(id uint32) string {
	text := strconv.FormatUint(uint64(id), 10)
	if u, err := user.LookupId(text); err == nil {
		return u.Username
	}
	return text
}

func cpuPercent(p *procfs.Process) float64 {
	age := time.Since(p.Started)
	if age <= 0 {
		return 0
	}
	return float64(p.CPU) / float64(age) * 100
}

func startText(t time.Time) string {
	if time.Since(t) < 24*time.Hour {
		return t.Format("15:04")
	}
	return t.Format("Jan02")
}

// clock is [[DD-]HH:]MM:SS, longClock [DD-]HH:MM:SS.
func clock(d time.Duration) string {
	if d < time.Hour {
		return fmt.Sprintf("%02d:%02d", d/time.Minute, d%time.Minute/time.Second)
	}
	return longClock(d)
}

func longClock(d time.Duration) string {
	text := fmt.Sprintf("%02d:%02d:%02d", d%(24*time.Hour)/time.Hour, d%time.Hour/time.Minute, d%time.Minute/time.Second)
	if days := d / (24 * time.Hour); days > 0 {
		text = fmt.Sprintf("%d-%s", days, text)
	}
	return text
}

func argsText(p *procfs.Process) string {
	if len(p.Args) == 0 {
		return "[" + p.Comm + "]"
	}
	return strings.Join(p.Args, " ")
}
