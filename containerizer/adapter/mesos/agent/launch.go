package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	agentv1 "github.com/berth-dev/berth/proto/mesos/v1/agent"
)

// find returns a container of ours. Errors: ErrNotFound.
func (s *Server) find(ctx context.Context, id containerizer.ContainerID) (*containerizer.Status, error) {
	st, err := s.Engine.Status(ctx, id)
	if err != nil {
		return nil, err
	}
	if !ours(st) {
		return nil, fmt.Errorf("container %q is not one of this agent: %w", id, containerizer.ErrNotFound)
	}
	return st, nil
}

// ours says whether a container came through this adapter. No other is found by it.
func ours(st *containerizer.Status) bool {
	return st.Spec != nil && st.Spec.Origin != nil && st.Spec.Origin.Adapter == adapterName
}

// alive says whether a container is there in the eyes of Mesos, which forgets those
// that have ended.
func alive(st *containerizer.Status) bool {
	switch st.State {
	case containerizer.StateExited, containerizer.StateDestroyed:
		return false
	default:
		return true
	}
}

// launched does what LAUNCH_CONTAINER and its nested form ask for.
func (s *Server) launched(ctx context.Context, q *request, o *translate.Order) (*agentv1.Response, int, error) {
	status, _, err := s.launch(ctx, q, o, nil)
	return nil, status, err
}

// launch launches a container: 200, or 202 when the id is there already. attach is
// connected from the first byte; nil leaves the output to the sandbox. The operation
// goes on when the client leaves.
func (s *Server) launch(ctx context.Context, q *request, o *translate.Order, attach *containerizer.IO) (int, containerizer.Session, error) {
	if err := s.mayLaunch(q, o); err != nil {
		return 0, nil, err
	}
	if !s.begin(s.launching, o.ID) {
		return http.StatusAccepted, nil, nil
	}
	defer s.end(s.launching, o.ID)
	ctx = context.WithoutCancel(ctx)
	if there, err := s.isThere(ctx, o.ID); there || err != nil {
		return http.StatusAccepted, nil, err
	}
	var parent *containerizer.Status
	if !o.ID.IsRoot() {
		var err error
		if parent, err = s.find(ctx, o.ID.Parent()); err != nil {
			return 0, nil, badRequest("the parent: %s", err)
		}
		if parent.State != containerizer.StateRunning {
			return 0, nil, badRequest("the parent %q is %s, not running", o.ID.Parent(), parent.State)
		}
	}
	p, err := s.translator.Plan(ctx, o, parent)
	if err != nil {
		return 0, nil, refused(err)
	}
	if err := p.PrepareSandbox(); err != nil {
		return 0, nil, &httpError{http.StatusInternalServerError, err.Error()}
	}
	if err := p.Fetch(ctx, s.Artifacts); err != nil {
		return 0, nil, refused(err)
	}
	session, err := s.run(ctx, p, attach)
	if err != nil {
		return 0, nil, refused(s.giveUp(ctx, o.ID, err))
	}
	return http.StatusOK, session, nil
}

// refused is the status of whatever keeps a container from being launched.
func refused(err error) error {
	if errors.Is(err, containerizer.ErrPermission) {
		return badRequest("%s", err)
	}
	if _, is := errors.AsType[*httpError](err); is {
		return err
	}
	return badRequest("%s", err)
}

// giveUp leaves nothing of a container that could not be launched.
func (s *Server) giveUp(ctx context.Context, id containerizer.ContainerID, err error) error {
	if errors.Is(err, containerizer.ErrAlreadyExists) {
		return err // it is another's
	}
	return errors.Join(err, s.Engine.Destroy(ctx, id))
}

// begin notes that something goes on with id; false when it does already.
func (s *Server) begin(set map[containerizer.ContainerID]bool, id containerizer.ContainerID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if set[id] {
		return false
	}
	set[id] = true
	return true
}

func (s *Server) end(set map[containerizer.ContainerID]bool, id containerizer.ContainerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(set, id)
}

// isThere says whether the id is taken. A standalone container that has ended is not
// there for Mesos: it makes place.
func (s *Server) isThere(ctx context.Context, id containerizer.ContainerID) (bool, error) {
	st, err := s.Engine.Status(ctx, id)
	switch {
	case errors.Is(err, containerizer.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case !ours(st):
		return false, badRequest("container id %q is taken by a container that is not one of this agent", id)
	case alive(st) || !id.IsRoot():
		return true, nil
	}
	return false, s.Engine.Destroy(ctx, id)
}

// mayLaunch checks the caller, and what can be said of the ids.
func (s *Server) mayLaunch(q *request, o *translate.Order) error {
	user := o.Command.GetUser()
	var acts []string
	switch o.Class {
	case translate.ClassStandalone:
		acts = []string{actLaunchStandalone}
	case translate.ClassNested:
		acts = []string{actLaunchNested, actLaunchNestedUnder}
	default:
		acts = []string{actLaunchSession, actLaunchSessionUnder}
	}
	for _, act := range acts {
		if err := s.permit(q.caller, o.ID, act, user); err != nil {
			return err
		}
	}
	second := !o.ID.IsRoot() && !o.ID.Parent().IsRoot()
	l := o.Container.GetLinuxInfo()
	if second && (len(o.Resources) > 0 || len(o.Limits) > 0 || l != nil && l.ShareCgroups != nil && !l.GetShareCgroups()) {
		return badRequest("a container nested in a nested one has no resources, limits or control group of its own")
	}
	return nil
}

// keep keeps a session until over is closed, or the server.
func (s *Server) keep(session containerizer.Session, over <-chan struct{}) {
	s.background.Go(func() {
		select {
		case <-over:
		case <-s.closed:
			session.Detach()
		}
	})
}

// copyOut lets the output of a terminal go on into the sandbox.
func (s *Server) copyOut(id containerizer.ContainerID, session containerizer.Session, to *os.File) {
	over := make(chan struct{})
	s.keep(session, over)
	s.background.Go(func() {
		defer close(over)
		if err := errors.Join(session.Wait(), to.Close()); err != nil {
			s.Log.Warn("output is missing in the sandbox", logID(id), logError(err))
		}
	})
}

// run launches what is planned.
func (s *Server) run(ctx context.Context, p *translate.Plan, attach *containerizer.IO) (containerizer.Session, error) {
	if attach != nil {
		return s.Engine.Launch(ctx, p.ID, p.Spec, containerizer.LaunchOptions{Attach: attach})
	}
	stdout, err := p.Sandbox.Output("stdout", p.Owner)
	if err != nil {
		return nil, err
	}
	if p.Spec.Process.Terminal {
		session, err := s.Engine.Launch(ctx, p.ID, p.Spec, containerizer.LaunchOptions{Attach: &containerizer.IO{Stdout: stdout}})
		if err != nil {
			return nil, errors.Join(err, stdout.Close())
		}
		s.copyOut(p.ID, session, stdout)
		return nil, nil
	}
	defer stdout.Close() //nolint:errcheck // the container has its own
	stderr, err := p.Sandbox.Output("stderr", p.Owner)
	if err != nil {
		return nil, err
	}
	defer stderr.Close() //nolint:errcheck // as above
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close() //nolint:errcheck // as above
	files := &[3]*os.File{null, stdout, stderr}
	_, err = s.Engine.Launch(ctx, p.ID, p.Spec, containerizer.LaunchOptions{Attach: &containerizer.IO{Files: files}})
	return nil, err
}
