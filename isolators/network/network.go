package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containernetworking/cni/libcni"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/network/internal/bridge"
	"github.com/berth-dev/berth/isolators/network/internal/hostport"
)

// Name is the isolator's name in configuration.
const Name = "network/cni"

// DefaultNetwork is the name of the network that needs no configuration.
const DefaultNetwork = "berth"

// Kinds of ledger entries.
const (
	ledgerFiles   = "files"   // name: the container's folder
	ledgerNetwork = "network" // name: NETWORK/INTERFACE
	ledgerPort    = "port"    // name: as hostport.Name
)

// Options are what may differ from one node to another. The zero value works.
type Options struct {
	// StateDir is for what a reboot ends; "" is /run/berth.
	StateDir string
	// RootDir is for what a reboot does not end; "" is /var/lib/berth.
	RootDir string
	// ConfigDirs hold network configurations, looked through in order; nil is
	// RootDir/cni and /etc/cni/net.d.
	ConfigDirs []string
	// PluginDirs hold plug-ins, looked through in order; nil is what [PluginDirs] returns.
	PluginDirs []string
	// DefaultNetwork is what a container joins that names none; "" is [DefaultNetwork].
	DefaultNetwork string
	// HostRoot is where the host's /etc and /run are read; "" is "/".
	HostRoot string
}

// defaultStateDir has the bridge berth0; others get a bridge of their own.
const defaultStateDir = "/run/berth"

// Isolator is the network isolator.
type Isolator struct {
	log    *log.Logger
	opts   Options
	ports  *hostport.Registry
	cni    *libcni.CNIConfig
	exec   *executor
	warned sync.Map // what was said already -> struct{}
}

var (
	_ containerizer.Isolator        = (*Isolator)(nil)
	_ containerizer.ProcessIsolator = (*Isolator)(nil)
	_ containerizer.UsageReporter   = (*Isolator)(nil)
	_ containerizer.StatusReporter  = (*Isolator)(nil)
	_ containerizer.Recoverer       = (*Isolator)(nil)
)

// New returns the isolator. It touches nothing on the node.
func New(log *log.Logger, opts Options) *Isolator {
	if opts.StateDir == "" {
		opts.StateDir = defaultStateDir
	}
	if opts.RootDir == "" {
		opts.RootDir = "/var/lib/berth"
	}
	if opts.ConfigDirs == nil {
		opts.ConfigDirs = []string{filepath.Join(opts.RootDir, "cni"), "/etc/cni/net.d"}
	}
	if opts.PluginDirs == nil {
		opts.PluginDirs = PluginDirs()
	}
	if opts.DefaultNetwork == "" {
		opts.DefaultNetwork = DefaultNetwork
	}
	if opts.HostRoot == "" {
		opts.HostRoot = "/"
	}
	i := &Isolator{log: log.Named("isolator.network"), opts: opts, ports: hostport.Open(filepath.Join(opts.StateDir, "network", "ports"))}
	i.exec = newExecutor(&bridge.Plugin{AddressDir: i.addressDir(), Ports: i.ports, Warn: i.warn})
	i.cni = libcni.NewCNIConfigWithCacheDir(opts.PluginDirs, filepath.Join(opts.RootDir, "network", "cache"), i.exec)
	return i
}

// Name implements containerizer.Isolator.
func (i *Isolator) Name() string { return Name }

// warn tells once a process that a network has no translation of addresses.
func (i *Isolator) warn(network string, err error) {
	i.once("no NAT "+network, func() {
		i.log.Warn("containers reach only the host: addresses cannot be translated", log.String("network", network), log.Error(err))
	})
}

// once calls f the first time in this process that about is said.
func (i *Isolator) once(about string, f func()) {
	if _, said := i.warned.LoadOrStore(about, struct{}{}); !said {
		f()
	}
}

func (i *Isolator) addressDir() string { return filepath.Join(i.opts.StateDir, "network", "ipam") }

// folder is where the files of id are.
func (i *Isolator) folder(id containerizer.ContainerID) string {
	return filepath.Join(i.opts.StateDir, "network", "containers", fileName(id))
}

// Prepare writes the container's files, takes its ports and finds its networks;
// they are joined once the namespace exists (Isolate).
func (i *Isolator) Prepare(ctx context.Context, c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	m, err := modeOf(c)
	if err != nil {
		return nil, err
	}
	if err := i.check(c, m); err != nil {
		return nil, err
	}
	if m.kind == kindHost && len(c.Spec.Network.Ports) > 0 {
		i.once("ports of the host", func() {
			i.log.Warn("ports are not published in the host's network: what listens there is reached as it is", log.Stringer("container_id", c.ID))
		})
	}
	info := &containerizer.LaunchInfo{}
	if m.kind == kindPrivate {
		info.LoopbackUp = true
		info.Sysctl = sysctls(c)
	}
	if utsPrivate(c) {
		info.Hostname, info.Domainname = i.hostname(c, m), c.Spec.Network.Domainname
	}
	if m.kind == kindPrivate && !c.Spec.Network.None {
		if err := i.prepareNetworks(ctx, c); err != nil {
			return nil, err
		}
		info.Barrier = true
	}
	if info.Mounts, err = i.prepareFiles(c, m); err != nil {
		return nil, err
	}
	return info, nil
}

// sysctls are those that let a container's users ping and serve low ports, which
// in a namespace of its own harms nobody (Docker's defaults); the user's win.
func sysctls(c *containerizer.Container) map[string]string {
	out := map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"}
	if len(gidMappings(c)) == 0 { // the range must be mapped in a user namespace
		out["net.ipv4.ping_group_range"] = "0 2147483647"
	}
	for k := range c.Spec.Sysctls {
		delete(out, k)
	}
	return out
}

// Cleanup leaves the networks and gives back addresses, ports and files.
func (i *Isolator) Cleanup(ctx context.Context, c *containerizer.Container) error {
	rec, err := i.load(c.ID)
	if err != nil && !errors.Is(err, containerizer.ErrDataCorrupt) {
		return err
	}
	if err != nil { // the ledger and libcni's cache tell as much
		i.log.Warn("attachments of a container are unreadable", log.Stringer("container_id", c.ID), log.Error(err))
	}
	if err := i.leave(ctx, c, rec); err != nil {
		return err
	}
	if err := i.releasePorts(c, rec); err != nil {
		return err
	}
	if err := os.RemoveAll(i.folder(c.ID)); err != nil {
		return fmt.Errorf("remove network files: %w", err)
	}
	if err := i.forget(c.ID); err != nil {
		return err
	}
	return c.Ledger.Release(ledgerFiles, i.folder(c.ID))
}

func (i *Isolator) releasePorts(c *containerizer.Container, rec *record) error {
	names := slices.Clone(c.Ledger.Held(ledgerPort))
	for _, p := range rec.Ports {
		names = append(names, hostport.Name(p))
	}
	for _, name := range names {
		if err := i.ports.Release(cniID(c.ID), name); err != nil {
			return err
		}
		if err := c.Ledger.Release(ledgerPort, name); err != nil {
			return err
		}
	}
	return nil
}

// namespacePath opens the network namespace of c, "" when it is gone.
func namespacePath(c *containerizer.Container) string {
	if c.NamespacePath == nil {
		return ""
	}
	path, err := c.NamespacePath(c.ID, specs.NetworkNamespace)
	if err != nil {
		return "" // it does not run
	}
	if _, err := os.Stat(path); err != nil {
		return "" // it ended meanwhile
	}
	return path
}
