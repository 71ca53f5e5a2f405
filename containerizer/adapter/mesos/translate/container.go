package translate

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// setLinux fills in namespaces and privileges.
func (t *Translator) setLinux(spec *containerizer.Spec, id containerizer.ContainerID, l *mesosv1.LinuxInfo) error {
	outer := containerizer.NamespaceParent
	if id.IsRoot() {
		outer = containerizer.NamespaceHost
	}
	ns := &spec.Namespaces
	ns.PID.Mode = containerizer.NamespacePrivate
	if l.GetSharePidNamespace() {
		ns.PID.Mode = outer
	}
	switch l.GetIpcMode() {
	case mesosv1.LinuxInfo_PRIVATE:
		ns.IPC.Mode = containerizer.NamespacePrivate
	case mesosv1.LinuxInfo_SHARE_PARENT:
		ns.IPC.Mode = outer
	case mesosv1.LinuxInfo_UNKNOWN: // own ones for roots, the parent's for others: the default
	}
	if l != nil && l.ShmSize != nil {
		if l.GetIpcMode() != mesosv1.LinuxInfo_PRIVATE || l.GetShmSize() == 0 {
			return invalid("a size of /dev/shm goes with a private IPC namespace, and is not 0")
		}
		spec.Mounts = append(spec.Mounts, containerizer.Mount{
			Type: containerizer.MountTmpfs, Destination: "/dev/shm",
			Options: []string{"nosuid", "nodev", "noexec", "mode=1777", fmt.Sprintf("size=%dm", l.GetShmSize())},
		})
	}
	switch {
	case id.IsRoot() && l != nil && l.ShareCgroups != nil && l.GetShareCgroups():
		return invalid("a container without parent cannot share its control group")
	case !id.IsRoot():
		spec.ShareCgroup = l.GetShareCgroups()
	}
	if err := setCapabilities(&spec.Security, l); err != nil {
		return err
	}
	return t.setSeccomp(&spec.Security, l.GetSeccomp())
}

func (t *Translator) setSeccomp(sec *containerizer.Security, i *mesosv1.SeccompInfo) error {
	name := i.GetProfileName()
	switch {
	case i.GetUnconfined() && name != "":
		return invalid("seccomp: a profile is named, and none wanted")
	case i.GetUnconfined():
		sec.Seccomp = "unconfined"
	case name == "":
	case t.o.SeccompDir == "":
		return unsupported("seccomp profile %.100q: there is no folder of profiles", name)
	case !filepath.IsLocal(name) || strings.ContainsRune(name, 0):
		return invalid("seccomp profile %.100q is not a name in the folder of profiles", name)
	default:
		sec.Seccomp = filepath.Join(t.o.SeccompDir, name)
	}
	return nil
}

func setCapabilities(sec *containerizer.Security, l *mesosv1.LinuxInfo) error {
	effective := l.GetEffectiveCapabilities()
	if l.GetCapabilityInfo() != nil {
		if effective != nil {
			return invalid("capability_info is the old name of effective_capabilities; both are given")
		}
		effective = l.GetCapabilityInfo()
	}
	bounding := l.GetBoundingCapabilities()
	for _, list := range []*mesosv1.CapabilityInfo{effective, bounding} {
		if slices.Contains(list.GetCapabilities(), mesosv1.CapabilityInfo_UNKNOWN) {
			return invalid("a capability is unknown")
		}
	}
	if effective == nil && bounding == nil {
		return nil // the node's default
	}
	if effective == nil { // what of the default is within bounds
		for number, name := range mesosv1.CapabilityInfo_Capability_name {
			if number != 0 && !slices.Contains(bounding.GetCapabilities(), mesosv1.CapabilityInfo_Capability(number)) {
				sec.CapDrop = append(sec.CapDrop, "CAP_"+name)
			}
		}
		slices.Sort(sec.CapDrop)
		return nil
	}
	sec.CapDrop = []string{"ALL"}
	for _, c := range effective.GetCapabilities() {
		if bounding != nil && !slices.Contains(bounding.GetCapabilities(), c) {
			return invalid("capability %s is asked for, and out of bounds", c)
		}
		sec.CapAdd = append(sec.CapAdd, "CAP_"+c.String())
	}
	return nil // ALL is dropped before anything is added
}

func setRlimits(p *containerizer.Process, i *mesosv1.RLimitInfo) error {
	for _, r := range i.GetRlimits() {
		name, is := strings.CutPrefix(r.GetType().String(), "RLMT_")
		if !is {
			return invalid("a resource limit has no known type")
		}
		if (r.Hard == nil) != (r.Soft == nil) {
			return invalid("resource limit %s has only one of soft and hard", name)
		}
		limit := specs.POSIXRlimit{Type: "RLIMIT_" + name, Soft: math.MaxUint64, Hard: math.MaxUint64}
		if r.Hard != nil {
			limit.Soft, limit.Hard = r.GetSoft(), r.GetHard()
		}
		p.Rlimits = append(p.Rlimits, limit)
	}
	return nil
}

// setNetwork joins named networks, else the host's or the parent's.
func setNetwork(spec *containerizer.Spec, id containerizer.ContainerID, c *mesosv1.ContainerInfo) error {
	named := slices.DeleteFunc(slices.Clone(c.GetNetworkInfos()), func(n *mesosv1.NetworkInfo) bool { return n.GetName() == "" })
	ns := &spec.Namespaces
	if len(named) == 0 {
		if c.GetHostname() != "" {
			return invalid("a host name goes with a network of the container's own")
		}
		if id.IsRoot() {
			ns.Network.Mode, ns.UTS.Mode = containerizer.NamespaceHost, containerizer.NamespaceHost
		}
		return nil
	}
	ns.Network.Mode, ns.UTS.Mode = containerizer.NamespacePrivate, containerizer.NamespacePrivate
	spec.Network.Hostname = c.GetHostname()
	for _, n := range named {
		if err := joinNetwork(&spec.Network, n); err != nil {
			return err
		}
	}
	return nil
}

func joinNetwork(to *containerizer.Network, n *mesosv1.NetworkInfo) error {
	a := containerizer.NetworkAttachment{Name: n.GetName()}
	for _, ip := range n.GetIpAddresses() {
		if ip.GetIpAddress() != "" {
			a.IPs = append(a.IPs, ip.GetIpAddress())
		}
	}
	to.Networks = append(to.Networks, a)
	for _, p := range n.GetPortMappings() {
		if p.GetHostPort() > math.MaxUint16 || p.GetContainerPort() > math.MaxUint16 {
			return invalid("port %d:%d is out of range", p.GetHostPort(), p.GetContainerPort())
		}
		protocol := containerizer.ProtocolTCP
		if p.GetProtocol() != "" {
			protocol = containerizer.Protocol(strings.ToLower(p.GetProtocol()))
		}
		to.Ports = append(to.Ports, containerizer.PortMapping{
			Protocol: protocol, HostPort: uint16(p.GetHostPort()), ContainerPort: uint16(p.GetContainerPort()), //nolint:gosec // was checked
		})
	}
	return nil
}

// volumes are the mounts of a container, and the folders of sandboxes that they need.
type volumes struct {
	id           containerizer.ContainerID
	own, parents Sandbox
	// seen is where the container sees its sandbox; root is RootHost or RootImage.
	seen, root string

	mounts  []containerizer.Mount
	folders []folder
}

type folder struct {
	in  Sandbox
	rel string
}

// add adds the volume v.
func (vs *volumes) add(v *mesosv1.Volume) error {
	destination := v.GetContainerPath()
	if destination == "" || strings.ContainsRune(destination, 0) || slices.Contains(strings.Split(destination, "/"), "..") {
		return invalid("container path %.200q is not one", destination)
	}
	absolute := filepath.IsAbs(destination)
	if !absolute {
		destination = filepath.Join(vs.seen, destination)
	} else if _, err := os.Lstat(destination); vs.root == RootHost && err != nil {
		return invalid("container path %.200q: it would have to be made on the host, because the container has no image", destination)
	}
	var options []string
	if v.GetMode() == mesosv1.Volume_RO {
		options = append(options, "ro")
	}
	if n := count(v.HostPath != nil, v.GetImage() != nil, v.GetSource() != nil); n != 1 {
		return invalid("volume at %.200q has %d of host_path, image and source; it has to have one", destination, n)
	}
	switch {
	case v.GetImage() != nil:
		return vs.addImage(v, destination)
	case v.HostPath != nil && filepath.IsAbs(v.GetHostPath()):
		vs.mounts = append(vs.mounts, containerizer.Mount{Type: containerizer.MountBind, Source: filepath.Clean(v.GetHostPath()), Destination: destination, Options: options})
		return nil
	case v.HostPath != nil:
		return vs.addSandboxPath(vs.own, v.GetHostPath(), destination, options)
	}
	switch source := v.GetSource(); source.GetType() {
	case mesosv1.Volume_Source_HOST_PATH:
		return vs.addHostPath(source.GetHostPath(), destination, options)
	case mesosv1.Volume_Source_SANDBOX_PATH:
		switch p := source.GetSandboxPath(); {
		case p == nil:
			return invalid("volume at %.200q says nothing of its sandbox path", destination)
		case p.GetType() == mesosv1.Volume_Source_SandboxPath_SELF && absolute:
			return vs.addSandboxPath(vs.own, p.GetPath(), destination, options)
		case p.GetType() == mesosv1.Volume_Source_SandboxPath_SELF:
			return invalid("a sandbox path of type SELF has an absolute container path")
		case p.GetType() == mesosv1.Volume_Source_SandboxPath_PARENT && !vs.id.IsRoot():
			return vs.addSandboxPath(vs.parents, p.GetPath(), destination, options)
		case p.GetType() == mesosv1.Volume_Source_SandboxPath_PARENT:
			return invalid("a sandbox path of type PARENT needs a parent")
		}
		return invalid("volume at %.200q has no known type of sandbox path", destination)
	case mesosv1.Volume_Source_DOCKER_VOLUME, mesosv1.Volume_Source_CSI_VOLUME, mesosv1.Volume_Source_SECRET:
		return unsupported("volume at %.200q: sources of type %s", destination, source.GetType())
	case mesosv1.Volume_Source_UNKNOWN:
	}
	return invalid("volume at %.200q has no known type of source", destination)
}

func count(conditions ...bool) int {
	n := 0
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}

func (vs *volumes) addHostPath(p *mesosv1.Volume_Source_HostPath, destination string, options []string) error {
	if !filepath.IsAbs(p.GetPath()) {
		return invalid("host path %.200q is not absolute", p.GetPath())
	}
	switch p.GetMountPropagation().GetMode() {
	case mesosv1.MountPropagation_HOST_TO_CONTAINER:
		options = append(options, "rslave")
	case mesosv1.MountPropagation_BIDIRECTIONAL:
		options = append(options, "rshared")
	case mesosv1.MountPropagation_UNKNOWN:
	}
	vs.mounts = append(vs.mounts, containerizer.Mount{Type: containerizer.MountBind, Source: filepath.Clean(p.GetPath()), Destination: destination, Options: options})
	return nil
}

func (vs *volumes) addSandboxPath(in Sandbox, rel, destination string, options []string) error {
	if !filepath.IsLocal(rel) || strings.ContainsRune(rel, 0) {
		return invalid("path %.200q does not stay in the sandbox", rel)
	}
	vs.folders = append(vs.folders, folder{in, rel})
	vs.mounts = append(vs.mounts, in.mount(rel, destination, options...))
	return nil
}

func (vs *volumes) addImage(v *mesosv1.Volume, destination string) error {
	if v.GetMode() != mesosv1.Volume_RO {
		return unsupported("volume at %.200q: images are read-only", destination)
	}
	source, err := imageSource(v.GetImage())
	if err != nil {
		return err
	}
	vs.mounts = append(vs.mounts, containerizer.Mount{Type: containerizer.MountImage, Destination: destination, Image: source})
	return nil
}

// imageSource is an image of the vocabulary.
func imageSource(i *mesosv1.Image) (*containerizer.ImageSource, error) {
	switch {
	case i.GetType() != mesosv1.Image_DOCKER:
		return nil, unsupported("images of type %s", i.GetType())
	case i.GetDocker().GetName() == "":
		return nil, invalid("an image of type DOCKER has no name")
	case i.GetDocker().GetConfig() != nil || i.GetDocker().GetCredential() != nil:
		return nil, unsupported("credentials of image %.200q: the node has to have them", i.GetDocker().GetName())
	}
	source := &containerizer.ImageSource{Reference: i.GetDocker().GetName()}
	if !i.GetCached() {
		source.Pull = containerizer.PullAlways
	}
	return source, nil
}
