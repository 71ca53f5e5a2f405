package translate

import (
	"github.com/berth-dev/berth/containerizer"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// Memory is the resource whose end the kernel sees to.
const Memory = mem

// LimitationOf is the limit that a container ran into; nil is none.
func LimitationOf(t *containerizer.Termination) *containerizer.Limitation {
	if t.Limitation == nil && t.OOMKilled {
		return &containerizer.Limitation{Resource: Memory, Message: "Memory limit exceeded"}
	}
	return t.Limitation
}

// ReasonOf is how Mesos names a limit.
func ReasonOf(l *containerizer.Limitation) mesosv1.TaskStatus_Reason {
	switch l.Resource {
	case Memory:
		return mesosv1.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY
	case "disk":
		return mesosv1.TaskStatus_REASON_CONTAINER_LIMITATION_DISK
	}
	return mesosv1.TaskStatus_REASON_CONTAINER_LIMITATION
}
