package executor

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/codec"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/recordio"
	executorv1 "github.com/berth-dev/berth/proto/mesos/v1/executor"
)

const (
	// maxEvent bounds an event: a task group with all that belongs to it.
	maxEvent = 16 << 20
	// maxComplaint is how much of a refusal is read.
	maxComplaint = 4 << 10
	// callTimeout bounds a call that is no subscription.
	callTimeout = 30 * time.Second
)

// agent is how the agent is spoken to: events come on one connection, calls go on
// another.
type agent struct {
	url, token string
	form       codec.Form
	events     *http.Client
	calls      *http.Client
}

func newAgent(env *Environment, form codec.Form) *agent {
	client := func() *http.Client {
		t := &http.Transport{MaxConnsPerHost: 1, ResponseHeaderTimeout: callTimeout}
		if path := env.DomainSocket; path != "" {
			t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			}
		}
		return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	host := env.Endpoint
	if host == "" {
		host = "agent" // behind a socket any name will do
	}
	return &agent{url: "http://" + host + "/api/v1/executor", token: env.Token, form: form, events: client(), calls: client()}
}

// close lets go of connections that nobody uses.
func (a *agent) close() {
	a.events.CloseIdleConnections()
	a.calls.CloseIdleConnections()
}

// refusal is an answer that is no success.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return fmt.Sprintf("the agent answers %d: %s", r.status, r.text) }

// final says whether to ask again is of no use.
func (r *refusal) final() bool {
	switch r.status {
	case http.StatusNotFound, http.StatusServiceUnavailable, http.StatusInternalServerError: // it begins, or recovers
		return false
	}
	return true
}

// post sends m, and returns the answer if it has status want.
func (a *agent) post(ctx context.Context, client *http.Client, m proto.Message, want int) (*http.Response, error) {
	body, err := a.form.Marshal(m)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", a.form.MediaType())
	r.Header.Set("Accept", a.form.MediaType())
	if a.token != "" {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("speak to the agent: %w", err)
	}
	if answer.StatusCode == want {
		return answer, nil
	}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxComplaint)) // what there is of it
	_ = answer.Body.Close()                                          // only read
	return nil, &refusal{answer.StatusCode, string(text)}
}

// call makes a call that is answered at once.
func (a *agent) call(ctx context.Context, m *executorv1.Call) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := a.post(ctx, a.calls, m, http.StatusAccepted)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxComplaint)) // so that the connection can be used again
	return answer.Body.Close()
}

// stream is a subscription.
type stream struct {
	body    io.Closer
	records *recordio.Reader
	form    codec.Form
}

// subscribe opens the stream of events.
func (a *agent) subscribe(ctx context.Context, m *executorv1.Call) (*stream, error) {
	answer, err := a.post(ctx, a.events, m, http.StatusOK)
	if err != nil {
		return nil, err
	}
	if got := answer.Header.Get("Content-Type"); got != a.form.MediaType() {
		_ = answer.Body.Close() // it is not read
		return nil, fmt.Errorf("the agent sends %.100q, not %q as it was asked for: %w", got, a.form.MediaType(), containerizer.ErrInvalid)
	}
	return &stream{answer.Body, recordio.NewReader(answer.Body, maxEvent), a.form}, nil
}

// next returns the next event.
func (s *stream) next() (*executorv1.Event, error) {
	record, err := s.records.Next()
	if err != nil {
		return nil, err
	}
	e := &executorv1.Event{}
	return e, s.form.Unmarshal(record, e)
}
