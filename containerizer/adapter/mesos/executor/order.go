package executor

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/codec"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// orders are what a task comes to: its container, and what it needs of the executor's
// resources.
type orders struct {
	order translate.Order
	needs *translate.Order
}

// order is the container of t. What cannot be carried is refused.
func (t *task) order() (*orders, error) {
	container := t.info.GetContainer()
	if t.info.Command == nil && t.info.Executor != nil && container == nil && t.x.o.Image != "" {
		container = &mesosv1.ContainerInfo{Type: mesosv1.ContainerInfo_MESOS.Enum(), Mesos: &mesosv1.ContainerInfo_MesosInfo{
			Image: &mesosv1.Image{Type: mesosv1.Image_DOCKER.Enum(), Docker: &mesosv1.Image_Docker{Name: &t.x.o.Image}},
		}}
	}
	if container == nil {
		container = &mesosv1.ContainerInfo{Type: mesosv1.ContainerInfo_MESOS.Enum()}
	}
	command, err := t.command()
	if err != nil {
		return nil, err
	}
	for _, r := range t.info.GetResources() {
		if r.GetDisk().GetPersistence() != nil || r.GetDisk().GetVolume() != nil {
			return nil, fmt.Errorf("resource %q is a persistent volume, which this executor cannot mount: %w", r.GetName(), containerizer.ErrUnsupported)
		}
	}
	needs := &translate.Order{Resources: t.info.GetResources(), Limits: t.info.GetLimits()}
	o := &orders{needs: needs, order: translate.Order{
		ID: t.id, Class: translate.ClassNested, Command: command, Container: container, Env: t.variables(), Resources: needs.Resources, Limits: needs.Limits,
	}}
	l := container.GetLinuxInfo()
	switch shares := l.GetShareCgroups(); {
	case t.group == nil && l != nil && l.ShareCgroups != nil && shares:
		return nil, fmt.Errorf("a task that is not of a group does not share the executor's control group: %w", containerizer.ErrInvalid)
	case t.group != nil && shares && len(needs.Limits) > 0:
		return nil, fmt.Errorf("limits need share_cgroups to be false: %w", containerizer.ErrInvalid)
	case t.group != nil && (l == nil || shares):
		o.order.Resources, o.order.Limits = nil, nil // bounded by the executor's alone
	}
	// It has a group in any case, below the executor's, so that all of it can be ended.
	o.order.Container = proto.CloneOf(container)
	if l != nil {
		o.order.Container.LinuxInfo.ShareCgroups = new(false)
	} else {
		o.order.Container.LinuxInfo = &mesosv1.LinuxInfo{ShareCgroups: new(false)}
	}
	return o, nil
}

// command is what t runs. The master lets tasks of custom executors have none: then it is
// what the executor was started with, else what the task's data say.
func (t *task) command() (*mesosv1.CommandInfo, error) {
	if t.info.Command != nil || t.info.Executor == nil {
		return t.info.GetCommand(), nil
	}
	t.x.mu.Lock()
	env := t.x.info.GetCommand().GetEnvironment()
	t.x.mu.Unlock()
	var c *mesosv1.CommandInfo
	switch data := t.info.GetData(); {
	case t.x.o.Command != nil:
		c = proto.CloneOf(t.x.o.Command)
	case len(data) > 0:
		c = &mesosv1.CommandInfo{}
		if err := codec.JSON.Unmarshal(data, c); err != nil {
			return nil, fmt.Errorf("the task has no command, and its data are no CommandInfo: %w", err)
		}
	default:
		c = &mesosv1.CommandInfo{Shell: new(false)} // the image's
	}
	merged := &mesosv1.Environment{}
	for _, e := range []*mesosv1.Environment{env, c.GetEnvironment()} {
		merged.Variables = append(merged.Variables, e.GetVariables()...)
	}
	c.Environment = merged
	return c, nil
}

// variables are those that a task has besides its own.
func (t *task) variables() []string {
	env := []string{"MESOS_TASK_ID=" + t.info.GetTaskId().GetValue()}
	for _, r := range t.info.GetResources() {
		if role := r.GetAllocationInfo().GetRole(); role != "" {
			return append(env, "MESOS_ALLOCATION_ROLE="+role)
		}
	}
	return env
}
