package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	"github.com/berth-dev/berth/containerizer/log"
	agentv1 "github.com/berth-dev/berth/proto/mesos/v1/agent"
)

// Node is what the process that serves tells about itself.
type Node interface {
	// Ready is false while what earlier processes left is being put right.
	Ready() bool
	Version() (version, commit string)
	// Flags are settings by the names that Mesos has for them.
	Flags() map[string]string
	Metrics(ctx context.Context) (map[string]float64, error)
	// Verbosity is 0 for the usual log, and more for one with each step. SetVerbosity
	// changes it for a time.
	Verbosity() uint32
	SetVerbosity(level uint32, period time.Duration)
}

// Parts are what the API is served over. All are needed.
type Parts struct {
	Engine    containerizer.Engine
	Images    containerizer.Images
	Artifacts containerizer.ArtifactFetcher
	Node      Node
	Log       *log.Logger
}

// Options are settings. The zero value works but for WorkDir.
type Options struct {
	// WorkDir is the absolute path of the folder of sandboxes.
	WorkDir string
	// SandboxDirectory is where a container with an image finds its sandbox; "" is
	// /mnt/mesos/sandbox.
	SandboxDirectory string
	// SeccompDir has the profiles that containers may name; "" is none.
	SeccompDir string
	// EnableCFS bounds processor time by requests as well as limits.
	EnableCFS bool
	// Heartbeat is the interval of heartbeats on streams; 0 is 30 s.
	Heartbeat time.Duration
	// Authenticator and ACLs say who may do what; nil is everybody everything.
	Authenticator *Authenticator
	ACLs          *ACLs
}

// Server serves the API. Close ends what it has in the background.
type Server struct {
	Parts

	o          Options
	translator *translate.Translator
	calls      map[agentv1.Call_Type]handler

	background sync.WaitGroup
	closed     chan struct{}

	mu        sync.Mutex
	launching map[containerizer.ContainerID]bool // launches in progress, of this server
	attached  map[containerizer.ContainerID]bool // containers to whose input a client is attached
	inputs    map[containerizer.ContainerID]*input
}

// New returns a server.
func New(parts Parts, o Options) (*Server, error) {
	if !filepath.IsAbs(o.WorkDir) {
		return nil, fmt.Errorf("work folder %q is not an absolute path: %w", o.WorkDir, containerizer.ErrInvalid)
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 30 * time.Second
	}
	s := &Server{Parts: parts, o: o, closed: make(chan struct{}), launching: map[containerizer.ContainerID]bool{}, attached: map[containerizer.ContainerID]bool{}, inputs: map[containerizer.ContainerID]*input{}}
	s.translator = translate.New(parts.Images, s.sandboxOf, translate.Options{
		Adapter: adapterName, SandboxDirectory: o.SandboxDirectory, SeccompDir: o.SeccompDir, EnableCFS: o.EnableCFS,
	})
	s.calls = s.table()
	return s, nil
}

// Close ends what goes on in the background. Containers go on. It is called once, when
// nothing is served any more.
func (s *Server) Close() {
	close(s.closed)
	s.background.Wait()
}

// adapterName marks our containers, as their origin.
const adapterName = "mesos"

// sandboxOf is where a container of the agent has its files.
func (s *Server) sandboxOf(id containerizer.ContainerID) translate.Sandbox {
	return translate.SandboxOf(filepath.Join(s.o.WorkDir, "containers", id.Root().String()), id)
}

// maxBody bounds a request that is no stream, maxRecord a record of one that is.
const (
	maxBody   = 8 << 20
	maxRecord = 1 << 20
)

// ServeHTTP implements [http.Handler]. The checks are in the order of Mesos's agent.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/api/v1", "/slave(1)/api/v1":
	case "/health", "/slave(1)/health":
		return // 200 while serving
	default:
		fail(w, &httpError{http.StatusNotFound, fmt.Sprintf("nothing is served at %.200q", r.URL.Path)})
		return
	}
	caller, err := s.o.Authenticator.authenticate(r)
	if err != nil {
		s.o.Authenticator.challenge(w.Header())
		fail(w, &httpError{http.StatusUnauthorized, err.Error()})
		return
	}
	if !s.Node.Ready() {
		fail(w, &httpError{http.StatusServiceUnavailable, "the agent is recovering"})
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		fail(w, &httpError{http.StatusMethodNotAllowed, fmt.Sprintf("expecting 'POST', received %.20q", r.Method)})
		return
	}
	q, err := s.read(w, r)
	if err == nil {
		q.caller = caller
		err = s.serve(r.Context(), w, q)
	}
	if err != nil {
		fail(w, err)
	}
}

// request is a call with how it came and how the answer is to go.
type request struct {
	negotiated

	call   *agentv1.Call
	caller *principal
	// records are those behind the first, of a stream.
	records *calls
}

// handler answers one type of call. In streaming ones it writes to w itself, and
// response and status are of no meaning.
type handler struct {
	streams bool // the answer is a stream
	needs   func(*agentv1.Call) proto.Message
	do      func(ctx context.Context, w http.ResponseWriter, q *request) (*agentv1.Response, int, error)
}

func (s *Server) serve(ctx context.Context, w http.ResponseWriter, q *request) error {
	call := q.call
	if call.Type == nil {
		return badRequest("expecting 'type' to be present")
	}
	h, known := s.calls[call.GetType()]
	if !known {
		return &httpError{http.StatusNotImplemented, fmt.Sprintf("call %s is not served", call.GetType())}
	}
	if h.needs != nil {
		if m := h.needs(call); m == nil || !m.ProtoReflect().IsValid() {
			return badRequest("expecting what belongs to %s to be present", call.GetType())
		}
	}
	if takes := call.GetType() == agentv1.Call_ATTACH_CONTAINER_INPUT; takes != q.contentStream {
		return &httpError{http.StatusUnsupportedMediaType, fmt.Sprintf("a stream of records is for %s, and nothing else", agentv1.Call_ATTACH_CONTAINER_INPUT)}
	}
	if q.acceptStream && !h.streams {
		return &httpError{http.StatusNotAcceptable, fmt.Sprintf("the answer to %s is no stream of records", call.GetType())}
	}
	response, status, err := h.do(ctx, w, q)
	if err != nil || h.streams && status == 0 {
		return err
	}
	return q.answer(w, status, response)
}

// httpError is an answer that is no success.
type httpError struct {
	status int
	text   string
}

func (e *httpError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &httpError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// classed gives err the status that its class has in most calls.
func classed(err error) error {
	if _, is := errors.AsType[*httpError](err); is || err == nil {
		return err
	}
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, containerizer.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, containerizer.ErrInvalid), errors.Is(err, containerizer.ErrUnsupported):
		status = http.StatusBadRequest
	case errors.Is(err, containerizer.ErrPermission):
		status = http.StatusForbidden
	}
	return &httpError{status, err.Error()}
}

// fail writes err as text. Who may not do something is told nothing.
func fail(w http.ResponseWriter, err error) {
	e, is := errors.AsType[*httpError](classed(err))
	if !is {
		e = &httpError{http.StatusInternalServerError, err.Error()}
	}
	if e.status == http.StatusForbidden {
		w.WriteHeader(e.status)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(e.status)
	_, _ = w.Write([]byte(e.text)) // who has left does not hear it
}
