package executor_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/executor"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/executortest"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// script is what a check's command ends with, one after the other, the last for ever.
type script struct {
	codes []int
	next  atomic.Int32
	ran   atomic.Pointer[containerizer.Process]
}

func (s *script) run(p *containerizer.Process) int {
	s.ran.Store(p)
	return s.codes[min(int(s.next.Add(1)), len(s.codes))-1]
}

// health is a health check that is made quickly.
func health(grace float64, failures uint32) *mesosv1.HealthCheck {
	return &mesosv1.HealthCheck{
		Type: mesosv1.HealthCheck_COMMAND.Enum(), Command: &mesosv1.CommandInfo{Value: new("check"), Environment: &mesosv1.Environment{Variables: []*mesosv1.Environment_Variable{{Name: new("OF_CHECK"), Value: new("1")}}}},
		DelaySeconds: new(0.0), IntervalSeconds: new(0.001), TimeoutSeconds: new(0.0), GracePeriodSeconds: &grace, ConsecutiveFailures: &failures,
	}
}

// TestHealth: what is told, and when it ends the task.
func TestHealth(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		codes    []int
		grace    float64
		failures uint32
		told     []bool // until the task is killed, or for as long as the script goes
		killed   bool
	}{
		"well":                          {[]int{0}, 0, 3, []bool{true}, false},
		"never well":                    {[]int{1}, 0, 3, []bool{false, false, false}, true},
		"at the first failure":          {[]int{0, 1}, 100, 1, []bool{true, false}, true},
		"in a row only":                 {[]int{0, 1, 1, 0, 1, 1, 0}, 0, 3, []bool{true, false, false, true, false, false, true}, false},
		"not well yet":                  {[]int{1, 1, 1, 1, 0}, 100, 3, []bool{true}, false},
		"well once, then grace is over": {[]int{1, 1, 0, 1, 1}, 100, 2, []bool{true, false, false}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := prepare(t)
			s := &script{codes: x.codes}
			f.engine.onExec = s.run
			f.run(executor.Options{}, nil)
			f.Subscribe()
			task := executortest.Task("a", "x")
			task.HealthCheck = health(x.grace, x.failures)
			f.Launch(task)
			if u := f.Expect("a", running); u.Healthy != nil {
				t.Error("health is told before it is known")
			}
			var told []bool
			for len(told) < len(x.told) {
				u := f.Expect("a", running)
				if u.GetReason() != mesosv1.TaskStatus_REASON_TASK_HEALTH_CHECK_STATUS_UPDATED || u.GetHealthy() != (u.Message == nil) {
					t.Errorf("update %v", u)
				}
				told = append(told, u.GetHealthy())
			}
			if !slices.Equal(told, x.told) {
				t.Errorf("told %v, want %v", told, x.told)
			}
			if !x.killed {
				f.container("a").ends(exited(0))
				if u := f.Expect("a", finished); !u.GetHealthy() {
					t.Error("the last update forgets the health")
				}
			} else if u := f.Expect("a", killed); u.Healthy == nil || u.GetHealthy() {
				t.Errorf("the last update is %v", u)
			}
			f.endsWell()
			if p := s.ran.Load(); !slices.Equal(p.Entrypoint, []string{"/bin/sh", "-c", "check"}) || !slices.Contains(p.Env, "OF_CHECK=1") || !slices.Contains(p.Env, "MESOS_TASK_ID=a") {
				t.Errorf("the check ran %+v", p)
			}
		})
	}
}

// TestHealthTimeout: what takes too long is a failure.
func TestHealthTimeout(t *testing.T) {
	t.Parallel()
	f := prepare(t)
	f.engine.onExec = (&script{codes: []int{-1}}).run
	f.run(executor.Options{}, nil)
	f.Subscribe()
	task := executortest.Task("a", "x")
	task.HealthCheck = health(0, 1)
	task.HealthCheck.TimeoutSeconds = new(0.01)
	f.Launch(task)
	f.Expect("a", killed)
	f.endsWell()
}

// TestHealthOfPorts: HTTP and TCP, on the host's network.
func TestHealthOfPorts(t *testing.T) {
	t.Parallel()
	status := atomic.Int32{}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.WriteHeader(int(status.Load()))
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	for name, x := range map[string]struct {
		check *mesosv1.HealthCheck
		well  bool
	}{
		"http":         {httpCheck(plain, "http", "/health"), true},
		"https":        {httpCheck(secure, "https", "/health"), true},
		"another page": {httpCheck(plain, "", "/"), false},
		"tcp":          {&mesosv1.HealthCheck{Type: mesosv1.HealthCheck_TCP.Enum(), Tcp: &mesosv1.HealthCheck_TCPCheckInfo{Port: new(portOf(plain.Listener))}}, true},
		"no tcp":       {&mesosv1.HealthCheck{Type: mesosv1.HealthCheck_TCP.Enum(), Tcp: &mesosv1.HealthCheck_TCPCheckInfo{Port: new(closedPort(t))}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			status.Store(http.StatusNoContent)
			f := start(t, executor.Options{}, nil)
			f.Subscribe()
			task := executortest.Task("a", "x")
			task.HealthCheck = x.check
			h := health(0, 1)
			x.check.DelaySeconds, x.check.IntervalSeconds, x.check.GracePeriodSeconds, x.check.ConsecutiveFailures = h.DelaySeconds, h.IntervalSeconds, h.GracePeriodSeconds, h.ConsecutiveFailures
			f.Launch(task)
			f.Expect("a", running)
			if u := f.Expect("a", running); u.GetHealthy() != x.well {
				t.Errorf("healthy %v: %s", u.GetHealthy(), u.GetMessage())
			}
			status.Store(http.StatusInternalServerError)
			if !strings.Contains(name, "tcp") || !x.well {
				f.Expect("a", killed)
			}
		})
	}
}

func httpCheck(s *httptest.Server, scheme, path string) *mesosv1.HealthCheck {
	c := &mesosv1.HealthCheck_HTTPCheckInfo{Port: new(portOf(s.Listener)), Path: &path}
	if scheme != "" {
		c.Scheme = &scheme
	}
	return &mesosv1.HealthCheck{Type: mesosv1.HealthCheck_HTTP.Enum(), Http: c}
}

func portOf(l net.Listener) uint32 {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	n, _ := strconv.ParseUint(port, 10, 16)
	return uint32(n)
}

// closedPort is one that nobody listens at: its socket is bound, and no more.
func closedPort(t *testing.T) uint32 {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := portOf(l)
	_ = l.Close() // it is to be closed
	return port
}

// TestCheck: results are told when they are new, and end nothing.
func TestCheck(t *testing.T) {
	t.Parallel()
	f := prepare(t)
	f.engine.onExec = (&script{codes: []int{7, 7, 7, 0, 0, 3}}).run
	f.run(executor.Options{}, nil)
	f.Subscribe()
	task := executortest.Task("a", "x")
	task.Check = &mesosv1.CheckInfo{Type: mesosv1.CheckInfo_COMMAND.Enum(), Command: &mesosv1.CheckInfo_Command{Command: &mesosv1.CommandInfo{Value: new("check")}}, DelaySeconds: new(0.0), IntervalSeconds: new(0.001)}
	f.Launch(task)
	if u := f.Expect("a", running); u.GetCheckStatus().GetCommand() == nil || u.GetCheckStatus().GetCommand().ExitCode != nil {
		t.Errorf("before it was made: %v", u.GetCheckStatus())
	}
	for _, want := range []int32{7, 0, 3} {
		u := f.Expect("a", running)
		if got := u.GetCheckStatus().GetCommand().GetExitCode(); got != want || u.GetReason() != mesosv1.TaskStatus_REASON_TASK_CHECK_STATUS_UPDATED || u.Healthy != nil {
			t.Errorf("update %v, want exit code %d", u, want)
		}
	}
	f.container("a").ends(exited(0))
	if u := f.Expect("a", finished); u.GetCheckStatus().GetCommand().GetExitCode() != 3 {
		t.Errorf("the last update has %v", u.GetCheckStatus())
	}
	f.endsWell()
}

// TestCheckOfPorts: HTTP and TCP.
func TestCheckOfPorts(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	f := start(t, executor.Options{}, nil)
	f.Subscribe()
	page, port := executortest.Task("http", "x"), executortest.Task("tcp", "x")
	page.Check = &mesosv1.CheckInfo{Type: mesosv1.CheckInfo_HTTP.Enum(), Http: &mesosv1.CheckInfo_Http{Port: new(portOf(server.Listener))}, DelaySeconds: new(0.0)}
	port.Check = &mesosv1.CheckInfo{Type: mesosv1.CheckInfo_TCP.Enum(), Tcp: &mesosv1.CheckInfo_Tcp{Port: new(closedPort(t))}, DelaySeconds: new(0.0)}
	f.Launch(page)
	f.Launch(port)
	found := map[string]*mesosv1.CheckStatusInfo{}
	for len(found) < 2 {
		u := f.Update()
		f.Acknowledge(u)
		if u.GetReason() == mesosv1.TaskStatus_REASON_TASK_CHECK_STATUS_UPDATED {
			found[u.GetTaskId().GetValue()] = u.GetCheckStatus()
		}
	}
	if found["http"].GetHttp().GetStatusCode() != http.StatusNotFound || found["tcp"].GetTcp().Succeeded == nil || found["tcp"].GetTcp().GetSucceeded() {
		t.Errorf("found %v", found)
	}
}

// TestMaxCompletionTime: a task that takes too long is ended at once.
func TestMaxCompletionTime(t *testing.T) {
	t.Parallel()
	f := start(t, executor.Options{}, nil)
	f.Subscribe()
	task := executortest.Task("a", "x")
	task.MaxCompletionTime = &mesosv1.DurationInfo{Nanoseconds: new((20 * time.Millisecond).Nanoseconds())}
	f.Launch(task)
	if u := f.Expect("a", failed); u.GetReason() != mesosv1.TaskStatus_REASON_MAX_COMPLETION_TIME_REACHED {
		t.Errorf("ended %v", u)
	}
	f.endsWell()
	if got := f.signals(); !slices.Equal(got, []int{9}) {
		t.Errorf("signals %v", got)
	}
}
