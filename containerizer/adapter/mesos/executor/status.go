package executor

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// ended is the terminal update of a task that ran: how its container ended, and why. err
// is why that is not known.
//
// Preconditions: x.mu is held.
func (t *task) ended(end *containerizer.Termination, err error) *mesosv1.TaskStatus {
	s := &mesosv1.TaskStatus{State: mesosv1.TaskState_TASK_FAILED.Enum()}
	if err != nil {
		s.Message = new("The container is gone: " + err.Error())
		return s
	}
	s.Message = new(describe(end))
	limit := translate.LimitationOf(end)
	switch {
	case t.cause == causeTime:
		s.Reason = mesosv1.TaskStatus_REASON_MAX_COMPLETION_TIME_REACHED.Enum()
		s.Message = new(fmt.Sprintf("The task took longer than %s", durationOf(t.info.GetMaxCompletionTime())))
	case t.cause != causeNone: // whatever its exit status is
		s.State = mesosv1.TaskState_TASK_KILLED.Enum()
		switch t.cause {
		case causeUnhealthy:
			s.Healthy = new(false)
			s.Message = new("Killed because it is unhealthy: " + *s.Message)
		case causeGroup:
			s.Message = new("Killed with its group: " + *s.Message)
		case causeNone, causeKilled, causeTime:
		}
	case limit != nil && end.ExitCode != 0:
		s.Reason, s.Message = translate.ReasonOf(limit).Enum(), &limit.Message
		if limit.Resource == translate.Memory {
			s.Limitation = &mesosv1.TaskResourceLimitation{Resources: t.limited(limit.Resource)}
			if end.Message != "" {
				s.Message = &end.Message
			}
		}
	case end.ExitCode == 0 && end.Signal == 0 && end.Reason == containerizer.ReasonCompleted:
		s.State = mesosv1.TaskState_TASK_FINISHED.Enum()
	case end.Reason == containerizer.ReasonLaunchFailed:
		s.Reason = mesosv1.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED.Enum()
	}
	return s
}

// describe tells how a process ended, as Mesos's executors do. Process 1 of a container
// passes the signal of its command on as a status of 128 and more.
func describe(end *containerizer.Termination) string {
	const bySignal = 128
	signal, raw := end.Signal, end.WaitStatus
	if name := unix.SignalName(unix.Signal(end.ExitCode - bySignal)); signal == 0 && name != "" {
		signal = end.ExitCode - bySignal
		raw = uint32(signal) //nolint:gosec // there is a name for it
	}
	switch {
	case end.Reason == containerizer.ReasonUnknown:
		return "How the command ended is not known"
	case signal != 0:
		return fmt.Sprintf("Command terminated with signal %s (wait status %d)", unix.SignalName(unix.Signal(signal)), raw)
	case end.Message != "" && end.Reason == containerizer.ReasonLaunchFailed:
		return end.Message
	}
	return fmt.Sprintf("Command exited with status %d", end.ExitCode)
}

// limited is the resource that t ran out of: what it was limited to.
func (t *task) limited(name string) []*mesosv1.Resource {
	value := 0.0
	for _, r := range t.info.GetResources() {
		if r.GetName() == name {
			value += r.GetScalar().GetValue()
		}
	}
	if l := t.info.GetLimits()[name]; l != nil {
		value = l.GetValue()
	}
	return []*mesosv1.Resource{{Name: &name, Type: mesosv1.Value_SCALAR.Enum(), Scalar: &mesosv1.Value_Scalar{Value: &value}}}
}
