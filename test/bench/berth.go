package main

import (
	"context"
	"path/filepath"
	"strconv"
)

// berth is what we are here for: bin/berth with its own root and state directories.
type berth struct {
	path, dir, image string
}

func newBerth(ctx context.Context, path, dir, layout string) (*berth, error) {
	b := &berth{path: path, dir: dir, image: "oci:" + layout + ":busybox"}
	return b, quietly(ctx, b.command("pull", b.image)...)
}

func (b *berth) Name() string { return "berth" }

func (b *berth) command(args ...string) []string {
	return append([]string{b.path, "--root", filepath.Join(b.dir, "root"), "--state", filepath.Join(b.dir, "state")}, args...)
}

func (b *berth) run(args ...string) []string {
	return append(b.command("run", "--network", "none", "--hostname", "bench",
		"--memory", strconv.Itoa(limitMemoryMiB)+"m", "--cpus", strconv.Itoa(limitCPUs), "--pids-limit", strconv.Itoa(limitPIDs)), args...)
}

func (b *berth) Run(id string) []string {
	return b.run("--rm", "--name", id, b.image, "true")
}

func (b *berth) Start(ctx context.Context, id string) error {
	return quietly(ctx, b.run("-d", "--name", id, b.image, "sleep", "1000000")...)
}

func (b *berth) Stop(ctx context.Context, id string) error {
	return quietly(ctx, b.command("rm", "-f", id)...)
}

func (b *berth) Exec(id string) []string { return b.command("exec", id, "true") }
