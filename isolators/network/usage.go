package network

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Usage fills in the counters of the interfaces of the container's own network
// namespace, loopback apart. Those of a shared namespace are its owner's.
func (i *Isolator) Usage(_ context.Context, c *containerizer.Container, u *containerizer.Usage) error {
	m, err := modeOf(c)
	if err != nil || m.kind != kindPrivate {
		return err
	}
	path := namespacePath(c)
	if path == "" {
		return nil // it does not run
	}
	b, err := readDev(path)
	if err != nil {
		return fmt.Errorf("read interface counters: %w", err)
	}
	u.Network, err = parseDev(b)
	return err
}

// readDev reads net/dev as it is in the namespace that path opens. That of a
// process is read without entering its namespace.
func readDev(path string) ([]byte, error) {
	if process, is := strings.CutSuffix(path, "/ns/net"); is {
		return os.ReadFile(process + "/net/dev")
	}
	var b []byte
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, in whatever namespace
		done <- func() error {
			ns, err := os.Open(path)
			if err != nil {
				return err
			}
			defer func() { _ = ns.Close() }() // read only
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter %q: %w", path, err)
			}
			b, err = os.ReadFile("/proc/thread-self/net/dev")
			return err
		}()
	}()
	err := <-done
	return b, err
}

// parseDev reads /proc/net/dev: after two lines of headings, one an interface with
// eight numbers received and eight sent.
func parseDev(b []byte) ([]containerizer.NetworkUsage, error) {
	var out []containerizer.NetworkUsage
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 0; lines.Scan(); n++ {
		name, numbers, found := strings.Cut(lines.Text(), ":")
		if n < 2 || !found {
			continue
		}
		if name = strings.TrimSpace(name); name == "lo" {
			continue
		}
		fields := strings.Fields(numbers)
		if len(fields) < 16 {
			return nil, fmt.Errorf("interface %q has %d counters, want 16: %w", name, len(fields), containerizer.ErrDataCorrupt)
		}
		var v [16]uint64
		var errs error
		for k := range v {
			var err error
			v[k], err = strconv.ParseUint(fields[k], 10, 64)
			errs = errors.Join(errs, err)
		}
		if errs != nil {
			return nil, fmt.Errorf("counters of interface %q: %w: %w", name, errs, containerizer.ErrDataCorrupt)
		}
		out = append(out, containerizer.NetworkUsage{
			Interface: name,
			RxBytes:   v[0], RxPackets: v[1], RxErrors: v[2], RxDropped: v[3],
			TxBytes: v[8], TxPackets: v[9], TxErrors: v[10], TxDropped: v[11],
		})
	}
	return out, nil
}
