package launcher

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
)

const defaultUmask = 0o022

// resolve makes the configuration of a program. root is the container's root
// filesystem.
func (l *Launcher) resolve(c *containerizer.Container, info *containerizer.LaunchInfo, p *containerizer.Process, root *os.File) (*launch.Config, *identity, error) {
	who, err := userDatabase{root: root}.identify(p)
	if err != nil {
		return nil, nil, err
	}
	lastCap, err := lastCapability()
	if err != nil {
		return nil, nil, err
	}
	cfg := &launch.Config{
		ID:         c.ID,
		Info:       info,
		Init:       p.Init,
		PivotDir:   pivotDir(c, info),
		IsDir:      isDir,
		HostDevice: hostDevice,
		LastCap:    lastCap,
		Process: launch.Process{
			Args:            slices.Concat(p.Entrypoint, p.Args),
			Env:             environment(p, info, who),
			WorkingDir:      p.WorkingDir,
			UID:             who.uid,
			GID:             who.gid,
			Groups:          append(who.groups, info.AdditionalGIDs...),
			Umask:           defaultUmask,
			Terminal:        p.Terminal,
			Rlimits:         rlimits(info.Rlimits, p.Rlimits),
			OOMScoreAdj:     p.OOMScoreAdj,
			Scheduler:       p.Scheduler,
			IOPriority:      p.IOPriority,
			Capabilities:    info.Capabilities,
			NoNewPrivileges: info.NoNewPrivileges,
			AppArmorProfile: info.AppArmorProfile,
			SELinuxLabel:    info.SELinuxLabel,
		},
	}
	if p.Umask != nil {
		cfg.Process.Umask = *p.Umask
	}
	if p.ConsoleSize != nil {
		cfg.Process.Size = containerizer.Size{Columns: uint16(p.ConsoleSize.Width), Rows: uint16(p.ConsoleSize.Height)}
	}
	if c.Spec != nil && c.Spec.Security.Privileged && !joinsUser(info) {
		if cfg.Available, err = ownCapabilities(); err != nil {
			return nil, nil, err
		}
	}
	return cfg, who, l.addFilter(cfg, info)
}

// addFilter compiles the seccomp profile.
func (l *Launcher) addFilter(cfg *launch.Config, info *containerizer.LaunchInfo) error {
	if info.Seccomp == nil {
		return nil
	}
	f, err := l.seccomp.Filter(info.Seccomp)
	if err != nil {
		return fmt.Errorf("seccomp profile: %w", err)
	}
	cfg.Filter, cfg.FilterFlags = f.Bytes(), f.Flags
	return nil
}

// override is env with the variables of more, which win.
func override(env, more []string) []string {
	for _, kv := range more {
		key, _, _ := strings.Cut(kv, "=")
		env = slices.DeleteFunc(env, func(old string) bool { return strings.HasPrefix(old, key+"=") })
		env = append(env, kv)
	}
	return env
}

// environment completes what the engine merged: isolators' variables come first,
// and what only the node knows is added where nobody said otherwise.
func environment(p *containerizer.Process, info *containerizer.LaunchInfo, who *identity) []string {
	has := func(list []string, key string) bool {
		return slices.ContainsFunc(list, func(kv string) bool { return strings.HasPrefix(kv, key+"=") })
	}
	env := slices.Clone(p.Env)
	for _, kv := range info.Env {
		if key, _, _ := strings.Cut(kv, "="); !has(p.Env, key) {
			env = append(env, kv)
		}
	}
	add := func(key, value string) {
		if value != "" && !has(env, key) {
			env = append(env, key+"="+value)
		}
	}
	add("PATH", launch.DefaultPath)
	add("HOSTNAME", info.Hostname)
	add("HOME", who.home)
	if p.Terminal {
		add("TERM", "xterm")
	}
	return env
}

// rlimits are the isolator's, each replaced by the process's own.
func rlimits(base, own []specs.POSIXRlimit) []specs.POSIXRlimit {
	out := slices.Clone(base)
	for _, r := range own {
		if i := slices.IndexFunc(out, func(o specs.POSIXRlimit) bool { return o.Type == r.Type }); i >= 0 {
			out[i] = r
		} else {
			out = append(out, r)
		}
	}
	return out
}

func joinsUser(info *containerizer.LaunchInfo) bool {
	return slices.ContainsFunc(info.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
}

func isDir(path string) (bool, error) {
	st, err := os.Stat(path)
	if os.IsNotExist(err) { //nolint:forbidigo // ENOTDIR is no difference here
		return false, fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
	}
	if err != nil {
		return false, err
	}
	return st.IsDir(), nil
}

// lastCapability reads the highest capability that the kernel knows, once.
//
//nolint:gochecknoglobals // what the kernel says, read once
var lastCapability = sync.OnceValues(func() (int, error) {
	text, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		return 0, fmt.Errorf("ask the kernel for its capabilities: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || n < 0 || n > 63 {
		return 0, fmt.Errorf("the kernel's last capability is %q: %w", text, containerizer.ErrUnsupported)
	}
	return n, nil
})

// ownCapabilities are the permitted capabilities of this process.
func ownCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("capget: %w", err)
	}
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32, nil
}

// rootDir is the directory of the root of c's tree.
func rootDir(c *containerizer.Container) string {
	dir := c.Dir
	for id := c.ID; !id.IsRoot(); id = id.Parent() {
		dir = filepath.Dir(filepath.Dir(dir))
	}
	return dir
}
