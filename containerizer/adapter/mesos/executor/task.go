package executor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	"github.com/berth-dev/berth/containerizer/log"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// cause is why a task is killed.
type cause int

const (
	causeNone      cause = iota
	causeKilled          // the framework, or the end of the executor
	causeGroup           // another of its group failed, or was killed
	causeUnhealthy       // its health check says so
	causeTime            // max_completion_time
)

// defaultGrace is how long a task has to end by itself when nobody says.
const defaultGrace = 3 * time.Second

// task is one. What follows mu's of the executor is guarded by that.
type task struct {
	x     *Executor
	info  *mesosv1.TaskInfo
	group []*task // all of it; nil for a task on its own
	id    containerizer.ContainerID
	// asked is closed when the task is to end; sooner is sent when it is to end sooner
	// than that.
	asked  chan struct{}
	sooner chan struct{}
	cancel context.CancelFunc // of its launch

	// Guarded by x.mu.
	state    mesosv1.TaskState
	cause    cause
	deadline time.Time // of what it does on SIGTERM
	healthy  *bool
	check    *mesosv1.CheckStatusInfo
	place    *mesosv1.ContainerStatus
}

// terminal says whether a task in state s has ended.
func terminal(s mesosv1.TaskState) bool {
	switch s {
	case mesosv1.TaskState_TASK_FINISHED, mesosv1.TaskState_TASK_FAILED, mesosv1.TaskState_TASK_KILLED, mesosv1.TaskState_TASK_ERROR,
		mesosv1.TaskState_TASK_LOST, mesosv1.TaskState_TASK_DROPPED, mesosv1.TaskState_TASK_GONE, mesosv1.TaskState_TASK_GONE_BY_OPERATOR:
		return true
	default:
		return false
	}
}

// launch begins a task that is on its own.
func (x *Executor) launch(ctx context.Context, info *mesosv1.TaskInfo) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, t := range x.accept([]*mesosv1.TaskInfo{info}) {
		t.begin(ctx)
	}
}

// launchGroup begins a task group.
func (x *Executor) launchGroup(ctx context.Context, infos []*mesosv1.TaskInfo) {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := x.accept(infos)
	for _, t := range all {
		t.group = all
		t.begin(ctx)
	}
}

// accept returns the tasks that are to begin. One that is known is the agent's telling
// twice.
//
// Preconditions: x.mu is held.
func (x *Executor) accept(infos []*mesosv1.TaskInfo) (all []*task) {
	for _, info := range infos {
		id := info.GetTaskId().GetValue()
		if x.tasks[id] != nil {
			x.Log.Warn("a task is launched that is known; it is not launched again", log.String("task_id", id))
			continue
		}
		t := &task{x: x, info: info, id: x.tree.id.Child(containerizer.NewContainerID().String()), asked: make(chan struct{}), sooner: make(chan struct{}, 1), state: mesosv1.TaskState_TASK_STAGING}
		x.tasks[id] = t
		x.book.addTask(info)
		x.active++
		if x.shutdown {
			t.end(x.dropped())
			continue
		}
		t.become(mesosv1.TaskState_TASK_STARTING, &mesosv1.TaskStatus{})
		all = append(all, t)
	}
	return all
}

// begin lets t run.
//
// Preconditions: x.mu is held.
func (t *task) begin(ctx context.Context) {
	launching, cancel := context.WithCancel(ctx)
	t.cancel = cancel
	t.x.background.Go(func() { t.run(ctx, launching) })
}

// dropped is what becomes of a task that comes too late.
//
// Preconditions: x.mu is held.
func (x *Executor) dropped() *mesosv1.TaskStatus {
	s := &mesosv1.TaskStatus{State: mesosv1.TaskState_TASK_LOST.Enum(), Reason: mesosv1.TaskStatus_REASON_EXECUTOR_TERMINATED.Enum(), Message: new("the executor is ending; it launches nothing any more")}
	if x.can(mesosv1.FrameworkInfo_Capability_PARTITION_AWARE) {
		s.State = mesosv1.TaskState_TASK_DROPPED.Enum()
	}
	return s
}

// kill does what the framework asks for.
func (x *Executor) kill(id string, policy *mesosv1.KillPolicy) {
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.tasks[id]
	if t == nil {
		x.Log.Warn("a task is to be killed that is not known", log.String("task_id", id))
		return
	}
	t.kill(t.grace(policy), causeKilled)
}

// grace is how long t has to end by itself: what the kill says, else what the task does.
func (t *task) grace(policy *mesosv1.KillPolicy) time.Duration {
	for _, p := range []*mesosv1.KillPolicy{policy, t.info.GetKillPolicy()} {
		if p.GetGracePeriod() != nil {
			return max(time.Duration(p.GetGracePeriod().GetNanoseconds()), 0)
		}
	}
	return defaultGrace
}

// kill asks t to end within grace. It may be asked again, which never gives it more time.
//
// Preconditions: x.mu is held.
func (t *task) kill(grace time.Duration, why cause) {
	if terminal(t.state) {
		return
	}
	deadline := time.Now().Add(grace)
	if t.cause != causeNone {
		if deadline.Before(t.deadline) {
			t.deadline = deadline
			wake(t.sooner)
		}
		return
	}
	t.cause, t.deadline = why, deadline
	if t.state == mesosv1.TaskState_TASK_RUNNING && t.x.can(mesosv1.FrameworkInfo_Capability_TASK_KILLING_STATE) {
		t.become(mesosv1.TaskState_TASK_KILLING, &mesosv1.TaskStatus{})
	}
	close(t.asked)
	t.cancel()
}

// become tells that t is in state, with what else s says.
//
// Preconditions: x.mu is held, and t has not ended.
func (t *task) become(state mesosv1.TaskState, s *mesosv1.TaskStatus) {
	t.state = state
	s.State, s.TaskId = &state, t.info.GetTaskId()
	if s.Healthy == nil {
		s.Healthy = t.healthy
	}
	s.CheckStatus, s.ContainerStatus = t.check, t.place
	t.x.tell(s)
}

// end tells the terminal state of t, which s has. The rest of its group ends with it unless
// it is well.
//
// Preconditions: x.mu is held.
func (t *task) end(s *mesosv1.TaskStatus) {
	if terminal(t.state) {
		return
	}
	t.x.active--
	t.become(s.GetState(), s)
	t.x.Log.Info("a task has ended", log.String("task_id", t.info.GetTaskId().GetValue()), log.Stringer("state", s.GetState()), log.String("reason", s.GetMessage()))
	if s.GetState() == mesosv1.TaskState_TASK_FINISHED {
		return
	}
	for _, other := range t.group {
		if other != t {
			other.kill(other.grace(nil), causeGroup)
		}
	}
}

// run is the life of t.
func (t *task) run(ctx, launching context.Context) {
	defer t.cancel()
	order, err := t.order()
	if err == nil {
		err = t.checkChecks()
	}
	if err != nil {
		reason := mesosv1.TaskStatus_REASON_TASK_INVALID
		if t.group != nil {
			reason = mesosv1.TaskStatus_REASON_TASK_GROUP_INVALID
		}
		t.failed(reason, err)
		return
	}
	root, err := t.x.tree.join(launching, order.needs)
	if err != nil {
		t.failed(mesosv1.TaskStatus_REASON_CONTAINER_UPDATE_FAILED, err)
		return
	}
	out, spec, err := t.start(launching, &order.order, root)
	if err == nil {
		t.live(ctx, spec, out)
	} else {
		t.failed(mesosv1.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED, err)
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if err := t.x.Engine.Destroy(cleanup, t.id); err != nil {
		t.x.Log.Warn("a task's container is left to the end of the executor", log.String("container_id", t.id.String()), log.Error(err))
	}
	t.x.tree.leave(cleanup, order.needs)
}

// failed ends a task that never ran.
func (t *task) failed(reason mesosv1.TaskStatus_Reason, err error) {
	t.x.mu.Lock()
	defer t.x.mu.Unlock()
	s := &mesosv1.TaskStatus{State: mesosv1.TaskState_TASK_FAILED.Enum(), Reason: &reason, Message: new("Failed to launch container: " + err.Error())}
	if t.cause != causeNone {
		s = &mesosv1.TaskStatus{State: mesosv1.TaskState_TASK_KILLED.Enum(), Reason: mesosv1.TaskStatus_REASON_TASK_KILLED_DURING_LAUNCH.Enum(), Message: new("Killed while it was launched")}
	}
	t.end(s)
}

// start launches t's container. What it returns of the output is waited for at the end.
func (t *task) start(ctx context.Context, o *translate.Order, root *containerizer.Status) (*output, *containerizer.Spec, error) {
	p, err := t.x.translator.Plan(ctx, o, root)
	if err != nil {
		return nil, nil, err
	}
	p.Spec.Labels[labelTask] = t.info.GetTaskId().GetValue()
	p.Spec.StopSignal = "SIGTERM"                                                      // not the image's
	p.Spec.Process.Init = p.Spec.Namespaces.PID.Mode == containerizer.NamespacePrivate // whoever is process 1 does not hear of SIGTERM
	if err := p.PrepareSandbox(); err != nil {
		return nil, nil, err
	}
	t.link()
	if err := p.Fetch(ctx, t.x.Artifacts); err != nil {
		return nil, nil, err
	}
	out, err := t.x.launchInto(ctx, p)
	return out, p.Spec, err
}

// link makes the task's sandbox known by its name, as Mesos does: tasks/NAME.
func (t *task) link() {
	name := t.info.GetTaskId().GetValue()
	if name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
		return
	}
	err := t.x.sandboxOf(t.x.tree.id).Within(func(root *os.Root) error {
		if err := root.Mkdir("tasks", 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		return root.Symlink(filepath.Join("..", "containers", t.id.Base()), filepath.Join("tasks", name))
	})
	if err != nil {
		t.x.Log.Debug("a task's sandbox has no link", log.String("task_id", name), log.Error(err))
	}
}

// live is t from RUNNING on, until it has ended.
func (t *task) live(ctx context.Context, spec *containerizer.Spec, out *output) {
	status, err := t.x.Engine.Status(ctx, t.id)
	if err != nil { // it may have ended; Wait says how
		status = &containerizer.Status{ID: t.id}
	}
	t.running(status)
	watching, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.watch(watching, spec, status)
	}()
	end, err := t.x.waitFor(ctx, t.id)
	stop()
	<-done
	out.wait(t.x, t.id)
	t.x.mu.Lock()
	defer t.x.mu.Unlock()
	if ctx.Err() != nil {
		return // the executor gave up waiting; nobody hears of it any more
	}
	t.end(t.ended(end, err))
}

// running tells that t runs, and where.
func (t *task) running(status *containerizer.Status) {
	t.x.mu.Lock()
	defer t.x.mu.Unlock()
	t.place = placeOf(status)
	if c := t.info.GetCheck(); c != nil {
		t.check = emptyCheck(c.GetType())
	}
	t.become(mesosv1.TaskState_TASK_RUNNING, &mesosv1.TaskStatus{})
	if t.cause != causeNone && t.x.can(mesosv1.FrameworkInfo_Capability_TASK_KILLING_STATE) {
		t.become(mesosv1.TaskState_TASK_KILLING, &mesosv1.TaskStatus{})
	}
}

// placeOf is what the framework learns of where a container is. Its id is left out: the
// agent would look for it among its own.
func placeOf(status *containerizer.Status) *mesosv1.ContainerStatus {
	c := &mesosv1.ContainerStatus{}
	if status.PID > 0 {
		c.ExecutorPid = new(uint32(status.PID)) //nolint:gosec // positive, and of 22 bits
	}
	for _, n := range status.Networks {
		info := &mesosv1.NetworkInfo{Name: new(n.Name)}
		for _, ip := range n.IPs {
			info.IpAddresses = append(info.IpAddresses, translate.AddressOf(ip))
		}
		c.NetworkInfos = append(c.NetworkInfos, info)
	}
	return c
}
