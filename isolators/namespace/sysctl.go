package namespace

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// Sysctl sets kernel parameters of the container's own namespaces. One that
// belongs to the whole host, or to a namespace that the container shares with it,
// is refused.
type Sysctl struct{}

var _ containerizer.Isolator = (*Sysctl)(nil)

// Name implements [containerizer.Isolator].
func (*Sysctl) Name() string { return "linux/sysctl" }

// Prepare implements [containerizer.Isolator].
func (*Sysctl) Prepare(_ context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	if len(c.Spec.Sysctls) == 0 {
		return nil, nil
	}
	info := &containerizer.LaunchInfo{Sysctl: make(map[string]string, len(c.Spec.Sysctls))}
	for _, given := range slices.Sorted(maps.Keys(c.Spec.Sysctls)) {
		name := strings.ReplaceAll(given, "/", ".")
		if err := check(c, name, c.Spec.Sysctls[given]); err != nil {
			return nil, err
		}
		info.Sysctl[name] = c.Spec.Sysctls[given]
	}
	return info, nil
}

// Cleanup implements [containerizer.Isolator]; there is nothing to release.
func (*Sysctl) Cleanup(context.Context, *containerizer.Container) error { return nil }

func check(c *containerizer.Container, name, value string) error {
	if name == "" || strings.Contains(name, "..") || strings.HasPrefix(name, ".") || strings.ContainsAny(name+value, "\x00\n") {
		return fmt.Errorf("sysctl %q=%q is malformed: %w", name, value, containerizer.ErrInvalid)
	}
	t, ok := namespaceOf(name)
	if !ok {
		return fmt.Errorf("sysctl %q is of the whole host, not of a namespace (namespaced are net.*, fs.mqueue.*, kernel.sem, kernel.msg*, kernel.shm*, kernel.domainname): %w", name, containerizer.ErrInvalid)
	}
	if c.Launch == nil || !slices.ContainsFunc(c.Launch.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t }) {
		return fmt.Errorf("sysctl %q would be set on the host: the container shares its %s namespace: %w", name, t, containerizer.ErrInvalid)
	}
	return nil
}

// namespaceOf says which namespace a kernel parameter belongs to (sysctl/kernel.rst,
// ipc_namespaces(7)). The hostname has a field of its own.
func namespaceOf(name string) (specs.LinuxNamespaceType, bool) {
	switch {
	case strings.HasPrefix(name, "net."):
		return specs.NetworkNamespace, true
	case strings.HasPrefix(name, "fs.mqueue."),
		slices.Contains([]string{"kernel.sem", "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"}, name):
		return specs.IPCNamespace, true
	case name == "kernel.domainname":
		return specs.UTSNamespace, true
	}
	return "", false
}
