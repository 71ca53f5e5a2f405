package main

import (
	"context"
	"path/filepath"
	"strconv"
)

// podman runs a plain directory through crun and conmon.
type podman struct {
	path, runtime, dir, rootfs string
}

func (p *podman) Name() string { return "podman (" + filepath.Base(p.runtime) + ")" }

func (p *podman) command(args ...string) []string {
	return append([]string{
		p.path, "--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "state"),
		"--cgroup-manager", "cgroupfs", "--storage-driver", "vfs", "--events-backend", "none", "--runtime", p.runtime,
	}, args...)
}

func (p *podman) run(args ...string) []string {
	return append(p.command("run", "--network", "none", "--hostname", "bench", "--security-opt", "no-new-privileges",
		"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", // its defaults need CAP_SYS_RESOURCE, which a machine may withhold
		"--memory", strconv.Itoa(limitMemoryMiB)+"m", "--cpus", strconv.Itoa(limitCPUs), "--pids-limit", strconv.Itoa(limitPIDs)), args...)
}

func (p *podman) Run(id string) []string {
	return p.run("--rm", "--name", id, "--rootfs", p.rootfs, "true")
}

func (p *podman) Start(ctx context.Context, id string) error {
	return quietly(ctx, p.run("-d", "--name", id, "--rootfs", p.rootfs, "sleep", "1000000")...)
}

func (p *podman) Stop(ctx context.Context, id string) error {
	return quietly(ctx, p.command("rm", "-f", "-t", "0", id)...)
}

func (p *podman) Exec(id string) []string { return p.command("exec", id, "true") }

// Close removes what failed commands left.
func (p *podman) Close(ctx context.Context) error {
	return quietly(ctx, p.command("rm", "--all", "-f", "-t", "0")...)
}
