package cri

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// adapterName is the Origin.Adapter of our containers.
const adapterName = "cri"

// record is what was asked for, as a kubelet wants to see it again. One of both is set.
type record struct {
	pod       *runtimeapi.RunPodSandboxRequest
	container *runtimeapi.CreateContainerRequest
}

// origin encodes r. The same request gives the same bytes: by them the engine tells a
// retry from another request.
func (r *record) origin() (*containerizer.Origin, error) {
	var m proto.Message = r.pod
	if r.container != nil {
		m = r.container
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w: %w", err, containerizer.ErrInvalid)
	}
	return &containerizer.Origin{Adapter: adapterName, Data: data}, nil
}

// containerRecord is what is kept of a request: all that can be asked for later, without
// what the Spec has. mounts are those of config, in its order: they say which images were meant.
func containerRecord(sandbox containerizer.ContainerID, config *runtimeapi.ContainerConfig, imageID string, mounts []containerizer.Mount) *record {
	kept := proto.CloneOf(config)
	kept.Envs, kept.Command, kept.Args, kept.WorkingDir = nil, nil, nil, ""
	if kept.GetImage().GetUserSpecifiedImage() == "" {
		kept.Image.UserSpecifiedImage = config.GetImage().GetImage()
	}
	kept.Image.ImageRef = imageID
	for n, m := range mounts {
		if m.Image != nil {
			kept.Mounts[n].Image.ImageRef = m.Image.Reference
		}
	}
	return &record{container: &runtimeapi.CreateContainerRequest{PodSandboxId: string(sandbox), Config: kept}}
}

// decode reads the record of one of our containers.
func decode(id containerizer.ContainerID, o *containerizer.Origin) (*record, error) {
	r := &record{}
	var m proto.Message
	if id.IsRoot() {
		r.pod = &runtimeapi.RunPodSandboxRequest{}
		m = r.pod
	} else {
		r.container = &runtimeapi.CreateContainerRequest{}
		m = r.container
	}
	if err := proto.Unmarshal(o.Data, m); err != nil {
		return nil, fmt.Errorf("container %q: its CRI record: %w: %w", id, err, containerizer.ErrDataCorrupt)
	}
	return r, nil
}

// podKey is what makes two requests for a pod sandbox the same.
func podKey(m *runtimeapi.PodSandboxMetadata) string {
	return fmt.Sprintf("%q %q %q %d", m.GetNamespace(), m.GetName(), m.GetUid(), m.GetAttempt())
}

// containerKey is the same for a container.
func containerKey(sandbox containerizer.ContainerID, m *runtimeapi.ContainerMetadata) string {
	return fmt.Sprintf("%s %q %d", sandbox, m.GetName(), m.GetAttempt())
}

// key is that of r.
func (r *record) key() string {
	if r.pod != nil {
		return podKey(r.pod.GetConfig().GetMetadata())
	}
	return containerKey(containerizer.ContainerID(r.container.GetPodSandboxId()), r.container.GetConfig().GetMetadata())
}
