package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	"github.com/berth-dev/berth/containerizer/log"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
	agentv1 "github.com/berth-dev/berth/proto/mesos/v1/agent"
)

// endOfTransmission is what a terminal takes for the end of input (^D).
const endOfTransmission = 4

// attachInput is ATTACH_CONTAINER_INPUT. It answers when the input ends, or the
// container's output does.
func (s *Server) attachInput(ctx context.Context, _ http.ResponseWriter, q *request) (*agentv1.Response, int, error) {
	first := q.call.GetAttachContainerInput()
	if first.GetType() != agentv1.Call_AttachContainerInput_CONTAINER_ID || first.GetContainerId() == nil {
		return nil, 0, badRequest("the first record has to name the container")
	}
	id, err := translate.IDOf(first.GetContainerId())
	if err != nil {
		return nil, 0, err
	}
	if err := s.permit(q.caller, id, actAttachInput, ""); err != nil {
		return nil, 0, err
	}
	if err := s.attachable(ctx, id); err != nil {
		return nil, 0, err
	}
	if !s.begin(s.attached, id) {
		return nil, 0, &httpError{http.StatusConflict, fmt.Sprintf("the input of container %q is attached", id)}
	}
	defer s.end(s.attached, id)
	in, err := s.inputOf(ctx, id)
	if err != nil {
		return nil, 0, err
	}
	failed := make(chan error, 1)
	go func() { failed <- in.feed(q.records) }() // ends with the request
	select {
	case err = <-failed:
	case <-in.over:
	}
	if in.terminal {
		in.session.Detach()
	}
	return nil, http.StatusOK, err
}

// inputOf returns the way to a process's input. That of a session stays when a client
// goes, because its end would be the end of the input; it is for the next one.
func (s *Server) inputOf(ctx context.Context, id containerizer.ContainerID) (*input, error) {
	s.mu.Lock()
	in := s.inputs[id]
	s.mu.Unlock()
	if in != nil {
		return in, nil
	}
	st, err := s.Engine.Status(ctx, id)
	if err != nil {
		return nil, err
	}
	in = newInput(st.Spec.Process.Terminal)
	if in.session, err = s.Engine.Attach(ctx, id, containerizer.IO{Stdin: in.read, Resize: in.sizes}); err != nil {
		return nil, err
	}
	if !in.terminal {
		s.mu.Lock()
		s.inputs[id] = in
		s.mu.Unlock()
	}
	s.keep(in.session, in.over)
	s.background.Go(func() {
		_ = in.session.Wait() // its end is all there is to know
		close(in.over)
		_ = in.read.Close() // wakes who writes
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.inputs[id] == in {
			delete(s.inputs, id)
		}
	})
	return in, nil
}

// input is a client's input on its way to a process.
type input struct {
	terminal bool
	session  containerizer.Session
	read     *io.PipeReader
	write    *io.PipeWriter
	sizes    chan containerizer.Size
	over     chan struct{} // closed with the session
}

func newInput(terminal bool) *input {
	in := &input{terminal: terminal, sizes: make(chan containerizer.Size), over: make(chan struct{})}
	in.read, in.write = io.Pipe()
	return in
}

// feed passes records on until there are no more.
func (in *input) feed(records *calls) error {
	for {
		call, err := records.next()
		if errors.Is(err, io.EOF) {
			// Taken when the reader asks for more: what it had is sent then.
			_, _ = in.write.Write(nil) // who does not want more has what there was
			return nil
		}
		if err != nil {
			return badRequest("%s", err)
		}
		if err := in.take(call); err != nil {
			return err
		}
	}
}

// take passes one record on.
func (in *input) take(call *agentv1.Call) error {
	c := call.GetAttachContainerInput()
	if call.GetType() != agentv1.Call_ATTACH_CONTAINER_INPUT || c.GetType() != agentv1.Call_AttachContainerInput_PROCESS_IO || c.GetProcessIo() == nil {
		return badRequest("records behind the first have to be of type PROCESS_IO")
	}
	switch m := c.GetProcessIo(); m.GetType() {
	case agentv1.ProcessIO_DATA:
		if m.GetData().GetType() != agentv1.ProcessIO_Data_STDIN || m.GetData().Data == nil {
			return badRequest("data has to be of type STDIN")
		}
		in.data(m.GetData().GetData())
		return nil
	case agentv1.ProcessIO_CONTROL:
		return in.control(m.GetControl())
	case agentv1.ProcessIO_UNKNOWN:
	}
	return badRequest("a record has to be of type DATA or CONTROL")
}

// data passes input on; none is its end.
func (in *input) data(p []byte) {
	if len(p) == 0 && !in.terminal {
		_ = in.write.Close() // never fails
		return
	}
	if len(p) == 0 {
		p = []byte{endOfTransmission}
	}
	_, _ = in.write.Write(p) // who does not want more has what there was
}

func (in *input) control(c *agentv1.ProcessIO_Control) error {
	switch c.GetType() {
	case agentv1.ProcessIO_Control_TTY_INFO:
		size := c.GetTtyInfo().GetWindowSize()
		if size == nil {
			return badRequest("a control of type TTY_INFO has to have a window size")
		}
		for range 2 { // once the second is taken the first is on its way, before what follows
			select {
			case in.sizes <- containerizer.Size{Columns: cells(size.GetColumns()), Rows: cells(size.GetRows())}:
			case <-in.over:
			}
		}
		return nil
	case agentv1.ProcessIO_Control_HEARTBEAT:
		if c.GetHeartbeat() == nil {
			return badRequest("a control of type HEARTBEAT has to have one")
		}
		return nil
	case agentv1.ProcessIO_Control_UNKNOWN:
	}
	return badRequest("a control has to be of type TTY_INFO or HEARTBEAT")
}

func cells(n uint32) uint16 { return uint16(min(n, math.MaxUint16)) } //nolint:gosec // bounded

func durationTo(d time.Duration) *mesosv1.DurationInfo {
	return &mesosv1.DurationInfo{Nanoseconds: new(d.Nanoseconds())}
}

func logID(id containerizer.ContainerID) log.Field { return log.String("container_id", id.String()) }
func logError(err error) log.Field                 { return log.Error(err) }
