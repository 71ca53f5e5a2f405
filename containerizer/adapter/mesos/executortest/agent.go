// Package executortest has a scripted Mesos agent for tests of executors: what it says is
// what the test says, and it can be as unreliable as networks and agents are.
package executortest

import (
	"bytes"
	"io"
	"maps"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer/adapter/mesos/codec"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/recordio"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
	executorv1 "github.com/berth-dev/berth/proto/mesos/v1/executor"
)

// Patience is how long a test waits for what has to happen.
const Patience = time.Minute

// Drop is an answer that is none: the connection is cut.
const Drop = -1

// Agent is one agent. Its methods are for one goroutine at a time.
type Agent struct {
	// Token, if set, is what executors have to show.
	Token string

	tb      testing.TB
	address string
	server  *http.Server
	served  chan struct{}
	subs    chan *Subscription
	updates chan *mesosv1.TaskStatus
	current *Subscription
	mu      sync.Mutex
	fault   func(*executorv1.Call) int
	bodies  map[executorv1.Call_Type][]byte
}

// New returns an agent that listens on this host.
func New(tb testing.TB) *Agent {
	tb.Helper()
	const backlog = 1000
	a := &Agent{tb: tb, address: "127.0.0.1:0", subs: make(chan *Subscription, backlog), updates: make(chan *mesosv1.TaskStatus, backlog), bodies: map[executorv1.Call_Type][]byte{}}
	a.Start()
	tb.Cleanup(a.Stop)
	return a
}

// Start listens, at the same address as before.
func (a *Agent) Start() {
	a.tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(a.tb.Context(), "tcp", a.address)
	if err != nil {
		a.tb.Fatal(err)
	}
	a.address = l.Addr().String()
	a.server = &http.Server{Handler: http.HandlerFunc(a.serve), ReadHeaderTimeout: Patience}
	a.served = make(chan struct{})
	go func(s *http.Server, served chan struct{}) {
		defer close(served)
		_ = s.Serve(l) // it ends with Stop
	}(a.server, a.served)
}

// Stop cuts all connections, and listens no more: the agent has died.
func (a *Agent) Stop() {
	if a.server == nil {
		return
	}
	_ = a.server.Close() // nothing is left to be done for clients
	<-a.served
	a.server = nil
}

// Environment is what the agent starts executors with, but for what more says.
func (a *Agent) Environment(directory string, more map[string]string) map[string]string {
	env := map[string]string{
		"MESOS_FRAMEWORK_ID": "framework", "MESOS_EXECUTOR_ID": "executor", "MESOS_SLAVE_ID": "agent",
		"MESOS_DIRECTORY": directory, "MESOS_SANDBOX": directory, "MESOS_AGENT_ENDPOINT": a.address, "MESOS_SLAVE_PID": "slave(1)@" + a.address,
		"MESOS_CHECKPOINT": "1", "MESOS_RECOVERY_TIMEOUT": "15mins", "MESOS_SUBSCRIPTION_BACKOFF_MAX": "20ms",
		"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs", "MESOS_EXECUTOR_AUTHENTICATION_TOKEN": a.Token,
	}
	maps.Copy(env, more)
	return env
}

// Fault lets f decide how a call is answered: by a status, Drop, or 0 as usual. What is
// dropped or refused is not seen by the agent otherwise.
func (a *Agent) Fault(f func(*executorv1.Call) int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = f
}

// Body is the last call of a type, as it came.
func (a *Agent) Body(t executorv1.Call_Type) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bytes.Clone(a.bodies[t])
}

func (a *Agent) serve(w http.ResponseWriter, r *http.Request) {
	form := codec.JSON
	if r.Header.Get("Content-Type") == codec.MediaProtobuf {
		form = codec.Protobuf
	}
	body, err := io.ReadAll(r.Body)
	call := &executorv1.Call{}
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/api/v1/executor":
		w.WriteHeader(http.StatusNotFound)
		return
	case a.Token != "" && r.Header.Get("Authorization") != "Bearer "+a.Token:
		w.WriteHeader(http.StatusUnauthorized)
		return
	case r.Header.Get("Content-Type") != form.MediaType() || r.Header.Get("Accept") != form.MediaType():
		w.WriteHeader(http.StatusUnsupportedMediaType)
		return
	case err != nil || form.Unmarshal(body, call) != nil:
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	status := 0
	if a.fault != nil {
		status = a.fault(call)
	}
	if status == 0 {
		a.bodies[call.GetType()] = body
	}
	a.mu.Unlock()
	if status == Drop {
		panic(http.ErrAbortHandler)
	}
	if status != 0 {
		w.WriteHeader(status)
		return
	}
	a.answer(w, r, form, call)
}

func (a *Agent) answer(w http.ResponseWriter, r *http.Request, form codec.Form, call *executorv1.Call) {
	switch call.GetType() {
	case executorv1.Call_SUBSCRIBE:
		s := &Subscription{Call: call.GetSubscribe(), form: form, out: make(chan []byte), end: make(chan struct{}), over: make(chan struct{})}
		defer close(s.over)
		w.Header().Set("Content-Type", form.MediaType())
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush() // who has left is noticed below
		a.subs <- s
		s.serve(w, r)
	case executorv1.Call_UPDATE:
		s := call.GetUpdate().GetStatus()
		if len(s.GetUuid()) != 16 || s.GetSource() != mesosv1.TaskStatus_SOURCE_EXECUTOR || s.Timestamp == nil || s.GetState() == mesosv1.TaskState_TASK_STAGING {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		a.updates <- s
		w.WriteHeader(http.StatusAccepted)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

// Subscription is an executor's.
type Subscription struct {
	// Call is what the executor said with it.
	Call *executorv1.Call_Subscribe

	form codec.Form
	out  chan []byte
	end  chan struct{} // closed by who ends it
	over chan struct{} // closed with it
}

func (s *Subscription) serve(w http.ResponseWriter, r *http.Request) {
	for {
		select {
		case b := <-s.out:
			if _, err := w.Write(b); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush() // the same
		case <-s.end:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
			return
		}
	}
}

// Write sends bytes as they are. It says whether the executor is there.
func (s *Subscription) Write(b []byte) bool {
	select {
	case s.out <- b:
		return true
	case <-s.over:
		return false
	}
}

// Send sends an event.
func (s *Subscription) Send(e *executorv1.Event) bool {
	b, err := s.form.Marshal(e)
	return err == nil && s.Write(recordio.Append(nil, b))
}

// Cut cuts the connection.
func (s *Subscription) Cut() {
	close(s.end)
	<-s.over
}

// Next waits for a subscription, which is not answered yet.
func (a *Agent) Next() *Subscription {
	a.tb.Helper()
	select {
	case a.current = <-a.subs:
		return a.current
	case <-time.After(Patience):
		a.tb.Fatal("no executor subscribes")
		return nil
	}
}

// Subscribe waits for a subscription and answers it, with a framework that has
// capabilities.
func (a *Agent) Subscribe(capabilities ...mesosv1.FrameworkInfo_Capability_Type) *Subscription {
	a.tb.Helper()
	s := a.Next()
	framework := &mesosv1.FrameworkInfo{User: new("root"), Name: new("test"), Checkpoint: new(true)}
	for _, c := range capabilities {
		framework.Capabilities = append(framework.Capabilities, &mesosv1.FrameworkInfo_Capability{Type: &c})
	}
	s.Send(&executorv1.Event{Type: executorv1.Event_SUBSCRIBED.Enum(), Subscribed: &executorv1.Event_Subscribed{
		ExecutorInfo:  &mesosv1.ExecutorInfo{ExecutorId: &mesosv1.ExecutorID{Value: new("executor")}, Command: &mesosv1.CommandInfo{Environment: &mesosv1.Environment{Variables: []*mesosv1.Environment_Variable{{Name: new("OF_EXECUTOR"), Value: new("yes")}}}}},
		FrameworkInfo: framework, AgentInfo: &mesosv1.AgentInfo{Hostname: new("host")}, ContainerId: &mesosv1.ContainerID{Value: new("run")},
	}})
	return s
}

// Launch gives the executor a task.
func (a *Agent) Launch(task *mesosv1.TaskInfo) {
	a.current.Send(&executorv1.Event{Type: executorv1.Event_LAUNCH.Enum(), Launch: &executorv1.Event_Launch{Task: task}})
}

// LaunchGroup gives the executor a task group.
func (a *Agent) LaunchGroup(tasks ...*mesosv1.TaskInfo) {
	a.current.Send(&executorv1.Event{Type: executorv1.Event_LAUNCH_GROUP.Enum(), LaunchGroup: &executorv1.Event_LaunchGroup{TaskGroup: &mesosv1.TaskGroupInfo{Tasks: tasks}}})
}

// Kill asks for the end of a task; a negative grace leaves it to the task.
func (a *Agent) Kill(task string, grace time.Duration) {
	k := &executorv1.Event_Kill{TaskId: &mesosv1.TaskID{Value: &task}}
	if grace >= 0 {
		k.KillPolicy = &mesosv1.KillPolicy{GracePeriod: &mesosv1.DurationInfo{Nanoseconds: new(grace.Nanoseconds())}}
	}
	a.current.Send(&executorv1.Event{Type: executorv1.Event_KILL.Enum(), Kill: k})
}

// Shutdown asks for the end of the executor.
func (a *Agent) Shutdown() {
	a.current.Send(&executorv1.Event{Type: executorv1.Event_SHUTDOWN.Enum()})
}

// Acknowledge acknowledges an update.
func (a *Agent) Acknowledge(s *mesosv1.TaskStatus) {
	a.current.Send(&executorv1.Event{Type: executorv1.Event_ACKNOWLEDGED.Enum(), Acknowledged: &executorv1.Event_Acknowledged{TaskId: s.GetTaskId(), Uuid: s.GetUuid()}})
}

// Update waits for the next update, which is not acknowledged.
func (a *Agent) Update() *mesosv1.TaskStatus {
	a.tb.Helper()
	select {
	case s := <-a.updates:
		return s
	case <-time.After(Patience):
		a.tb.Fatal("no update comes")
		return nil
	}
}

// Expect waits for updates of a task and acknowledges all that come, until one has state,
// which it returns.
func (a *Agent) Expect(task string, state mesosv1.TaskState) *mesosv1.TaskStatus {
	a.tb.Helper()
	for {
		s := a.Update()
		a.Acknowledge(s)
		if s.GetTaskId().GetValue() != task {
			continue
		}
		if s.GetState() == state {
			return s
		}
		switch s.GetState() {
		case mesosv1.TaskState_TASK_STARTING, mesosv1.TaskState_TASK_RUNNING, mesosv1.TaskState_TASK_KILLING:
		default:
			a.tb.Fatalf("task %q is %s, not %s: %s %s", task, s.GetState(), state, s.GetReason(), s.GetMessage())
		}
	}
}

// Task is one that runs a shell's command.
func Task(id, command string) *mesosv1.TaskInfo {
	return &mesosv1.TaskInfo{
		Name: &id, TaskId: &mesosv1.TaskID{Value: &id}, AgentId: &mesosv1.AgentID{Value: new("agent")}, Command: &mesosv1.CommandInfo{Value: &command},
		Resources: []*mesosv1.Resource{Scalar("cpus", 0.1), Scalar("mem", 64)},
	}
}

// Scalar is a resource as frameworks have them.
func Scalar(name string, value float64) *mesosv1.Resource {
	return &mesosv1.Resource{Name: &name, Type: mesosv1.Value_SCALAR.Enum(), Scalar: &mesosv1.Value_Scalar{Value: &value}, AllocationInfo: &mesosv1.Resource_AllocationInfo{Role: new("prod")}}
}
