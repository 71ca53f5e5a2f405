package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
	agentv1 "github.com/berth-dev/berth/proto/mesos/v1/agent"
)

// table is what is served. What is not in it is 501.
func (s *Server) table() map[agentv1.Call_Type]handler {
	plain := func(do func(context.Context, *request) (*agentv1.Response, error)) handler {
		return handler{do: func(ctx context.Context, _ http.ResponseWriter, q *request) (*agentv1.Response, int, error) {
			r, err := do(ctx, q)
			return r, http.StatusOK, err
		}}
	}
	with := func(h handler, needs func(*agentv1.Call) proto.Message) handler {
		h.needs = needs
		return h
	}
	launch := func(do func(*agentv1.Call) (*translate.Order, error)) handler {
		return handler{do: func(ctx context.Context, _ http.ResponseWriter, q *request) (*agentv1.Response, int, error) {
			o, err := do(q.call)
			if err != nil {
				return nil, 0, err
			}
			return s.launched(ctx, q, o)
		}}
	}
	return map[agentv1.Call_Type]handler{
		agentv1.Call_GET_HEALTH:        plain(s.getHealth),
		agentv1.Call_GET_FLAGS:         plain(s.getFlags),
		agentv1.Call_GET_VERSION:       plain(s.getVersion),
		agentv1.Call_GET_METRICS:       with(plain(s.getMetrics), func(c *agentv1.Call) proto.Message { return c.GetGetMetrics() }),
		agentv1.Call_GET_LOGGING_LEVEL: plain(s.getLoggingLevel),
		agentv1.Call_SET_LOGGING_LEVEL: with(plain(s.setLoggingLevel), func(c *agentv1.Call) proto.Message { return c.GetSetLoggingLevel() }),
		agentv1.Call_LIST_FILES:        with(plain(s.listFiles), func(c *agentv1.Call) proto.Message { return c.GetListFiles() }),
		agentv1.Call_READ_FILE:         with(plain(s.readFile), func(c *agentv1.Call) proto.Message { return c.GetReadFile() }),
		agentv1.Call_GET_STATE:         plain(s.getState),
		agentv1.Call_GET_FRAMEWORKS:    plain(s.getState),
		agentv1.Call_GET_EXECUTORS:     plain(s.getState),
		agentv1.Call_GET_TASKS:         plain(s.getState),
		agentv1.Call_GET_AGENT:         plain(s.getAgent),
		agentv1.Call_GET_CONTAINERS:    plain(s.getContainers),
		agentv1.Call_PRUNE_IMAGES:      plain(s.pruneImages),

		agentv1.Call_LAUNCH_CONTAINER:        with(launch(standaloneOrder), func(c *agentv1.Call) proto.Message { return c.GetLaunchContainer() }),
		agentv1.Call_LAUNCH_NESTED_CONTAINER: with(launch(nestedOrder), func(c *agentv1.Call) proto.Message { return c.GetLaunchNestedContainer() }),
		agentv1.Call_WAIT_CONTAINER:          with(plain(s.waitContainer), func(c *agentv1.Call) proto.Message { return c.GetWaitContainer() }),
		agentv1.Call_WAIT_NESTED_CONTAINER:   with(plain(s.waitNested), func(c *agentv1.Call) proto.Message { return c.GetWaitNestedContainer() }),
		agentv1.Call_KILL_CONTAINER:          with(plain(s.killContainer), func(c *agentv1.Call) proto.Message { return c.GetKillContainer() }),
		agentv1.Call_KILL_NESTED_CONTAINER:   with(plain(s.killNested), func(c *agentv1.Call) proto.Message { return c.GetKillNestedContainer() }),
		agentv1.Call_REMOVE_CONTAINER:        with(plain(s.removeContainer), func(c *agentv1.Call) proto.Message { return c.GetRemoveContainer() }),
		agentv1.Call_REMOVE_NESTED_CONTAINER: with(plain(s.removeNested), func(c *agentv1.Call) proto.Message { return c.GetRemoveNestedContainer() }),

		agentv1.Call_LAUNCH_NESTED_CONTAINER_SESSION: {streams: true, do: s.session, needs: func(c *agentv1.Call) proto.Message { return c.GetLaunchNestedContainerSession() }},
		agentv1.Call_ATTACH_CONTAINER_OUTPUT:         {streams: true, do: s.attachOutput, needs: func(c *agentv1.Call) proto.Message { return c.GetAttachContainerOutput() }},
		agentv1.Call_ATTACH_CONTAINER_INPUT:          {do: s.attachInput, needs: func(c *agentv1.Call) proto.Message { return c.GetAttachContainerInput() }},
	}
}

func standaloneOrder(c *agentv1.Call) (*translate.Order, error) {
	l := c.GetLaunchContainer()
	id, err := translate.IDOf(l.GetContainerId())
	class := translate.ClassStandalone
	if !id.IsRoot() {
		class = translate.ClassNested
	}
	return &translate.Order{ID: id, Class: class, Command: l.GetCommand(), Container: l.GetContainer(), Resources: l.GetResources(), Limits: l.GetLimits()}, err
}

func nestedOrder(c *agentv1.Call) (*translate.Order, error) {
	l := c.GetLaunchNestedContainer()
	id, err := nestedID(l.GetContainerId())
	return &translate.Order{ID: id, Class: translate.ClassNested, Command: l.GetCommand(), Container: l.GetContainer()}, err
}

func sessionOrder(c *agentv1.Call) (*translate.Order, error) {
	l := c.GetLaunchNestedContainerSession()
	id, err := nestedID(l.GetContainerId())
	return &translate.Order{ID: id, Class: translate.ClassDebug, Command: l.GetCommand(), Container: l.GetContainer()}, err
}

// nestedID is an id with a parent.
func nestedID(m *mesosv1.ContainerID) (containerizer.ContainerID, error) {
	id, err := translate.IDOf(m)
	if err == nil && id.IsRoot() {
		err = invalid("a nested container has to have a parent")
	}
	return id, err
}

// either is one of two actions, by whether id is nested.
func either(id containerizer.ContainerID, standalone, nested string) string {
	if id.IsRoot() {
		return standalone
	}
	return nested
}

func (s *Server) waitContainer(ctx context.Context, q *request) (*agentv1.Response, error) {
	id, err := translate.IDOf(q.call.GetWaitContainer().GetContainerId())
	if err != nil {
		return nil, err
	}
	w, err := s.wait(ctx, q, id)
	return &agentv1.Response{Type: agentv1.Response_WAIT_CONTAINER.Enum(), WaitContainer: w}, err
}

func (s *Server) waitNested(ctx context.Context, q *request) (*agentv1.Response, error) {
	id, err := nestedID(q.call.GetWaitNestedContainer().GetContainerId())
	if err != nil {
		return nil, err
	}
	w, err := s.wait(ctx, q, id)
	return &agentv1.Response{Type: agentv1.Response_WAIT_NESTED_CONTAINER.Enum(), WaitNestedContainer: &agentv1.Response_WaitNestedContainer{
		ExitStatus: w.ExitStatus, State: w.State, Reason: w.Reason, Limitation: w.Limitation, Message: w.Message,
	}}, err
}

// wait waits for a container to end. The result is never nil.
func (s *Server) wait(ctx context.Context, q *request, id containerizer.ContainerID) (*agentv1.Response_WaitContainer, error) {
	w := &agentv1.Response_WaitContainer{}
	if err := s.permit(q.caller, id, either(id, actWaitStandalone, actWaitNested), ""); err != nil {
		return w, err
	}
	if _, err := s.find(ctx, id); err != nil {
		return w, err
	}
	t, err := s.Engine.Wait(ctx, id)
	if err != nil {
		return w, err
	}
	if t.Reason != containerizer.ReasonUnknown {
		w.ExitStatus = new(int32(t.WaitStatus)) //nolint:gosec // 16 bits of it are used
	}
	if t.Message != "" {
		w.Message = &t.Message
	}
	limit := translate.LimitationOf(t)
	switch {
	case limit != nil:
		w.State, w.Reason = mesosv1.TaskState_TASK_FAILED.Enum(), translate.ReasonOf(limit).Enum()
		if w.Message == nil {
			w.Message = &limit.Message
		}
		if limit.Resource == translate.Memory {
			w.Limitation = &mesosv1.TaskResourceLimitation{}
		}
	case t.Reason == containerizer.ReasonLaunchFailed:
		w.State, w.Reason = mesosv1.TaskState_TASK_FAILED.Enum(), mesosv1.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED.Enum()
	}
	return w, nil
}

func (s *Server) killContainer(ctx context.Context, q *request) (*agentv1.Response, error) {
	k := q.call.GetKillContainer()
	id, err := translate.IDOf(k.GetContainerId())
	if err != nil {
		return nil, err
	}
	return nil, s.kill(ctx, q, id, k.Signal)
}

func (s *Server) killNested(ctx context.Context, q *request) (*agentv1.Response, error) {
	k := q.call.GetKillNestedContainer()
	id, err := nestedID(k.GetContainerId())
	if err != nil {
		return nil, err
	}
	return nil, s.kill(ctx, q, id, k.Signal)
}

// maxSignal is the last one that there is.
const maxSignal = 64

// kill sends a signal to the container's process; SIGKILL unless another is named.
func (s *Server) kill(ctx context.Context, q *request, id containerizer.ContainerID, signal *int32) error {
	n := int32(9)
	if signal != nil {
		n = *signal
	}
	if n < 1 || n > maxSignal {
		return badRequest("there is no signal %d", n)
	}
	if err := s.permit(q.caller, id, either(id, actKillStandalone, actKillNested), ""); err != nil {
		return err
	}
	st, err := s.find(ctx, id)
	if err != nil {
		return err
	}
	if alive(st) {
		err = s.Engine.Kill(ctx, id, int(n), false)
	}
	if !alive(st) || errors.Is(err, containerizer.ErrFailedPrecondition) {
		return &httpError{http.StatusNotFound, fmt.Sprintf("container %q has ended", id)}
	}
	return err
}

func (s *Server) removeContainer(ctx context.Context, q *request) (*agentv1.Response, error) {
	id, err := translate.IDOf(q.call.GetRemoveContainer().GetContainerId())
	if err != nil {
		return nil, err
	}
	return nil, s.remove(ctx, q, id)
}

func (s *Server) removeNested(ctx context.Context, q *request) (*agentv1.Response, error) {
	id, err := nestedID(q.call.GetRemoveNestedContainer().GetContainerId())
	if err != nil {
		return nil, err
	}
	return nil, s.remove(ctx, q, id)
}

// remove removes a container that has ended, and its sandbox. It is a no-op for one
// that is gone, as long as its root is there.
func (s *Server) remove(ctx context.Context, q *request, id containerizer.ContainerID) error {
	if err := s.permit(q.caller, id, either(id, actRemoveStandalone, actRemoveNested), ""); err != nil {
		return err
	}
	if !s.begin(s.launching, id) {
		return &httpError{http.StatusInternalServerError, fmt.Sprintf("container %q is being launched", id)}
	}
	defer s.end(s.launching, id)
	ctx = context.WithoutCancel(ctx)
	if _, err := s.find(ctx, id.Root()); err != nil && (!id.IsRoot() || !s.sandboxOf(id).Exists()) {
		return &httpError{http.StatusInternalServerError, fmt.Sprintf("the root container: %s", err)}
	}
	st, err := s.find(ctx, id)
	switch {
	case err == nil && alive(st):
		return &httpError{http.StatusInternalServerError, fmt.Sprintf("container %q is %s; it has to end before", id, st.State)}
	case err == nil:
		err = s.Engine.Destroy(ctx, id)
	case errors.Is(err, containerizer.ErrNotFound):
		err = nil
	}
	if err == nil {
		err = s.sandboxOf(id).Remove()
	}
	if err != nil {
		return &httpError{http.StatusInternalServerError, err.Error()}
	}
	return nil
}

func (s *Server) pruneImages(ctx context.Context, q *request) (*agentv1.Response, error) {
	if err := s.permit(q.caller, "", actPruneImages, ""); err != nil {
		return nil, err
	}
	keep := map[string]bool{}
	for _, i := range q.call.GetPruneImages().GetExcludedImages() {
		if i.GetType() != mesosv1.Image_DOCKER {
			continue // there are no others here
		}
		image, err := s.Images.Inspect(ctx, i.GetDocker().GetName())
		if errors.Is(err, containerizer.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		keep[image.Manifest.String()] = true
	}
	images, err := s.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	for i := range images {
		if keep[images[i].Manifest.String()] || images[i].Pinned {
			continue
		}
		_, err := s.Images.Remove(ctx, images[i].Manifest.String(), false)
		// One that is used stays, and one that is gone may be.
		if err != nil && !errors.Is(err, containerizer.ErrFailedPrecondition) && !errors.Is(err, containerizer.ErrNotFound) {
			return nil, err
		}
	}
	return nil, nil
}

func durationOf(d *mesosv1.DurationInfo) time.Duration { return time.Duration(d.GetNanoseconds()) }
