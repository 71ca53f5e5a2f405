package cri

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// containerSpec translates a container of pod.
func (s *runtimeService) containerSpec(ctx context.Context, pod item, config *runtimeapi.ContainerConfig, image *containerizer.Image) (*containerizer.Spec, error) {
	if config.GetMetadata() == nil {
		return nil, fmt.Errorf("it has no metadata: %w", containerizer.ErrInvalid)
	}
	podConfig := pod.record.pod.GetConfig()
	if err := s.checkHandler(pod.status.Spec.Runtime, config.GetMounts()); err != nil {
		return nil, err
	}
	mounts, err := s.mounts(ctx, config.GetMounts())
	if err != nil {
		return nil, err
	}
	origin, err := containerRecord(pod.status.ID, config, image.Config.String(), mounts).origin()
	if err != nil {
		return nil, err
	}
	spec := &containerizer.Spec{
		Labels: config.GetLabels(), Annotations: config.GetAnnotations(),
		Image:        &containerizer.ImageSource{Reference: image.Config.String(), Pull: containerizer.PullNever},
		CgroupParent: pod.status.Spec.CgroupParent, StopSignal: stopSignal(config.GetStopSignal()),
		Mounts: mounts, CDIDevices: cdiDevices(config), Log: logConfig(podConfig, config), Origin: origin,
		Runtime: pod.status.Spec.Runtime,
	}
	spec.Process, err = process(pod, config)
	if err != nil {
		return nil, err
	}
	if err := s.containerNamespaces(ctx, spec, pod, config); err != nil {
		return nil, err
	}
	if err := security(spec, config.GetLinux().GetSecurityContext(), podConfig.GetLinux().GetSecurityContext()); err != nil {
		return nil, err
	}
	for _, d := range config.GetDevices() {
		spec.Devices = append(spec.Devices, containerizer.Device{HostPath: d.GetHostPath(), ContainerPath: d.GetContainerPath(), Permissions: d.GetPermissions()})
	}
	if r := config.GetLinux().GetResources(); r != nil {
		spec.Resources.Linux = resources(r)
		score := int(r.GetOomScoreAdj())
		spec.Process.OOMScoreAdj = &score
	}
	return spec, nil
}

// process is what the container runs.
func process(pod item, config *runtimeapi.ContainerConfig) (containerizer.Process, error) {
	p := containerizer.Process{
		Entrypoint: config.GetCommand(), Args: config.GetArgs(), WorkingDir: config.GetWorkingDir(),
		Terminal: config.GetTty(), Stdin: config.GetStdin(), StdinOnce: config.GetStdinOnce(),
	}
	if h := pod.status.Spec.Network.Hostname; h != "" {
		p.Env = append(p.Env, "HOSTNAME="+h)
	}
	if p.Terminal {
		p.Env = append(p.Env, "TERM=xterm")
	}
	for _, e := range config.GetEnvs() {
		if e.GetKey() == "" || strings.ContainsAny(e.GetKey(), "=\x00") {
			return p, fmt.Errorf("environment variable %q is no name: %w", e.GetKey(), containerizer.ErrInvalid)
		}
		p.Env = append(p.Env, e.GetKey()+"="+string(e.GetValue()))
	}
	err := user(&p, config.GetLinux().GetSecurityContext())
	return p, err
}

// user says who runs it: the user by number before by name, else the image's.
func user(p *containerizer.Process, c *runtimeapi.LinuxContainerSecurityContext) error {
	switch {
	case c.GetRunAsUser() != nil:
		p.User = strconv.FormatInt(c.GetRunAsUser().GetValue(), 10)
	case c.GetRunAsUsername() != "":
		p.User = c.GetRunAsUsername()
	case c.GetRunAsGroup() != nil:
		return fmt.Errorf("a group to run as is given, and no user: %w", containerizer.ErrInvalid)
	}
	if g := c.GetRunAsGroup(); g != nil {
		p.User += ":" + strconv.FormatInt(g.GetValue(), 10)
	}
	for _, g := range c.GetSupplementalGroups() {
		p.AdditionalGroups = append(p.AdditionalGroups, strconv.FormatInt(g, 10))
	}
	if c.GetSupplementalGroupsPolicy() == runtimeapi.SupplementalGroupsPolicy_Strict {
		p.GroupsPolicy = containerizer.GroupsStrict
	}
	return nil
}

// stopSignal is a signal's name as the engine knows it; "" is the image's.
func stopSignal(sig runtimeapi.Signal) string {
	if sig == runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT {
		return ""
	}
	name := strings.TrimPrefix(sig.String(), "SIGNAL_")
	return strings.NewReplacer("PLUS", "+", "MINUS", "-").Replace(name)
}

// signalOf is the other way round.
func signalOf(name string) runtimeapi.Signal {
	name = "SIGNAL_SIG" + strings.TrimPrefix(strings.NewReplacer("+", "PLUS", "-", "MINUS").Replace(strings.ToUpper(name)), "SIG")
	return runtimeapi.Signal(runtimeapi.Signal_value[name])
}

// cdiAnnotation begins the names of annotations that name devices, as it was done before
// there was a field.
const cdiAnnotation = "cdi.k8s.io/"

func cdiDevices(config *runtimeapi.ContainerConfig) []string {
	var names []string
	for _, d := range config.GetCDIDevices() {
		names = append(names, d.GetName())
	}
	if len(names) > 0 {
		return names
	}
	for key, value := range config.GetAnnotations() {
		if strings.HasPrefix(key, cdiAnnotation) {
			names = append(names, strings.Split(value, ",")...)
		}
	}
	return names
}

// logConfig says where output goes: nowhere if the pod has no directory for it. The
// kubelet rotates.
func logConfig(pod *runtimeapi.PodSandboxConfig, config *runtimeapi.ContainerConfig) containerizer.LogConfig {
	if p := logPath(pod, config); p != "" {
		return containerizer.LogConfig{Path: p}
	}
	return containerizer.LogConfig{Driver: containerizer.LogNone}
}

func logPath(pod *runtimeapi.PodSandboxConfig, config *runtimeapi.ContainerConfig) string {
	if pod.GetLogDirectory() == "" || config.GetLogPath() == "" {
		return ""
	}
	return path.Join(pod.GetLogDirectory(), config.GetLogPath())
}

// containerNamespaces are the pod's, but for pids.
func (s *runtimeService) containerNamespaces(ctx context.Context, spec *containerizer.Spec, pod item, config *runtimeapi.ContainerConfig) error {
	o := config.GetLinux().GetSecurityContext().GetNamespaceOptions()
	of := pod.status.Spec.Namespaces
	spec.Namespaces.IPC.Mode = hostOr(of.IPC)
	switch o.GetPid() {
	case runtimeapi.NamespaceMode_POD:
		if !pod.status.Spec.Process.Init {
			return fmt.Errorf("the pod sandbox has no pid namespace to be shared: %w", containerizer.ErrInvalid)
		}
		spec.Namespaces.PID.Mode = containerizer.NamespaceParent
	case runtimeapi.NamespaceMode_CONTAINER:
		spec.Namespaces.PID.Mode = containerizer.NamespacePrivate
	case runtimeapi.NamespaceMode_NODE:
		spec.Namespaces.PID.Mode = containerizer.NamespaceHost
	case runtimeapi.NamespaceMode_TARGET:
		target, err := s.index.container(ctx, o.GetTargetId())
		if err != nil {
			return fmt.Errorf("share the pid namespace of a container: %w", err)
		}
		if target.status.ID.Parent() != pod.status.ID {
			return fmt.Errorf("share the pid namespace of container %q: it is in another pod: %w", o.GetTargetId(), containerizer.ErrInvalid)
		}
		spec.Namespaces.PID = containerizer.Namespace{Mode: containerizer.NamespaceContainer, Container: target.status.ID}
	default:
		return fmt.Errorf("pid namespace mode %s is unknown: %w", o.GetPid(), containerizer.ErrInvalid)
	}
	return nil
}

// hostOr is the host's mode where the pod has that, else what children have anyway.
func hostOr(n containerizer.Namespace) containerizer.NamespaceMode {
	if n.Mode == containerizer.NamespaceHost {
		return containerizer.NamespaceHost
	}
	return containerizer.NamespaceDefault
}

func mappings(list []*runtimeapi.IDMapping) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	for _, m := range list {
		out = append(out, specs.LinuxIDMapping{ContainerID: m.GetContainerId(), HostID: m.GetHostId(), Size: m.GetLength()})
	}
	return out
}
