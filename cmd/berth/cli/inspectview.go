package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// The types below are what `berth inspect` prints: Docker's names where Docker
// has the thing, and the whole of berth's own description under Spec.

type inspectState struct {
	Status     string
	Running    bool
	Paused     bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  time.Time
	FinishedAt time.Time
	// Berth's own.
	Reason      string                    `json:",omitempty"`
	Limitation  *containerizer.Limitation `json:",omitempty"`
	MonitorPid  int                       `json:",omitempty"`
	Interrupted bool                      `json:",omitempty"`
	Owed        []string                  `json:",omitempty"`
}

type inspectConfig struct {
	Hostname     string
	Domainname   string
	User         string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Env          []string
	Cmd          []string
	Image        string
	WorkingDir   string
	Entrypoint   []string
	Labels       map[string]string
	StopSignal   string
	StopTimeout  *int `json:",omitempty"`
}

type inspectPort struct{ HostIp, HostPort string } //nolint:staticcheck // Docker's name

type inspectNetwork struct {
	IPAddress         string
	IPPrefixLen       int
	Gateway           string
	GlobalIPv6Address string
	GlobalIPv6Prefix  int `json:"GlobalIPv6PrefixLen"`
	IPv6Gateway       string
	MacAddress        string
	Interface         string
}

type inspectNetworks struct {
	Ports map[string][]inspectPort
	inspectNetwork
	Networks map[string]inspectNetwork
}

type inspectMount struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Mode        string
	RW          bool
	Propagation string
}

type inspectContainer struct {
	Id              string //nolint:staticcheck // Docker's name
	Created         time.Time
	Path            string
	Args            []string
	State           inspectState
	Image           string
	ImageDigest     string
	Name            string
	RestartCount    int
	LogPath         string
	AppArmorProfile string
	HostConfig      inspectHostConfig
	SizeRw          *uint64 `json:",omitempty"`
	Mounts          []inspectMount
	Config          inspectConfig
	NetworkSettings inspectNetworks
	Rootfs          *containerizer.Rootfs `json:",omitempty"`
	Spec            *containerizer.Spec
}

// containerView is a container in Docker's words.
func containerView(s *containerizer.Status) *inspectContainer {
	spec := s.Spec
	if spec == nil {
		spec = &containerizer.Spec{}
	}
	command := append(append([]string{}, spec.Process.Entrypoint...), spec.Process.Args...)
	v := &inspectContainer{
		Id: s.ID.String(), Created: s.CreatedAt, State: stateView(s), Image: imageText(s), ImageDigest: s.ImageManifest.String(),
		Name: "/" + spec.Name, RestartCount: s.RestartCount, LogPath: s.LogPath, AppArmorProfile: spec.Security.AppArmor,
		HostConfig: hostConfigView(s, spec), Mounts: []inspectMount{}, Config: configView(s, spec),
		NetworkSettings: networkView(s), Rootfs: s.Rootfs, Spec: spec, Args: []string{},
	}
	if len(command) > 0 {
		v.Path, v.Args = command[0], command[1:]
	}
	for _, m := range spec.Mounts {
		v.Mounts = append(v.Mounts, mountView(m))
	}
	return v
}

func stateView(s *containerizer.Status) inspectState {
	v := inspectState{
		Status: string(s.State), Pid: s.PID, StartedAt: s.StartedAt, MonitorPid: s.MonitorPID,
		Running: s.State == containerizer.StateRunning || s.State == containerizer.StatePaused,
		Paused:  s.State == containerizer.StatePaused, Interrupted: s.Interrupted, Owed: s.Owed,
	}
	if t := s.Termination; t != nil {
		v.ExitCode, v.OOMKilled, v.Error, v.FinishedAt = t.ExitCode, t.OOMKilled, t.Message, t.FinishedAt
		v.Reason, v.Limitation = string(t.Reason), t.Limitation
	}
	return v
}

func configView(s *containerizer.Status, spec *containerizer.Spec) inspectConfig {
	p := &spec.Process
	v := inspectConfig{
		Hostname: cmp.Or(spec.Network.Hostname, s.ID.Short()), Domainname: spec.Network.Domainname, User: p.User,
		AttachStdin: p.StdinOnce, AttachStdout: true, AttachStderr: true, Tty: p.Terminal, OpenStdin: p.Stdin, StdinOnce: p.StdinOnce,
		Env: p.Env, Cmd: p.Args, Image: imageText(s), WorkingDir: p.WorkingDir, Entrypoint: p.Entrypoint,
		Labels: spec.Labels, StopSignal: spec.StopSignal,
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	if spec.StopTimeout != nil {
		seconds := int(*spec.StopTimeout / time.Second)
		v.StopTimeout = &seconds
	}
	return v
}

func mountView(m containerizer.Mount) inspectMount {
	v := inspectMount{Type: string(m.Type), Source: m.Source, Destination: m.Destination, RW: m.Type != containerizer.MountImage}
	if m.Type == containerizer.MountVolume {
		v.Name = m.Source
	}
	if m.Image != nil {
		v.Source = m.Image.Reference
	}
	for _, o := range m.Options {
		switch o {
		case "ro", "rro":
			v.RW, v.Mode = false, "ro"
		case "private", "rprivate", "shared", "rshared", "slave", "rslave":
			v.Propagation = o
		}
	}
	return v
}

func networkView(s *containerizer.Status) inspectNetworks {
	v := inspectNetworks{Ports: map[string][]inspectPort{}, Networks: map[string]inspectNetwork{}}
	for _, p := range s.Ports {
		key := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
		v.Ports[key] = append(v.Ports[key], inspectPort{HostIp: cmp.Or(p.HostIP, "0.0.0.0"), HostPort: strconv.Itoa(int(p.HostPort))})
	}
	for i, n := range s.Networks {
		network := inspectNetwork{MacAddress: n.MAC, Interface: n.Interface}
		for _, text := range n.IPs {
			p, err := netip.ParsePrefix(text)
			switch {
			case err != nil:
			case p.Addr().Is4() && network.IPAddress == "":
				network.IPAddress, network.IPPrefixLen = p.Addr().String(), p.Bits()
			case p.Addr().Is6() && network.GlobalIPv6Address == "":
				network.GlobalIPv6Address, network.GlobalIPv6Prefix = p.Addr().String(), p.Bits()
			}
		}
		for _, g := range n.Gateways {
			if a, err := netip.ParseAddr(g); err == nil && a.Is6() {
				network.IPv6Gateway = g
			} else {
				network.Gateway = g
			}
		}
		v.Networks[n.Name] = network
		if i == 0 {
			v.inspectNetwork = network
		}
	}
	return v
}

// inspectHostConfig is the part of Docker's that berth has.
type inspectHostConfig struct {
	NetworkMode    string
	AutoRemove     bool
	CapAdd         []string
	CapDrop        []string
	CgroupnsMode   string
	IpcMode        string
	PidMode        string
	UTSMode        string
	UsernsMode     string
	CgroupParent   string
	Dns            []string //nolint:staticcheck // Docker's name
	DnsSearch      []string //nolint:staticcheck // Docker's name
	DnsOptions     []string //nolint:staticcheck // Docker's name
	ExtraHosts     []string
	GroupAdd       []string
	Privileged     bool
	ReadonlyRootfs bool
	OomScoreAdj    int
	Sysctls        map[string]string
	Ulimits        []specs.POSIXRlimit
	Memory         int64
	MemorySwap     int64
	CpuShares      uint64 //nolint:staticcheck // Docker's name
	CpuPeriod      uint64 //nolint:staticcheck // Docker's name
	CpuQuota       int64  //nolint:staticcheck // Docker's name
	NanoCpus       int64
	CpusetCpus     string
	CpusetMems     string
	PidsLimit      int64
	Init           bool
	Runtime        string
}

func hostConfigView(s *containerizer.Status, spec *containerizer.Spec) inspectHostConfig {
	ns, sec := &spec.Namespaces, &spec.Security
	v := inspectHostConfig{
		NetworkMode: networkMode(s), AutoRemove: spec.AutoRemove, CapAdd: sec.CapAdd, CapDrop: sec.CapDrop,
		CgroupnsMode: namespaceText(ns.Cgroup), IpcMode: namespaceText(ns.IPC), PidMode: namespaceText(ns.PID),
		UTSMode: namespaceText(ns.UTS), UsernsMode: namespaceText(ns.User), CgroupParent: spec.CgroupParent,
		Dns: spec.Network.DNSServers, DnsSearch: spec.Network.DNSSearch, DnsOptions: spec.Network.DNSOptions,
		ExtraHosts: spec.Network.ExtraHosts, GroupAdd: spec.Process.AdditionalGroups, Privileged: sec.Privileged,
		ReadonlyRootfs: spec.ReadonlyRootfs, Sysctls: spec.Sysctls, Ulimits: spec.Process.Rlimits, Init: spec.Process.Init,
		Runtime: cmp.Or(spec.Runtime, "berth"),
	}
	if adj := spec.Process.OOMScoreAdj; adj != nil {
		v.OomScoreAdj = *adj
	}
	linux := &spec.Resources.Linux
	if m := linux.Memory; m != nil {
		v.Memory, v.MemorySwap = value(m.Limit), value(m.Swap)
	}
	if c := linux.CPU; c != nil {
		v.CpuShares, v.CpuPeriod, v.CpuQuota, v.CpusetCpus, v.CpusetMems = value(c.Shares), value(c.Period), value(c.Quota), c.Cpus, c.Mems
		if v.CpuQuota > 0 && v.CpuPeriod > 0 {
			v.NanoCpus = v.CpuQuota * 1e9 / int64(v.CpuPeriod) //nolint:gosec // microseconds
		}
	}
	if linux.Pids != nil {
		v.PidsLimit = value(linux.Pids.Limit)
	}
	return v
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func namespaceText(n containerizer.Namespace) string {
	switch n.Mode {
	case containerizer.NamespaceContainer:
		return "container:" + n.Container.String()
	case containerizer.NamespacePath:
		return "ns:" + n.Path
	default:
		return string(n.Mode)
	}
}

func networkMode(s *containerizer.Status) string {
	if names := networkNames(s); len(names) > 0 {
		return names[0]
	}
	return "default"
}
