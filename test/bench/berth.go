package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// berth is what we are here for: bin/berth with root and state directories of its
// own.
type berth struct {
	name, path, dir string
	state           string
	source          []string // the container's files: an image, or --rootfs and a directory
}

func (b *berth) Name() string { return b.name }

func (b *berth) command(args ...string) []string {
	return append([]string{b.path, "--root", filepath.Join(b.dir, "root"), "--state", b.state}, args...)
}

func (b *berth) run(args ...string) []string {
	return append(b.command("run", "--network", "none", "--hostname", "bench",
		"--memory", strconv.Itoa(limitMemoryMiB)+"m", "--cpus", strconv.Itoa(limitCPUs), "--pids-limit", strconv.Itoa(limitPIDs)), args...)
}

// with puts the container's files between the flags and the command.
func (b *berth) with(flags []string, command ...string) []string {
	return slices.Concat(flags, b.source, command)
}

func (b *berth) Run(id string) []string {
	return b.run(b.with([]string{"--rm", "--name", id}, "true")...)
}

func (b *berth) Start(ctx context.Context, id string) error {
	return quietly(ctx, b.run(b.with([]string{"-d", "--name", id}, "sleep", "1000000")...)...)
}

func (b *berth) Stop(ctx context.Context, id string) error {
	return quietly(ctx, b.command("rm", "-f", id)...)
}

func (b *berth) Exec(id string) []string { return b.command("exec", id, "true") }

// serve starts berthd on the folders of b, so that commands go over it, and returns
// what ends it.
func (b *berth) serve(ctx context.Context, flags ...string) (end func(context.Context) error, err error) {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return nil, err
	}
	d := exec.CommandContext(ctx, filepath.Join(filepath.Dir(b.path), "berthd"), //nolint:gosec // of the build
		append([]string{"--root", filepath.Join(b.dir, "root"), "--state", b.state, "--log-level", "error"}, flags...)...)
	d.Stderr = os.Stderr
	if err := d.Start(); err != nil {
		return nil, err
	}
	end = func(context.Context) error {
		return errors.Join(d.Process.Signal(syscall.SIGTERM), d.Wait())
	}
	for range 500 { // it listens soon
		if c, err := (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(b.state, "berth.sock")); err == nil {
			return end, c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.Join(errors.New("berthd does not listen"), end(ctx))
}
