package executor_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/executor"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/executortest"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
	executorv1 "github.com/berth-dev/berth/proto/mesos/v1/executor"
)

const (
	starting = mesosv1.TaskState_TASK_STARTING
	running  = mesosv1.TaskState_TASK_RUNNING
	killing  = mesosv1.TaskState_TASK_KILLING
	finished = mesosv1.TaskState_TASK_FINISHED
	failed   = mesosv1.TaskState_TASK_FAILED
	killed   = mesosv1.TaskState_TASK_KILLED
)

// TestTask: a task from launch to end, in both encodings, with a token.
func TestTask(t *testing.T) {
	t.Parallel()
	for name, form := range forms() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := prepare(t)
			f.Token = "secret"
			f.run(executor.Options{Form: form}, map[string]string{"MESOS_EXECUTOR_AUTHENTICATION_TOKEN": "secret"})
			s := f.Subscribe()
			if len(s.Call.GetUnacknowledgedTasks())+len(s.Call.GetUnacknowledgedUpdates()) != 0 {
				t.Errorf("the first subscription tells %v", s.Call)
			}
			f.Launch(executortest.Task("a", "true"))
			var states []mesosv1.TaskState
			for len(states) < 2 {
				u := f.Update()
				states = append(states, u.GetState())
				f.Acknowledge(u)
				if u.GetContainerStatus().GetContainerId() != nil {
					t.Error("a container id is told, which the agent would look for among its own")
				}
			}
			if want := []mesosv1.TaskState{starting, running}; !slices.Equal(states, want) {
				t.Errorf("states %v, want %v", states, want)
			}
			c := f.container("a")
			if got, want := c.spec.Process.Entrypoint, []string{"/bin/sh", "-c", "true"}; !slices.Equal(got, want) {
				t.Errorf("runs %q", got)
			}
			if !file(t, filepath.Join(f.dir, "containers", c.id.Base(), "stdout")) || !file(t, filepath.Join(f.dir, "tasks", "a", "stderr")) {
				t.Error("the sandbox has no output")
			}
			c.ends(exited(0))
			f.Expect("a", finished)
			f.endsWell()
		})
	}
}

// TestEndings: what the end of a container makes of its task.
func TestEndings(t *testing.T) {
	t.Parallel()
	memory := mesosv1.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY
	for name, x := range map[string]struct {
		end     containerizer.Termination
		state   mesosv1.TaskState
		reason  *mesosv1.TaskStatus_Reason
		message string
	}{
		"well":                {exited(0), finished, nil, "exited with status 0"},
		"status":              {exited(3), failed, nil, "exited with status 3"},
		"signal":              {containerizer.Termination{ExitCode: 139, Signal: 11, WaitStatus: 139, Reason: containerizer.ReasonError}, failed, nil, "terminated with signal SIGSEGV (wait status 139)"},
		"signal of a command": {exited(139), failed, nil, "terminated with signal SIGSEGV (wait status 11)"},
		"memory":              {containerizer.Termination{ExitCode: 137, OOMKilled: true, Reason: containerizer.ReasonOOMKilled, Message: "too much"}, failed, &memory, "too much"},
		"memory, and well":    {containerizer.Termination{OOMKilled: true, Reason: containerizer.ReasonCompleted}, finished, nil, "exited with status 0"},
		"disk":                {containerizer.Termination{ExitCode: 137, Reason: containerizer.ReasonLimitation, Limitation: &containerizer.Limitation{Resource: "disk", Message: "full"}}, failed, new(mesosv1.TaskStatus_REASON_CONTAINER_LIMITATION_DISK), "full"},
		"ports":               {containerizer.Termination{ExitCode: 137, Reason: containerizer.ReasonLimitation, Limitation: &containerizer.Limitation{Resource: "ports", Message: "taken"}}, failed, new(mesosv1.TaskStatus_REASON_CONTAINER_LIMITATION), "taken"},
		"unknown":             {containerizer.Termination{ExitCode: 0, Reason: containerizer.ReasonUnknown}, failed, nil, "not known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, executor.Options{}, nil)
			f.Subscribe()
			f.Launch(executortest.Task("a", "x"))
			f.container("a").ends(x.end)
			u := f.Expect("a", x.state)
			if diff := cmp.Diff(x.reason, u.Reason); diff != "" || !strings.Contains(u.GetMessage(), x.message) {
				t.Errorf("reason (-want +got) %s, message %q", diff, u.GetMessage())
			}
			if limit := u.GetLimitation().GetResources(); (x.reason == &memory) != (len(limit) == 1 && limit[0].GetScalar().GetValue() == 64) {
				t.Errorf("limitation %v", limit)
			}
			f.endsWell()
		})
	}
}

// TestGroup: what one of a group does to the others.
func TestGroup(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		how         func(f *fixture)
		first, rest mesosv1.TaskState
	}{
		"one fails":   {func(f *fixture) { f.container("a").ends(exited(1)) }, failed, killed},
		"one killed":  {func(f *fixture) { f.Kill("a", time.Hour) }, killed, killed},
		"one is done": {func(f *fixture) { f.container("a").ends(exited(0)) }, finished, finished},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, executor.Options{}, nil)
			f.Subscribe()
			f.LaunchGroup(executortest.Task("a", "x"), executortest.Task("b", "x"), executortest.Task("c", "x"))
			for range 6 { // STARTING and RUNNING of each
				f.Acknowledge(f.Update())
			}
			x.how(f)
			if got := f.Expect("a", x.first); name == "one is done" {
				if len(f.signals()) > 0 {
					t.Errorf("the others are signalled: %v", got)
				}
				f.container("b").ends(exited(0))
				f.container("c").ends(exited(0))
			}
			states := map[string]mesosv1.TaskState{}
			for len(states) < 2 {
				u := f.Update()
				f.Acknowledge(u)
				states[u.GetTaskId().GetValue()] = u.GetState()
			}
			if want := map[string]mesosv1.TaskState{"b": x.rest, "c": x.rest}; !cmp.Equal(states, want) {
				t.Errorf("states %v, want %v", states, want)
			}
			f.endsWell()
		})
	}
}

// TestGroupLaunchFails: what cannot be launched takes its group along.
func TestGroupLaunchFails(t *testing.T) {
	t.Parallel()
	f := prepare(t)
	f.engine.onLaunch = func(_ context.Context, s *containerizer.Spec) error {
		if s.Labels["dev.berth.mesos/task"] == "bad" {
			return errors.New("mount proc: no")
		}
		return nil
	}
	f.run(executor.Options{}, nil)
	f.Subscribe()
	f.LaunchGroup(executortest.Task("good", "x"), executortest.Task("bad", "x"))
	ends := map[string]*mesosv1.TaskStatus{}
	for len(ends) < 2 {
		u := f.Update()
		f.Acknowledge(u)
		if s := u.GetState(); s != starting && s != running {
			ends[u.GetTaskId().GetValue()] = u
		}
	}
	if u := ends["bad"]; u.GetState() != failed || u.GetReason() != mesosv1.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED || !strings.Contains(u.GetMessage(), "mount proc: no") {
		t.Errorf("bad ended %v", u)
	}
	if u := ends["good"]; u.GetState() != killed {
		t.Errorf("good ended %v", u)
	}
	f.endsWell()
}

// TestKill: the kill policy.
func TestKill(t *testing.T) {
	t.Parallel()
	deaf := func(c *container, sig int) {
		if sig == 9 {
			c.ends(containerizer.Termination{Signal: 9, ExitCode: 137})
		}
	}
	polite := func(c *container, _ int) { c.ends(exited(0)) }
	for name, x := range map[string]struct {
		onSignal func(*container, int)
		policy   time.Duration // of the task; negative is none
		kills    []time.Duration
		signals  []int
	}{
		"ends well by itself":    {polite, -1, []time.Duration{-1}, []int{15}},
		"does not hear":          {deaf, 50 * time.Millisecond, []time.Duration{-1}, []int{15, 9}},
		"the kill says how long": {deaf, time.Hour, []time.Duration{50 * time.Millisecond}, []int{15, 9}},
		"at once":                {deaf, time.Hour, []time.Duration{0}, []int{9}},
		"sooner":                 {deaf, -1, []time.Duration{time.Hour, time.Millisecond}, []int{15, 9}},
		"not later":              {deaf, -1, []time.Duration{50 * time.Millisecond, time.Hour}, []int{15, 9}},
		"again and again":        {polite, -1, []time.Duration{-1, -1, -1}, []int{15}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := prepare(t)
			f.engine.onSignal = x.onSignal
			f.run(executor.Options{}, nil)
			f.Subscribe(mesosv1.FrameworkInfo_Capability_TASK_KILLING_STATE)
			task := executortest.Task("a", "x")
			if x.policy >= 0 {
				task.KillPolicy = &mesosv1.KillPolicy{GracePeriod: &mesosv1.DurationInfo{Nanoseconds: new(x.policy.Nanoseconds())}}
			}
			f.Launch(task)
			f.Expect("a", running)
			f.Kill("nobody", 0)
			for _, grace := range x.kills {
				f.Kill("a", grace)
			}
			f.Expect("a", killing)
			f.Expect("a", killed)
			f.endsWell()
			if got := f.signals(); !slices.Equal(got, x.signals) {
				t.Errorf("signals %v, want %v", got, x.signals)
			}
		})
	}
}

// TestKillDuringLaunch: what has not begun never does.
func TestKillDuringLaunch(t *testing.T) {
	t.Parallel()
	f := prepare(t)
	begun := make(chan struct{})
	f.engine.onLaunch = func(ctx context.Context, s *containerizer.Spec) error {
		if s.Class == containerizer.ClassPodSandbox {
			return nil
		}
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}
	f.run(executor.Options{}, nil)
	f.Subscribe()
	f.Launch(executortest.Task("a", "x"))
	<-begun
	f.Kill("a", time.Hour)
	if u := f.Expect("a", killed); u.GetReason() != mesosv1.TaskStatus_REASON_TASK_KILLED_DURING_LAUNCH {
		t.Errorf("reason %s", u.GetReason())
	}
	f.endsWell()
}

// TestResubscribe: the connection is cut at every point, and the agent restarts: nothing
// is lost, and an update stays what it was.
func TestResubscribe(t *testing.T) {
	t.Parallel()
	for name, form := range forms() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, executor.Options{Form: form}, nil)
			f.Next().Cut() // before it is answered
			s := f.Subscribe()
			f.Launch(executortest.Task("a", "x"))
			first, second := f.Update(), f.Update()
			if first.GetState() != starting || second.GetState() != running {
				t.Fatalf("updates %s, %s", first.GetState(), second.GetState())
			}
			s.Cut()
			s = f.Subscribe()
			told := s.Call
			if len(told.GetUnacknowledgedTasks()) != 1 || told.GetUnacknowledgedTasks()[0].GetTaskId().GetValue() != "a" {
				t.Errorf("tasks told anew: %v", told.GetUnacknowledgedTasks())
			}
			if u := told.GetUnacknowledgedUpdates(); len(u) != 2 || !slices.Equal(u[0].GetStatus().GetUuid(), first.GetUuid()) || !slices.Equal(u[1].GetStatus().GetUuid(), second.GetUuid()) {
				t.Errorf("updates told anew: %v", u)
			}
			f.Acknowledge(first)
			f.Acknowledge(first) // twice
			f.Stop()
			f.container("a").ends(exited(0)) // while nobody is there
			f.Start()
			s = f.Subscribe()
			told = s.Call
			if len(told.GetUnacknowledgedTasks()) != 0 {
				t.Errorf("a task of which an update was acknowledged is told anew: %v", told)
			}
			var last *mesosv1.TaskStatus
			if u := told.GetUnacknowledgedUpdates(); len(u) == 1 { // it had not ended by then
				last = f.Update()
			} else {
				last = u[len(u)-1].GetStatus()
			}
			if last.GetState() != finished {
				t.Errorf("the last update is %s", last.GetState())
			}
			f.Acknowledge(last) // before the one that came first
			f.Acknowledge(second)
			f.endsWell()
		})
	}
}

// TestUpdatesInOrder: calls are refused, dropped and slow for a while; every update arrives,
// in order.
func TestUpdatesInOrder(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]int{
		"recovering": {http.StatusServiceUnavailable, http.StatusServiceUnavailable},
		"dropped":    {executortest.Drop, executortest.Drop},
		"both":       {http.StatusNotFound, executortest.Drop, http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, executor.Options{}, nil)
			left := slices.Clone(faults)
			f.Subscribe()
			f.Fault(func(c *executorv1.Call) int {
				if c.GetType() != executorv1.Call_UPDATE || len(left) == 0 {
					return 0
				}
				status := left[0]
				left = left[1:]
				return status
			})
			f.Launch(executortest.Task("a", "x"))
			f.container("a").ends(exited(0))
			for _, want := range []mesosv1.TaskState{starting, running, finished} {
				u := f.Update()
				if u.GetState() != want {
					t.Errorf("update %s, want %s", u.GetState(), want)
				}
				defer f.Acknowledge(u) // late, and in the wrong order
			}
		})
	}
}

// TestRefusedUpdate: one that the agent will never take does not keep the others back, and
// is told again with the next subscription.
func TestRefusedUpdate(t *testing.T) {
	t.Parallel()
	f := start(t, executor.Options{}, nil)
	s := f.Subscribe()
	f.Fault(func(c *executorv1.Call) int {
		if c.GetType() == executorv1.Call_UPDATE && c.GetUpdate().GetStatus().GetState() == starting {
			return http.StatusBadRequest
		}
		return 0
	})
	f.Launch(executortest.Task("a", "x"))
	if u := f.Update(); u.GetState() != running {
		t.Errorf("update %s", u.GetState())
	}
	s.Cut()
	if u := f.Subscribe().Call.GetUnacknowledgedUpdates(); len(u) != 2 || u[0].GetStatus().GetState() != starting {
		t.Errorf("told anew: %v", u)
	}
}

// TestAgentSaysNonsense: what is no event ends the connection and not the executor.
func TestAgentSaysNonsense(t *testing.T) {
	t.Parallel()
	for name, form := range forms() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, executor.Options{Form: form}, nil)
			for _, nonsense := range []string{"nonsense\n", "99999999999\n", "4\n{\"a}", "3\n\xff\xff\xff", "99999999\n"} {
				f.Subscribe().Write([]byte(nonsense))
			}
			f.Subscribe().Send(&executorv1.Event{Type: executorv1.Event_ERROR.Enum(), Error: &executorv1.Event_Error{Message: new("go away")}})
			s := f.Subscribe()
			s.Send(&executorv1.Event{})
			s.Send(&executorv1.Event{Type: executorv1.Event_HEARTBEAT.Enum()})
			s.Send(&executorv1.Event{Type: executorv1.Event_MESSAGE.Enum(), Message: &executorv1.Event_Message{Data: []byte("x")}})
			f.LaunchGroup()
			f.Launch(executortest.Task("a", "x"))
			f.Launch(executortest.Task("a", "another"))
			f.Expect("a", running)
			f.container("a").ends(exited(0))
			f.Expect("a", finished)
			f.endsWell()
		})
	}
}

// TestNoCheckpoint: without it an executor does not outlive its agent.
func TestNoCheckpoint(t *testing.T) {
	t.Parallel()
	f := start(t, executor.Options{}, map[string]string{"MESOS_CHECKPOINT": "0"})
	s := f.Subscribe()
	f.Launch(executortest.Task("a", "x"))
	f.Expect("a", running)
	s.Cut()
	if err := f.ended(); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Errorf("ended: %v", err)
	}
	if got := f.signals(); !slices.Equal(got, []int{15}) {
		t.Errorf("signals %v", got)
	}
}

// TestRecoveryTimeout: an agent that stays away is given up.
func TestRecoveryTimeout(t *testing.T) {
	t.Parallel()
	f := start(t, executor.Options{}, map[string]string{"MESOS_RECOVERY_TIMEOUT": "50ms"})
	f.Subscribe()
	f.Launch(executortest.Task("a", "x"))
	f.Expect("a", running)
	f.Stop()
	if err := f.ended(); err == nil || !strings.Contains(err.Error(), "50ms") {
		t.Errorf("ended: %v", err)
	}
}

// TestRefusedSubscription: who is not wanted does not ask for ever.
func TestRefusedSubscription(t *testing.T) {
	t.Parallel()
	f := prepare(t)
	f.Token = "secret"
	f.run(executor.Options{}, map[string]string{"MESOS_EXECUTOR_AUTHENTICATION_TOKEN": "wrong"})
	if err := f.ended(); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("ended: %v", err)
	}
}

// TestShutdown: all tasks end, and it is told; what comes afterwards is dropped.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		capabilities []mesosv1.FrameworkInfo_Capability_Type
		late         mesosv1.TaskState
	}{
		"partition aware": {[]mesosv1.FrameworkInfo_Capability_Type{mesosv1.FrameworkInfo_Capability_PARTITION_AWARE}, mesosv1.TaskState_TASK_DROPPED},
		"old":             {nil, mesosv1.TaskState_TASK_LOST},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := prepare(t)
			late := make(chan struct{})
			f.engine.onSignal = func(c *container, sig int) { // does not hear, until the last has come
				<-late
				c.ends(containerizer.Termination{Signal: sig})
			}
			f.run(executor.Options{}, map[string]string{"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "1mins"})
			f.Subscribe(x.capabilities...)
			f.Launch(executortest.Task("a", "x"))
			f.LaunchGroup(executortest.Task("b", "x"), executortest.Task("c", "x"))
			for range 6 {
				f.Acknowledge(f.Update())
			}
			f.Shutdown()
			f.Launch(executortest.Task("late", "x"))
			f.Expect("late", x.late)
			close(late)
			for range 3 {
				u := f.Update()
				f.Acknowledge(u)
				if u.GetState() != killed {
					t.Errorf("%s is %s", u.GetTaskId().GetValue(), u.GetState())
				}
			}
			f.endsWell()
		})
	}
}

// TestStopped: a signal to the executor is as a shutdown, and what does not end is killed
// before the agent loses patience.
func TestStopped(t *testing.T) {
	t.Parallel()
	f := prepare(t)
	f.engine.onSignal = func(*container, int) {}
	f.run(executor.Options{}, map[string]string{"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "400ms"})
	f.Subscribe()
	task := executortest.Task("a", "x")
	task.KillPolicy = &mesosv1.KillPolicy{GracePeriod: &mesosv1.DurationInfo{Nanoseconds: new(time.Hour.Nanoseconds())}}
	f.Launch(task)
	f.Expect("a", running)
	f.cancel()
	f.endsWell()
	if got := f.signals(); !slices.Equal(got, []int{15, 9}) {
		t.Errorf("signals %v", got)
	}
}

// TestFailsafe: acknowledgements that never come are not waited for without end.
func TestFailsafe(t *testing.T) {
	t.Parallel()
	f := start(t, executor.Options{Failsafe: 20 * time.Millisecond}, map[string]string{"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "20ms"})
	f.Subscribe()
	f.Launch(executortest.Task("a", "x"))
	f.container("a").ends(exited(0))
	f.endsWell()
}

// TestLinger: an executor that is to stay takes more tasks.
func TestLinger(t *testing.T) {
	t.Parallel()
	f := start(t, executor.Options{Linger: 300 * time.Millisecond}, nil)
	f.Subscribe()
	for _, id := range []string{"a", "b"} {
		f.Launch(executortest.Task(id, "x"))
		f.container(id).ends(exited(0))
		f.Expect(id, finished)
	}
	f.endsWell()
}

// TestEngineAway: a daemon that is started anew does not end tasks.
func TestEngineAway(t *testing.T) {
	t.Parallel()
	f := start(t, executor.Options{}, nil)
	f.Subscribe()
	f.Launch(executortest.Task("a", "x"))
	f.Expect("a", running)
	c := f.container("a")
	f.engine.mu.Lock()
	f.engine.away = 2
	f.engine.mu.Unlock()
	f.Kill("a", time.Hour)
	f.Expect("a", killed)
	<-c.end
	f.endsWell()
}
