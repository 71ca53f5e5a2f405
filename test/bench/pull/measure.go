package pull

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// figures of one pull.
type figures struct {
	wall, cpu, disk time.Duration // disk is what writing everything out took afterwards
	peak            int64
}

// touchBytes of memory before each measurement.
const touchBytes = 1 << 30

// calm touches and gives back memory, and has everything written to disk.
func calm() error {
	b, err := unix.Mmap(-1, 0, touchBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("touch memory: %w", err)
	}
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	if err := unix.Munmap(b); err != nil {
		return err
	}
	unix.Sync()
	return nil
}

// measure runs one pull, while the image removed is removed unless it is "".
func measure(ctx context.Context, s session, ref, removed string) (_ figures, err error) {
	if err := s.Settle(ctx); err != nil {
		return figures{}, err
	}
	if err := calm(); err != nil {
		return figures{}, err
	}
	if removed != "" {
		argv := s.Remove(removed)
		remove := exec.CommandContext(ctx, argv[0], argv[1:]...)
		if err := remove.Start(); err != nil {
			return figures{}, err
		}
		defer func() {
			if rerr := remove.Wait(); err == nil && rerr != nil {
				err = fmt.Errorf("%s: %w", strings.Join(argv, " "), rerr)
			}
		}()
	}
	argv := s.Pull(ref)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	before := processorTime(s.Daemon())
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return figures{}, err
	}
	roots := []int{cmd.Process.Pid}
	if d := s.Daemon(); d != 0 {
		roots = append(roots, d)
	}
	memory := watch(roots...)
	err = cmd.Wait()
	f := figures{wall: time.Since(start), peak: memory.stop()}
	if err != nil {
		return f, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(out.String()))
	}
	f.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime() + processorTime(s.Daemon()) - before
	start = time.Now()
	unix.Sync()
	f.disk = time.Since(start)
	return f, nil
}
