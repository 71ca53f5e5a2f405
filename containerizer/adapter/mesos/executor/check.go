package executor

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// maxSeconds keeps times that are written as numbers within what can be waited.
const maxSeconds = 1 << 31

// seconds is a time that is written as a number.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func durationOf(d *mesosv1.DurationInfo) time.Duration { return time.Duration(d.GetNanoseconds()) }

// checkChecks refuses checks that cannot be made.
func (t *task) checkChecks() error {
	if d := t.info.GetMaxCompletionTime(); d != nil && d.GetNanoseconds() < 0 {
		return fmt.Errorf("max_completion_time is negative: %w", containerizer.ErrInvalid)
	}
	if h := t.info.GetHealthCheck(); h != nil {
		if err := checkHealthCheck(h); err != nil {
			return fmt.Errorf("health check: %w", err)
		}
	}
	if c := t.info.GetCheck(); c != nil {
		if err := checkCheck(c); err != nil {
			return fmt.Errorf("check: %w", err)
		}
	}
	return nil
}

func checkTimes(times ...float64) error {
	for _, s := range times {
		if !(s >= 0 && s <= maxSeconds) || math.IsNaN(s) {
			return fmt.Errorf("%g is no number of seconds to wait: %w", s, containerizer.ErrInvalid)
		}
	}
	return nil
}

func checkHealthCheck(h *mesosv1.HealthCheck) error {
	has := map[mesosv1.HealthCheck_Type]bool{
		mesosv1.HealthCheck_COMMAND: h.GetCommand() != nil, mesosv1.HealthCheck_HTTP: h.GetHttp() != nil, mesosv1.HealthCheck_TCP: h.GetTcp() != nil,
	}
	if !has[h.GetType()] {
		return fmt.Errorf("what belongs to the type %s is missing: %w", h.GetType(), containerizer.ErrInvalid)
	}
	if err := checkTimes(h.GetDelaySeconds(), h.GetIntervalSeconds(), h.GetTimeoutSeconds(), h.GetGracePeriodSeconds()); err != nil {
		return err
	}
	switch h.GetType() {
	case mesosv1.HealthCheck_COMMAND:
		return checkCommand(h.GetCommand())
	case mesosv1.HealthCheck_HTTP:
		if s := h.GetHttp().GetScheme(); s != "" && s != "http" && s != "https" {
			return fmt.Errorf("scheme %.20q is neither http nor https: %w", s, containerizer.ErrInvalid)
		}
		return checkHTTP(h.GetHttp().GetPort(), h.GetHttp().GetPath())
	default:
		return checkPort(h.GetTcp().GetPort())
	}
}

func checkCheck(c *mesosv1.CheckInfo) error {
	has := map[mesosv1.CheckInfo_Type]bool{
		mesosv1.CheckInfo_COMMAND: c.GetCommand() != nil, mesosv1.CheckInfo_HTTP: c.GetHttp() != nil, mesosv1.CheckInfo_TCP: c.GetTcp() != nil,
	}
	if !has[c.GetType()] {
		return fmt.Errorf("what belongs to the type %s is missing: %w", c.GetType(), containerizer.ErrInvalid)
	}
	if err := checkTimes(c.GetDelaySeconds(), c.GetIntervalSeconds(), c.GetTimeoutSeconds()); err != nil {
		return err
	}
	switch c.GetType() {
	case mesosv1.CheckInfo_COMMAND:
		return checkCommand(c.GetCommand().GetCommand())
	case mesosv1.CheckInfo_HTTP:
		return checkHTTP(c.GetHttp().GetPort(), c.GetHttp().GetPath())
	default:
		return checkPort(c.GetTcp().GetPort())
	}
}

func checkCommand(c *mesosv1.CommandInfo) error {
	if c.GetValue() == "" {
		return fmt.Errorf("the command has no value: %w", containerizer.ErrInvalid)
	}
	if len(c.GetUris()) > 0 {
		return fmt.Errorf("the command has URIs; nothing is fetched for a check: %w", containerizer.ErrUnsupported)
	}
	return nil
}

func checkHTTP(port uint32, path string) error {
	if path != "" && !strings.HasPrefix(path, "/") {
		return fmt.Errorf("path %.100q does not begin with a slash: %w", path, containerizer.ErrInvalid)
	}
	return checkPort(port)
}

func checkPort(port uint32) error {
	if port == 0 || port > math.MaxUint16 {
		return fmt.Errorf("there is no port %d: %w", port, containerizer.ErrInvalid)
	}
	return nil
}

// every does f after delay, and after each interval behind the end of the last, until
// ctx ends or f says that it is enough.
func every(ctx context.Context, delay, interval time.Duration, f func() (enough bool)) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if f() {
			return
		}
		timer.Reset(interval)
	}
}

// within bounds ctx by a timeout of which 0 is none.
func within(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// health counts what a health check finds, as Mesos does: failures before the first
// success do not count within the grace period.
type health struct {
	grace    time.Duration
	most     uint32 // failures in a row that end the task
	settled  bool   // something was told
	failures uint32
}

// failed counts a failure some time after the checks began: whether it is told, and
// whether it ends the task.
func (h *health) failed(since time.Duration) (told, ends bool) {
	if !h.settled && since <= h.grace {
		return false, false
	}
	h.settled = true
	h.failures++
	return true, h.failures >= h.most
}

// succeeded counts a success: whether it is told, because it is news.
func (h *health) succeeded() (told bool) {
	told = !h.settled || h.failures > 0
	h.settled, h.failures = true, 0
	return told
}

// watchHealth makes the health check of t.
func (t *task) watchHealth(ctx context.Context, p *prober, h *mesosv1.HealthCheck) {
	state := &health{grace: seconds(h.GetGracePeriodSeconds()), most: h.GetConsecutiveFailures()}
	begun := time.Now()
	every(ctx, seconds(h.GetDelaySeconds()), seconds(h.GetIntervalSeconds()), func() bool {
		inner, cancel := within(ctx, seconds(h.GetTimeoutSeconds()))
		err := p.health(inner, h)
		cancel()
		if ctx.Err() != nil {
			return true
		}
		if err == nil {
			if state.succeeded() {
				t.tellHealth(true, "")
			}
			return false
		}
		t.x.Log.Debug("a health check failed", log.String("task_id", t.info.GetTaskId().GetValue()), log.Error(err))
		told, ends := state.failed(time.Since(begun))
		if told {
			t.tellHealth(false, err.Error())
		}
		if ends {
			t.x.mu.Lock()
			t.kill(t.grace(nil), causeUnhealthy)
			t.x.mu.Unlock()
		}
		return ends
	})
}

// tellHealth tells whether t is well.
func (t *task) tellHealth(healthy bool, why string) {
	t.x.mu.Lock()
	defer t.x.mu.Unlock()
	t.healthy = &healthy
	s := &mesosv1.TaskStatus{Reason: mesosv1.TaskStatus_REASON_TASK_HEALTH_CHECK_STATUS_UPDATED.Enum()}
	if why != "" {
		s.Message = new("The health check failed: " + why)
	}
	if t.state == mesosv1.TaskState_TASK_RUNNING {
		t.become(mesosv1.TaskState_TASK_RUNNING, s)
	}
}

// emptyCheck is what is known of a check before it was made.
func emptyCheck(kind mesosv1.CheckInfo_Type) *mesosv1.CheckStatusInfo {
	s := &mesosv1.CheckStatusInfo{Type: &kind}
	switch kind {
	case mesosv1.CheckInfo_COMMAND:
		s.Command = &mesosv1.CheckStatusInfo_Command{}
	case mesosv1.CheckInfo_HTTP:
		s.Http = &mesosv1.CheckStatusInfo_Http{}
	case mesosv1.CheckInfo_TCP:
		s.Tcp = &mesosv1.CheckStatusInfo_Tcp{}
	case mesosv1.CheckInfo_UNKNOWN:
	}
	return s
}

// watchCheck makes the check of t, which has no consequences, and tells what is new.
func (t *task) watchCheck(ctx context.Context, p *prober, c *mesosv1.CheckInfo) {
	every(ctx, seconds(c.GetDelaySeconds()), seconds(c.GetIntervalSeconds()), func() bool {
		inner, cancel := within(ctx, seconds(c.GetTimeoutSeconds()))
		found, err := p.check(inner, c)
		cancel()
		if ctx.Err() != nil {
			return true
		}
		if err != nil {
			t.x.Log.Debug("a check could not be made", log.String("task_id", t.info.GetTaskId().GetValue()), log.Error(err))
		}
		t.x.mu.Lock()
		defer t.x.mu.Unlock()
		if proto.Equal(t.check, found) {
			return false
		}
		t.check = found
		if t.state == mesosv1.TaskState_TASK_RUNNING {
			t.become(mesosv1.TaskState_TASK_RUNNING, &mesosv1.TaskStatus{Reason: mesosv1.TaskStatus_REASON_TASK_CHECK_STATUS_UPDATED.Enum()})
		}
		return false
	})
}

// health makes a health check; nil is well.
func (p *prober) health(ctx context.Context, h *mesosv1.HealthCheck) error {
	switch h.GetType() {
	case mesosv1.HealthCheck_COMMAND:
		code, err := p.command(ctx, h.GetCommand())
		if err == nil && code != 0 {
			err = fmt.Errorf("the command ended with status %d", code)
		}
		return err
	case mesosv1.HealthCheck_HTTP:
		c := h.GetHttp()
		code, err := p.http(ctx, c.GetScheme(), c.GetPort(), c.GetPath(), c.GetProtocol())
		if err == nil && (code < http.StatusOK || code >= http.StatusBadRequest) {
			err = fmt.Errorf("the answer has status %d", code)
		}
		return err
	default:
		return p.tcp(ctx, h.GetTcp().GetPort(), h.GetTcp().GetProtocol())
	}
}

// check makes a check. When it could not be made the result is empty, and the error says
// why.
func (p *prober) check(ctx context.Context, c *mesosv1.CheckInfo) (*mesosv1.CheckStatusInfo, error) {
	found := emptyCheck(c.GetType())
	switch c.GetType() {
	case mesosv1.CheckInfo_COMMAND:
		code, err := p.command(ctx, c.GetCommand().GetCommand())
		if err != nil {
			return found, err
		}
		found.Command.ExitCode = new(int32(code)) //nolint:gosec // of 8 bits
	case mesosv1.CheckInfo_HTTP:
		code, err := p.http(ctx, "http", c.GetHttp().GetPort(), c.GetHttp().GetPath(), mesosv1.NetworkInfo_IPv4)
		if err != nil {
			return found, err
		}
		found.Http.StatusCode = new(uint32(code)) //nolint:gosec // three digits
	default:
		err := p.tcp(ctx, c.GetTcp().GetPort(), mesosv1.NetworkInfo_IPv4)
		if ctx.Err() != nil {
			return found, err // it took too long: nothing is known
		}
		found.Tcp.Succeeded = new(err == nil)
		return found, err
	}
	return found, nil
}
