package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

func validateCommand(_ containerizer.ContainerID, s *containerizer.Spec) error {
	if s.Class == containerizer.ClassPodSandbox && !s.Process.Init && len(s.Process.Entrypoint)+len(s.Process.Args) > 0 {
		return invalid("a pod sandbox has no process of its own; put %q into a child", append(s.Process.Entrypoint, s.Process.Args...)[0])
	}
	if s.Log.Driver == containerizer.LogPassthrough && s.Process.Terminal {
		return invalid("a terminal cannot be had with the log driver %q", s.Log.Driver)
	}
	return validateProcess(&s.Process)
}

// validateProcess checks the process of a container or an exec session.
func validateProcess(p *containerizer.Process) error {
	if p == nil {
		return invalid("no process")
	}
	if err := validateStrings(p); err != nil {
		return err
	}
	if p.WorkingDir != "" {
		if err := containerPath("working directory", p.WorkingDir); err != nil {
			return err
		}
	}
	if err := validateIdentities(p); err != nil {
		return err
	}
	if p.Umask != nil && *p.Umask > 0o777 {
		return invalid("umask %#o is greater than 0777", *p.Umask)
	}
	if p.OOMScoreAdj != nil && (*p.OOMScoreAdj < -1000 || *p.OOMScoreAdj > 1000) {
		return invalid("OOM score adjustment %d is not between -1000 and 1000", *p.OOMScoreAdj)
	}
	if p.StdinOnce && !p.Stdin {
		return invalid("standard input is to be closed after its first client, but is not open at all")
	}
	if p.ConsoleSize != nil && (p.ConsoleSize.Height > 0xffff || p.ConsoleSize.Width > 0xffff) {
		return invalid("console size %d×%d is out of range", p.ConsoleSize.Width, p.ConsoleSize.Height)
	}
	return validateRlimits(p.Rlimits)
}

func validateStrings(p *containerizer.Process) error {
	for i, a := range slices.Concat(p.Entrypoint, p.Args) {
		if hasNUL(a) {
			return invalid("argument %d of the command, %q, holds a NUL byte", i, a)
		}
	}
	for _, kv := range p.Env {
		key, _, ok := strings.Cut(kv, "=")
		switch {
		case !ok:
			return invalid("environment %q has no '='", kv)
		case key == "":
			return invalid("environment %q has no name before '='", kv)
		case hasNUL(kv):
			return invalid("environment variable %q holds a NUL byte", key)
		}
	}
	return nil
}

func validateIdentities(p *containerizer.Process) error {
	if err := validateUser(p.User); err != nil {
		return err
	}
	for _, g := range p.AdditionalGroups {
		if g == "" || strings.ContainsAny(g, ":\x00\n") {
			return invalid("additional group %q is neither a number nor a name", g)
		}
	}
	switch p.GroupsPolicy {
	case containerizer.GroupsMerge, containerizer.GroupsStrict:
		return nil
	}
	return invalid("groups policy %q is unknown (strict, or empty for merge)", p.GroupsPolicy)
}

func validateUser(u string) error {
	if u == "" {
		return nil
	}
	user, group, hasGroup := strings.Cut(u, ":")
	if user == "" || hasGroup && group == "" || strings.ContainsAny(u, "\x00\n/") || strings.Contains(group, ":") {
		return invalid("user %q is not of the form user[:group]", u)
	}
	for _, part := range []string{user, group} {
		if n, err := strconv.ParseInt(part, 10, 64); err == nil && (n < 0 || n > 1<<32-2) {
			return invalid("id %d of user %q is not between 0 and %d", n, u, int64(1<<32-2))
		}
	}
	return nil
}

func validateRlimits(limits []specs.POSIXRlimit) error {
	seen := map[string]bool{}
	for _, r := range limits {
		name := strings.TrimPrefix(strings.ToUpper(r.Type), "RLIMIT_")
		switch name {
		case "AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RSS", "RTPRIO", "RTTIME", "SIGPENDING", "STACK":
		default:
			return invalid("resource limit %q is unknown", r.Type)
		}
		if seen[name] {
			return invalid("resource limit %q is given twice", r.Type)
		}
		seen[name] = true
		if r.Soft > r.Hard {
			return invalid("the soft resource limit %s=%d is above the hard one, %d", r.Type, r.Soft, r.Hard)
		}
	}
	return nil
}

// minMemory is the least that a process can be started with.
const minMemory = 6 << 20

func validateResources(r *containerizer.Resources) error {
	if r.DiskBytes < 0 {
		return invalid("disk limit %d is negative", r.DiskBytes)
	}
	if err := validateMemory(r.Linux.Memory); err != nil {
		return err
	}
	if err := validateCPU(r.Linux.CPU); err != nil {
		return err
	}
	for k, v := range r.Linux.Unified {
		if k == "" || strings.ContainsAny(k, "/\x00\n") || hasNUL(v) {
			return invalid("cgroup file %q is not a file name, or its value holds a NUL byte", k)
		}
	}
	return nil
}

func validateMemory(m *specs.LinuxMemory) error {
	if m == nil {
		return nil
	}
	limit := int64(0) // none
	if m.Limit != nil {
		limit = max(*m.Limit, 0)
	}
	switch {
	case limit > 0 && limit < minMemory:
		return invalid("memory limit of %d bytes is below the least possible, %d", limit, minMemory)
	case m.Swap != nil && *m.Swap > 0 && *m.Swap < limit:
		return invalid("limit of memory and swap, %d bytes, is below that of memory alone, %d", *m.Swap, limit)
	case m.Reservation != nil && limit > 0 && *m.Reservation > limit:
		return invalid("memory reservation of %d bytes is above the limit of %d", *m.Reservation, limit)
	case m.Swappiness != nil && *m.Swappiness > 100:
		return invalid("swappiness %d is above 100", *m.Swappiness)
	}
	return nil
}

func validateCPU(c *specs.LinuxCPU) error {
	switch {
	case c == nil:
	case c.Period != nil && *c.Period != 0 && (*c.Period < 1000 || *c.Period > 1_000_000):
		return invalid("CPU period of %d µs is not between 1000 and 1000000", *c.Period)
	case c.Quota != nil && *c.Quota > 0 && *c.Quota < 1000:
		return invalid("CPU quota of %d µs is below 1000", *c.Quota)
	case hasControl(c.Cpus) || hasControl(c.Mems):
		return invalid("CPU set %q or memory nodes %q hold control characters", c.Cpus, c.Mems)
	}
	return nil
}

// checkSecretEnv checks variables without telling their values.
func checkSecretEnv(env []string) error {
	for _, kv := range env {
		name, _, is := strings.Cut(kv, "=")
		if !is || name == "" || strings.ContainsRune(kv, 0) {
			return fmt.Errorf("a secret variable is not KEY=VALUE without a NUL byte: %w", containerizer.ErrInvalid)
		}
	}
	return nil
}
