package agent

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/codec"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/recordio"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	agentv1 "github.com/berth-dev/berth/proto/mesos/v1/agent"
)

// stream sends what a process writes to a client.
type stream struct {
	w         http.ResponseWriter
	q         *request
	heartbeat time.Duration
	// begun is closed once there is an answer; what comes before waits for it.
	begun chan struct{}
	// left is closed once nobody reads any more.
	left <-chan struct{}

	mu sync.Mutex // of w
}

func (s *Server) newStream(ctx context.Context, w http.ResponseWriter, q *request) *stream {
	return &stream{w: w, q: q, heartbeat: s.o.Heartbeat, begun: make(chan struct{}), left: ctx.Done()}
}

// io are the ends of a process's output that go to the client.
func (st *stream) io() *containerizer.IO {
	return &containerizer.IO{Stdout: st.writer(agentv1.ProcessIO_Data_STDOUT), Stderr: st.writer(agentv1.ProcessIO_Data_STDERR)}
}

// writer sends what is written, as records of type t.
func (st *stream) writer(t agentv1.ProcessIO_Data_Type) writer {
	return func(p []byte) error {
		select {
		case <-st.begun:
		case <-st.left:
			return context.Canceled
		}
		return st.send(&agentv1.ProcessIO{Type: agentv1.ProcessIO_DATA.Enum(), Data: &agentv1.ProcessIO_Data{Type: &t, Data: p}})
	}
}

// writer is an [io.Writer].
type writer func([]byte) error

func (w writer) Write(p []byte) (int, error) {
	if err := w(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (st *stream) send(m *agentv1.ProcessIO) error {
	record, err := st.q.accept.Marshal(m)
	if err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if _, err := st.w.Write(recordio.Append(nil, record)); err != nil {
		return err
	}
	return http.NewResponseController(st.w).Flush()
}

// begin answers that there is a stream. A client that asked for no stream of records
// gets one all the same, by another name, as from Mesos.
func (st *stream) begin() error {
	h := st.w.Header()
	if st.q.acceptStream {
		h.Set("Content-Type", codec.MediaRecordIO)
		h.Set(headerMessageContent, st.q.accept.MediaType())
	} else {
		h.Set("Content-Type", st.q.accept.MediaType())
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.w.WriteHeader(http.StatusOK)
	err := http.NewResponseController(st.w).Flush()
	close(st.begun)
	return err
}

// follow sends heartbeats until the session's output has ended or the client has left.
func (st *stream) follow(ctx context.Context, session containerizer.Session) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = session.Wait() // its end is all there is to know
	}()
	beat := time.NewTicker(st.heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-over:
			return
		case <-ctx.Done():
		case <-beat.C:
			if st.send(heartbeat(st.heartbeat)) == nil {
				continue
			}
		}
		session.Detach()
		<-over // it writes to w
		return
	}
}

func heartbeat(interval time.Duration) *agentv1.ProcessIO {
	return &agentv1.ProcessIO{Type: agentv1.ProcessIO_CONTROL.Enum(), Control: &agentv1.ProcessIO_Control{
		Type:      agentv1.ProcessIO_Control_HEARTBEAT.Enum(),
		Heartbeat: &agentv1.ProcessIO_Control_Heartbeat{Interval: durationTo(interval)},
	}}
}

// attachOutput is ATTACH_CONTAINER_OUTPUT.
func (s *Server) attachOutput(ctx context.Context, w http.ResponseWriter, q *request) (*agentv1.Response, int, error) {
	id, err := translate.IDOf(q.call.GetAttachContainerOutput().GetContainerId())
	if err != nil {
		return nil, 0, err
	}
	if err := s.permit(q.caller, id, actAttachOutput, ""); err != nil {
		return nil, 0, err
	}
	if err := s.attachable(ctx, id); err != nil {
		return nil, 0, err
	}
	st := s.newStream(ctx, w, q)
	session, err := s.Engine.Attach(ctx, id, *st.io())
	if err != nil {
		return nil, 0, err
	}
	if st.begin() != nil {
		session.Detach()
	}
	st.follow(ctx, session)
	return nil, 0, nil
}

// attachable says why the streams of a container cannot be had: 404 for one that is
// not there, 500 for one whose output goes into its sandbox only.
func (s *Server) attachable(ctx context.Context, id containerizer.ContainerID) error {
	st, err := s.find(ctx, id)
	switch {
	case err != nil:
		return err
	case !alive(st):
		return &httpError{http.StatusNotFound, fmt.Sprintf("container %q has ended", id)}
	case !st.Spec.Process.Stdin:
		return &httpError{http.StatusInternalServerError, fmt.Sprintf("container %q has neither a terminal nor is it a session: its output is in its sandbox", id)}
	}
	return nil
}

// session is LAUNCH_NESTED_CONTAINER_SESSION. The container ends with the stream.
func (s *Server) session(ctx context.Context, w http.ResponseWriter, q *request) (*agentv1.Response, int, error) {
	o, err := sessionOrder(q.call)
	if err != nil {
		return nil, 0, err
	}
	st := s.newStream(ctx, w, q)
	status, session, err := s.launch(ctx, q, o, st.io())
	if err != nil || session == nil {
		return nil, status, err
	}
	if st.begin() != nil {
		session.Detach()
	}
	st.follow(ctx, session)
	s.endSession(context.WithoutCancel(ctx), o.ID)
	return nil, 0, nil // the answer has been given
}

// endSession ends what is left of a session. How it ended can be asked for until it is
// removed, or its parent goes.
func (s *Server) endSession(ctx context.Context, id containerizer.ContainerID) {
	none := time.Duration(0)
	if err := s.Engine.Stop(ctx, id, &none); err != nil {
		s.Log.Warn("a session does not end", logID(id), logError(err))
	}
}
