package agent

import (
	"context"
	"maps"
	"os"
	"slices"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	"github.com/berth-dev/berth/containerizer/log"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
	agentv1 "github.com/berth-dev/berth/proto/mesos/v1/agent"
)

func (s *Server) getHealth(context.Context, *request) (*agentv1.Response, error) {
	return &agentv1.Response{Type: agentv1.Response_GET_HEALTH.Enum(), GetHealth: &agentv1.Response_GetHealth{Healthy: new(true)}}, nil
}

func (s *Server) getFlags(_ context.Context, q *request) (*agentv1.Response, error) {
	if err := s.permit(q.caller, "", actViewFlags, ""); err != nil {
		return nil, err
	}
	flags := s.Node.Flags()
	m := &agentv1.Response_GetFlags{}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		m.Flags = append(m.Flags, &mesosv1.Flag{Name: &name, Value: new(flags[name])})
	}
	return &agentv1.Response{Type: agentv1.Response_GET_FLAGS.Enum(), GetFlags: m}, nil
}

func (s *Server) getVersion(context.Context, *request) (*agentv1.Response, error) {
	version, commit := s.Node.Version()
	v := &mesosv1.VersionInfo{Version: &version}
	if commit != "" {
		v.GitSha = &commit
	}
	return &agentv1.Response{Type: agentv1.Response_GET_VERSION.Enum(), GetVersion: &agentv1.Response_GetVersion{VersionInfo: v}}, nil
}

func (s *Server) getMetrics(ctx context.Context, q *request) (*agentv1.Response, error) {
	if t := q.call.GetGetMetrics().GetTimeout(); t != nil {
		if t.GetNanoseconds() < 0 {
			return nil, badRequest("a timeout is not negative")
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, durationOf(t))
		defer cancel()
	}
	metrics, err := s.Node.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	m := &agentv1.Response_GetMetrics{}
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		m.Metrics = append(m.Metrics, &mesosv1.Metric{Name: &name, Value: new(metrics[name])})
	}
	return &agentv1.Response{Type: agentv1.Response_GET_METRICS.Enum(), GetMetrics: m}, nil
}

func (s *Server) getLoggingLevel(context.Context, *request) (*agentv1.Response, error) {
	return &agentv1.Response{Type: agentv1.Response_GET_LOGGING_LEVEL.Enum(), GetLoggingLevel: &agentv1.Response_GetLoggingLevel{Level: new(s.Node.Verbosity())}}, nil
}

func (s *Server) setLoggingLevel(_ context.Context, q *request) (*agentv1.Response, error) {
	if err := s.permit(q.caller, "", actSetLogLevel, ""); err != nil {
		return nil, err
	}
	c := q.call.GetSetLoggingLevel()
	if durationOf(c.GetDuration()) <= 0 {
		return nil, badRequest("the level of the log changes for a time of more than nothing")
	}
	s.Node.SetVerbosity(c.GetLevel(), durationOf(c.GetDuration()))
	return nil, nil
}

// getState answers what is asked of frameworks, executors and tasks: there are
// none.
func (s *Server) getState(_ context.Context, q *request) (*agentv1.Response, error) {
	frameworks, executors, tasks := &agentv1.Response_GetFrameworks{}, &agentv1.Response_GetExecutors{}, &agentv1.Response_GetTasks{}
	r := &agentv1.Response{}
	switch q.call.GetType() {
	case agentv1.Call_GET_FRAMEWORKS:
		r.Type, r.GetFrameworks = agentv1.Response_GET_FRAMEWORKS.Enum(), frameworks
	case agentv1.Call_GET_EXECUTORS:
		r.Type, r.GetExecutors = agentv1.Response_GET_EXECUTORS.Enum(), executors
	case agentv1.Call_GET_TASKS:
		r.Type, r.GetTasks = agentv1.Response_GET_TASKS.Enum(), tasks
	default:
		r.Type = agentv1.Response_GET_STATE.Enum()
		r.GetState = &agentv1.Response_GetState{GetTasks: tasks, GetExecutors: executors, GetFrameworks: frameworks}
	}
	return r, nil
}

func (s *Server) getAgent(context.Context, *request) (*agentv1.Response, error) {
	name, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	return &agentv1.Response{Type: agentv1.Response_GET_AGENT.Enum(), GetAgent: &agentv1.Response_GetAgent{AgentInfo: &mesosv1.AgentInfo{Hostname: &name}}}, nil
}

// getContainers lists containers as the call selects them. There are no executors,
// which are all that Mesos shows unless more is asked for.
func (s *Server) getContainers(ctx context.Context, q *request) (*agentv1.Response, error) {
	c := q.call.GetGetContainers()
	all, err := s.Engine.List(ctx, containerizer.Filter{Labels: map[string]string{translate.LabelClass: ""}})
	if err != nil {
		return nil, err
	}
	m := &agentv1.Response_GetContainers{}
	for i := range all {
		st := &all[i]
		shown := c.GetShowStandalone()
		if !st.ID.IsRoot() {
			shown = c.GetShowNested()
		}
		if shown && ours(st) && alive(st) && s.permit(q.caller, st.ID, either(st.ID, actViewStandalone, actViewContainers), "") == nil {
			m.Containers = append(m.Containers, s.containerOf(ctx, st))
		}
	}
	return &agentv1.Response{Type: agentv1.Response_GET_CONTAINERS.Enum(), GetContainers: m}, nil
}

func (s *Server) containerOf(ctx context.Context, st *containerizer.Status) *agentv1.Response_GetContainers_Container {
	status := &mesosv1.ContainerStatus{ContainerId: translate.IDTo(st.ID)}
	if st.PID > 0 {
		status.ExecutorPid = new(uint32(st.PID)) //nolint:gosec // positive, and of 22 bits
	}
	for _, n := range st.Networks {
		info := &mesosv1.NetworkInfo{Name: new(n.Name)}
		for _, ip := range n.IPs {
			info.IpAddresses = append(info.IpAddresses, translate.AddressOf(ip))
		}
		status.NetworkInfos = append(status.NetworkInfos, info)
	}
	// The whole id, where Mesos forgets the parents.
	c := &agentv1.Response_GetContainers_Container{ContainerId: translate.IDTo(st.ID), ContainerStatus: status}
	if st.State == containerizer.StateRunning {
		usage, err := s.Engine.Usage(ctx, st.ID)
		if err != nil { // it may have ended; what is not known is left out
			s.Log.Debug("a container's usage is left out", log.String("container_id", st.ID.String()), log.Error(err))
			return c
		}
		c.ResourceStatistics = translate.StatisticsOf(usage)
	}
	return c
}
