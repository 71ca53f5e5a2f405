package cri

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// visible says whether a kubelet is to see a container: not while it is being made.
func visible(s *containerizer.Status) bool {
	return s.State != containerizer.StatePreparing || s.Termination != nil
}

func podState(s *containerizer.Status) runtimeapi.PodSandboxState {
	if s.State == containerizer.StateRunning || s.State == containerizer.StatePaused {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

func containerState(s *containerizer.Status) runtimeapi.ContainerState {
	switch s.State {
	case containerizer.StateCreated:
		return runtimeapi.ContainerState_CONTAINER_CREATED
	case containerizer.StateRunning, containerizer.StatePaused:
		return runtimeapi.ContainerState_CONTAINER_RUNNING
	default:
	}
	if s.Termination != nil {
		return runtimeapi.ContainerState_CONTAINER_EXITED
	}
	return runtimeapi.ContainerState_CONTAINER_UNKNOWN
}

// PodSandboxStatus tells about a pod sandbox and its containers.
func (s *runtimeService) PodSandboxStatus(ctx context.Context, r *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	i, err := s.index.sandbox(ctx, r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	containers, err := s.statusesIn(ctx, i.status.ID)
	if err != nil {
		return nil, err
	}
	response := &runtimeapi.PodSandboxStatusResponse{Status: podStatus(i), ContainersStatuses: containers, Timestamp: time.Now().UnixNano()}
	if r.GetVerbose() {
		response.Info = verbose(i.status, protojson.Format(i.record.pod.GetConfig()))
	}
	return response, nil
}

// statusesIn are those of the containers of a pod.
func (s *Server) statusesIn(ctx context.Context, pod containerizer.ContainerID) ([]*runtimeapi.ContainerStatus, error) {
	items, err := s.index.all(ctx, pod)
	if err != nil {
		return nil, err
	}
	var out []*runtimeapi.ContainerStatus
	for _, i := range items {
		if i.record.container != nil && visible(i.status) {
			out = append(out, s.containerStatus(i))
		}
	}
	return out, nil
}

func podStatus(i item) *runtimeapi.PodSandboxStatus {
	config := i.record.pod.GetConfig()
	status := &runtimeapi.PodSandboxStatus{
		Id: string(i.status.ID), Metadata: config.GetMetadata(), State: podState(i.status), CreatedAt: i.status.CreatedAt.UnixNano(),
		Network: &runtimeapi.PodSandboxNetworkStatus{}, Labels: config.GetLabels(), Annotations: config.GetAnnotations(),
		RuntimeHandler: i.record.pod.GetRuntimeHandler(),
		Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{
			Options: config.GetLinux().GetSecurityContext().GetNamespaceOptions(),
		}},
	}
	if status.GetLinux().GetNamespaces().GetOptions() == nil {
		status.Linux.Namespaces.Options = &runtimeapi.NamespaceOption{}
	}
	if status.GetState() != runtimeapi.PodSandboxState_SANDBOX_READY {
		return status // its addresses are given back
	}
	for n, ip := range addresses(i.status) {
		if n == 0 {
			status.Network.Ip = ip
			continue
		}
		status.Network.AdditionalIps = append(status.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip})
	}
	return status
}

// addresses are those of the first network; others are not the pod's for a kubelet.
func addresses(s *containerizer.Status) []string {
	if len(s.Networks) == 0 {
		return nil
	}
	var out []string
	for _, cidr := range s.Networks[0].IPs {
		ip, _, _ := strings.Cut(cidr, "/")
		out = append(out, ip)
	}
	return out
}

// ContainerStatus tells about a container.
func (s *runtimeService) ContainerStatus(ctx context.Context, r *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	i, err := s.index.container(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	response := &runtimeapi.ContainerStatusResponse{Status: s.containerStatus(i)}
	if r.GetVerbose() {
		response.Info = verbose(i.status, protojson.Format(i.record.container.GetConfig()))
	}
	return response, nil
}

func (s *Server) containerStatus(i item) *runtimeapi.ContainerStatus {
	config := i.record.container.GetConfig()
	status := &runtimeapi.ContainerStatus{
		Id: i.status.ID.Base(), Metadata: config.GetMetadata(), State: containerState(i.status), CreatedAt: i.status.CreatedAt.UnixNano(),
		Image:    &runtimeapi.ImageSpec{Image: config.GetImage().GetUserSpecifiedImage(), Annotations: config.GetImage().GetAnnotations(), UserSpecifiedImage: config.GetImage().GetUserSpecifiedImage()},
		ImageRef: config.GetImage().GetImageRef(), ImageId: config.GetImage().GetImageRef(),
		Labels: config.GetLabels(), Annotations: config.GetAnnotations(), Mounts: config.GetMounts(),
		LogPath: i.status.Spec.Log.Path, Resources: applied(&i.status.Spec.Resources.Linux, i.status.Spec.Process.OOMScoreAdj),
		User: s.users.of(i.status), StopSignal: signalOf(i.status.Spec.StopSignal),
	}
	if status.GetStopSignal() == runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT {
		status.StopSignal = runtimeapi.Signal_SIGNAL_SIGTERM
	}
	if !i.status.StartedAt.IsZero() {
		status.StartedAt = i.status.StartedAt.UnixNano()
	}
	if t := i.status.Termination; t != nil && status.GetState() == runtimeapi.ContainerState_CONTAINER_EXITED {
		status.FinishedAt = max(t.FinishedAt.UnixNano(), status.GetStartedAt(), status.GetCreatedAt())
		status.ExitCode, status.Reason, status.Message = int32(t.ExitCode), reason(t), t.Message //nolint:gosec // a byte, or 128 and a signal
		if t.Reason == containerizer.ReasonLaunchFailed {
			status.ExitCode = startErrorCode
		}
	}
	return status
}

// startErrorCode is the exit code of a container whose command could not be executed, as
// containerd has it.
const startErrorCode = 128

// reason is the word that tools know.
func reason(t *containerizer.Termination) string {
	switch t.Reason {
	case containerizer.ReasonCompleted:
		return "Completed"
	case containerizer.ReasonOOMKilled:
		return "OOMKilled"
	case containerizer.ReasonLaunchFailed:
		return "StartError"
	case containerizer.ReasonUnknown:
		return "Unknown"
	default:
		if t.ExitCode == 0 {
			return "Completed"
		}
		return "Error"
	}
}

// verbose is what crictl and others read: a document of the runtime's own form.
func verbose(s *containerizer.Status, config string) map[string]string {
	info, err := json.Marshal(map[string]any{
		"pid": s.PID, "sandboxID": string(s.ID.Root()), "config": json.RawMessage(config), "state": s.State,
		"monitorPID": s.MonitorPID, "owed": s.Owed, "rootfs": s.Rootfs,
	})
	if err != nil {
		return nil
	}
	return map[string]string{"info": string(info)}
}
