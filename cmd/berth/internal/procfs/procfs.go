// Package procfs reads what /proc says of single processes, for `berth top`.
package procfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ticks is the unit of times in /proc/PID/stat: USER_HZ, 100 on every
// architecture that berth runs on.
const ticks = 100

// Process is one process.
type Process struct {
	PID, PPID, PGID, SID int
	State                string // as in ps: "S", "R", …
	Comm                 string
	Args                 []string // empty for kernel threads and zombies
	TTY                  string   // "?" without
	CPU                  time.Duration
	Started              time.Time
	Nice, Threads        int
	VSizeBytes, RSSBytes uint64
	UID, EUID, GID       uint32
}

// Read reads a process below root ("/proc"). fs.ErrNotExist when it is gone.
func Read(root string, pid int) (*Process, error) {
	dir := filepath.Join(root, strconv.Itoa(pid))
	data, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return nil, gone(err)
	}
	p, start, err := parseStat(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s/stat: %w", dir, err)
	}
	boot, err := bootTime(root)
	if err != nil {
		return nil, err
	}
	p.Started = boot.Add(start)
	cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return nil, gone(err)
	}
	if s := strings.TrimRight(string(cmdline), "\x00"); s != "" {
		p.Args = strings.Split(s, "\x00")
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return nil, gone(err)
	}
	p.ids(string(status))
	return p, nil
}

// gone makes ESRCH, which reading gives when a process ends in between, one case
// with a missing file.
func gone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return fs.ErrNotExist
	}
	return err
}

// parseStat parses /proc/PID/stat (proc_pid_stat(5)). start is since boot.
func parseStat(s string) (p *Process, start time.Duration, err error) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 2 || end < open {
		return nil, 0, errors.New("it has no name in parentheses")
	}
	p = &Process{Comm: s[open+1 : end]}
	if p.PID, err = strconv.Atoi(strings.TrimSpace(s[:open])); err != nil {
		return nil, 0, err
	}
	fields := strings.Fields(s[end+1:])
	if len(fields) < 22 {
		return nil, 0, fmt.Errorf("it has %d fields", len(fields))
	}
	p.State = fields[0]
	// Field n of the manual is fields[n-3].
	number := func(n int) int64 {
		v, parseErr := strconv.ParseInt(fields[n-3], 10, 64)
		if parseErr != nil && err == nil {
			err = fmt.Errorf("field %d: %w", n, parseErr)
		}
		return v
	}
	p.PPID, p.PGID, p.SID = int(number(4)), int(number(5)), int(number(6))
	p.TTY = ttyName(int(number(7)))
	p.CPU = time.Duration(number(14)+number(15)) * time.Second / ticks
	p.Nice, p.Threads = int(number(19)), int(number(20))
	start = time.Duration(number(22)) * time.Second / ticks
	p.VSizeBytes = uint64(number(23))
	p.RSSBytes = uint64(number(24)) * uint64(os.Getpagesize())
	return p, start, err
}

// ttyName names a terminal by its device number.
func ttyName(device int) string {
	major, minor := device>>8&0xfff, device&0xff|device>>12&0xfff00
	switch {
	case device == 0:
		return "?"
	case major >= 136 && major <= 143:
		return "pts/" + strconv.Itoa((major-136)*256+minor)
	case major == 4 && minor < 64:
		return "tty" + strconv.Itoa(minor)
	case major == 4:
		return "ttyS" + strconv.Itoa(minor-64)
	}
	return strconv.Itoa(major) + "," + strconv.Itoa(minor)
}

func (p *Process) ids(status string) {
	for line := range strings.Lines(status) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		switch f[0] {
		case "Uid:":
			p.UID, p.EUID = id(f[1]), id(f[2])
		case "Gid:":
			p.GID = id(f[1])
		}
	}
}

func id(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32) // the kernel's own
	return uint32(n)
}

// bootTime is when the node was started.
func bootTime(root string) (time.Time, error) {
	data, err := os.ReadFile(filepath.Join(root, "stat"))
	if err != nil {
		return time.Time{}, err
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "btime "); ok {
			seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
			if err != nil {
				return time.Time{}, err
			}
			return time.Unix(seconds, 0), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s/stat has no boot time", root)
}
