package cri

import (
	"context"
	"encoding/json"
	"fmt"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

const (
	runtimeName = "berth"
	// kubeletVersion is the only version of the protocol's first field that kubelets take.
	kubeletVersion = "0.1.0"
	apiVersion     = "v1"
)

// Version tells who we are. It asks nobody.
func (s *runtimeService) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: kubeletVersion, RuntimeName: runtimeName, RuntimeVersion: s.o.Version, RuntimeApiVersion: apiVersion}, nil
}

// Status tells whether pods can be run. It is polled, and looks at files at most.
func (s *runtimeService) Status(_ context.Context, r *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	network := &runtimeapi.RuntimeCondition{Type: runtimeapi.NetworkReady, Status: true}
	if _, err := s.o.Node.PodNetwork(); err != nil {
		network.Status, network.Reason, network.Message = false, "NetworkPluginNotReady", err.Error()
	}
	response := &runtimeapi.StatusResponse{
		Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
			{Type: runtimeapi.RuntimeReady, Status: true}, network,
		}},
		RuntimeHandlers: s.handlers(),
		Features:        &runtimeapi.RuntimeFeatures{SupplementalGroupsPolicy: true, MountOptions: true},
	}
	if r.GetVerbose() {
		config, err := json.Marshal(map[string]any{"stateDir": s.o.StateDir, "imageDir": s.o.ImageDir})
		if err != nil {
			return nil, err
		}
		response.Info = map[string]string{"config": string(config)}
	}
	return response, nil
}

// RuntimeConfig tells who makes control groups, so that the kubelet does as we do.
func (s *runtimeService) RuntimeConfig(context.Context, *runtimeapi.RuntimeConfigRequest) (*runtimeapi.RuntimeConfigResponse, error) {
	driver := runtimeapi.CgroupDriver_CGROUPFS
	if s.o.Node.Features().SystemdCgroups {
		driver = runtimeapi.CgroupDriver_SYSTEMD
	}
	return &runtimeapi.RuntimeConfigResponse{Linux: &runtimeapi.LinuxRuntimeConfiguration{CgroupDriver: driver}}, nil
}

// CheckpointContainer does not exist: berth has no CRIU.
func (*runtimeService) CheckpointContainer(context.Context, *runtimeapi.CheckpointContainerRequest) (*runtimeapi.CheckpointContainerResponse, error) {
	return nil, unimplemented("CheckpointContainer")
}

// CheckpointPod does not exist either.
func (*runtimeService) CheckpointPod(context.Context, *runtimeapi.CheckpointPodRequest) (*runtimeapi.CheckpointPodResponse, error) {
	return nil, unimplemented("CheckpointPod")
}

// RestorePod does not exist either.
func (*runtimeService) RestorePod(context.Context, *runtimeapi.RestorePodRequest) (*runtimeapi.RestorePodResponse, error) {
	return nil, unimplemented("RestorePod")
}

func checkStreams(tty, stdin, stdout, stderr bool) error {
	switch {
	case !stdin && !stdout && !stderr:
		return fmt.Errorf("none of stdin, stdout and stderr is asked for: %w", containerizer.ErrInvalid)
	case tty && stderr:
		return fmt.Errorf("with a terminal there is no stderr of its own: %w", containerizer.ErrInvalid)
	}
	return nil
}
