package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ociRuntime is crun or runc, given bundles.
type ociRuntime struct {
	name, path string
	dir        string // holds the runtime's state and the bundles "true" and "sleep"
}

func newOCIRuntime(name, path, dir, rootfs string) (*ociRuntime, error) {
	r := &ociRuntime{name: name, path: path, dir: dir}
	for command, args := range map[string][]string{"true": {"true"}, "sleep": {"sleep", "1000000"}} {
		if err := writeBundle(filepath.Join(dir, command), rootfs, args); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *ociRuntime) Name() string { return r.name }

func (r *ociRuntime) command(args ...string) []string {
	return append([]string{r.path, "--root", filepath.Join(r.dir, "state")}, args...)
}

func (r *ociRuntime) Run(id string) []string {
	return r.command("run", "--bundle", filepath.Join(r.dir, "true"), id)
}

func (r *ociRuntime) Start(ctx context.Context, id string) error {
	return quietly(ctx, r.command("run", "-d", "--bundle", filepath.Join(r.dir, "sleep"), id)...)
}

func (r *ociRuntime) Stop(ctx context.Context, id string) error {
	return quietly(ctx, r.command("delete", "-f", id)...)
}

func (r *ociRuntime) Exec(id string) []string { return r.command("exec", id, "true") }

func writeBundle(dir, rootfs string, args []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	spec, err := bundleSpec(rootfs, args)
	if err != nil {
		return err
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644)
}

// bundleSpec is what berth does by default with the limits of [limits], in the
// terms of the OCI runtime specification.
func bundleSpec(rootfs string, args []string) (*specs.Spec, error) {
	spec := &specs.Spec{
		Version:  "1.0.2",
		Hostname: "bench",
		Root:     &specs.Root{Path: rootfs},
		Process: &specs.Process{
			Args: args, Cwd: "/", NoNewPrivileges: true, Capabilities: defaultCapabilities(),
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		},
		Mounts: defaultMounts(),
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.CgroupNamespace},
			},
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
				Memory:  &specs.LinuxMemory{Limit: new(int64(limitMemoryMiB << 20))},
				CPU:     &specs.LinuxCPU{Quota: new(int64(limitCPUs * 100_000)), Period: new(uint64(100_000))},
				Pids:    &specs.LinuxPids{Limit: new(int64(limitPIDs))},
			},
			MaskedPaths: []string{
				"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	profile, err := seccomp.GetDefaultProfile(spec)
	if err != nil {
		return nil, fmt.Errorf("default seccomp profile: %w", err)
	}
	spec.Linux.Seccomp = profile
	return spec, nil
}

// Limits that every contender sets.
const (
	limitMemoryMiB = 64
	limitCPUs      = 1
	limitPIDs      = 100
)

func defaultCapabilities() *specs.LinuxCapabilities {
	caps := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
	return &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
}

func defaultMounts() []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
	}
}
