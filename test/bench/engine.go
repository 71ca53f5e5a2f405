package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// engine is a process with an embedded engine, which launches when it is asked: what
// a daemon would need, without the start of a command.
type engine struct {
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// startEngine starts the process; stop ends it.
func startEngine(ctx context.Context, bin, dir, state, rootfs string) (*engine, error) {
	spec, err := json.Marshal(&containerizer.Spec{
		RootfsPath: rootfs, AutoRemove: true,
		Process: containerizer.Process{Args: []string{"true"}},
		Network: containerizer.Network{None: true, Hostname: "bench"},
		Resources: containerizer.Resources{Linux: specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: new(int64(limitMemoryMiB << 20)), Swap: new(int64(2 * limitMemoryMiB << 20))},
			CPU:    &specs.LinuxCPU{Quota: new(int64(limitCPUs * 100_000)), Period: new(uint64(100_000))},
			Pids:   &specs.LinuxPids{Limit: new(int64(limitPIDs))},
		}},
	})
	if err != nil {
		return nil, err
	}
	e := &engine{process: exec.CommandContext(ctx, filepath.Join(bin, "berth-launches"), "-root", dir, "-state", state)}
	e.process.Stderr = os.Stderr
	if e.in, err = e.process.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := e.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	e.out = bufio.NewReader(out)
	if err := e.process.Start(); err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(e.in, "%s\n", spec)
	return e, err
}

// launch launches container id, waits for it and removes it.
func (e *engine) launch(id string) (wall, cpu time.Duration, err error) {
	if _, err := fmt.Fprintln(e.in, id); err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Fscanln(e.out, &wall, &cpu); err != nil {
		return 0, 0, fmt.Errorf("launch %q: no answer (see above): %w", id, err)
	}
	return wall, cpu, nil
}

func (e *engine) stop() error {
	if err := e.in.Close(); err != nil {
		return err
	}
	return e.process.Wait()
}
