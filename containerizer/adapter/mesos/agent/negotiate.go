package agent

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/codec"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/recordio"
	agentv1 "github.com/berth-dev/berth/proto/mesos/v1/agent"
)

// Headers that say what records are.
const (
	headerMessageContent = "Message-Content-Type"
	headerMessageAccept  = "Message-Accept"
)

// negotiated are the forms of a request and of its answer.
type negotiated struct {
	content       codec.Form
	contentStream bool
	accept        codec.Form
	acceptStream  bool
	gzip          bool
}

// read negotiates and decodes the call, of a stream its first record.
func (s *Server) read(w http.ResponseWriter, r *http.Request) (*request, error) {
	n, err := negotiate(r.Header)
	if err != nil {
		return nil, err
	}
	q := &request{negotiated: n, call: &agentv1.Call{}}
	if n.contentStream {
		q.records = &calls{in: recordio.NewReader(r.Body, maxRecord), form: n.content}
		q.call, err = q.records.next()
		if errors.Is(err, io.EOF) {
			return nil, badRequest("received an empty stream of records")
		}
		if err != nil {
			return nil, badRequest("%s", err)
		}
		return q, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, is := errors.AsType[*http.MaxBytesError](err); is {
			return nil, &httpError{http.StatusRequestEntityTooLarge, fmt.Sprintf("a call has at most %d bytes", maxBody)}
		}
		return nil, badRequest("read the call: %s", err)
	}
	if err := n.content.Unmarshal(body, q.call); err != nil {
		return nil, badRequest("%s", err)
	}
	return q, nil
}

// calls are those of a stream of records.
type calls struct {
	in   *recordio.Reader
	form codec.Form
}

// next returns the next one, and io.EOF behind the last.
func (c *calls) next() (*agentv1.Call, error) {
	record, err := c.in.Next()
	if err != nil {
		return nil, err
	}
	call := &agentv1.Call{}
	return call, c.form.Unmarshal(record, call)
}

// negotiate reads the headers. Content types are compared as they are, as Mesos does.
func negotiate(h http.Header) (n negotiated, err error) {
	content := strings.Join(last(h, "Content-Type"), "")
	message := last(h, headerMessageContent)
	switch content {
	case codec.MediaJSON:
	case codec.MediaProtobuf:
		n.content = codec.Protobuf
	case codec.MediaRecordIO:
		n.contentStream = true
		if len(message) == 0 {
			return n, badRequest("expecting '%s' to be present", headerMessageContent)
		}
		switch message[0] {
		case codec.MediaJSON:
		case codec.MediaProtobuf:
			n.content = codec.Protobuf
		default:
			return n, unsupportedMedia(headerMessageContent, codec.MediaJSON, codec.MediaProtobuf)
		}
	case "":
		return n, badRequest("expecting 'Content-Type' to be present")
	default:
		return n, unsupportedMedia("Content-Type", codec.MediaJSON, codec.MediaProtobuf, codec.MediaRecordIO)
	}
	if !n.contentStream && len(message) > 0 {
		return n, &httpError{http.StatusUnsupportedMediaType, fmt.Sprintf("'%s' goes with %s only", headerMessageContent, codec.MediaRecordIO)}
	}
	n.gzip = accepts(h.Values("Accept-Encoding"), "gzip", "") > 0
	return n, n.negotiateAnswer(h)
}

func (n *negotiated) negotiateAnswer(h http.Header) error {
	asked := last(h, "Accept")
	messages := last(h, headerMessageAccept)
	switch {
	case len(asked) == 0, accepts(asked, codec.MediaJSON, "*/*") > 0:
	case accepts(asked, codec.MediaProtobuf, "*/*") > 0:
		n.accept = codec.Protobuf
	case accepts(asked, codec.MediaRecordIO, "*/*") > 0:
		n.acceptStream = true
		switch {
		case len(messages) == 0, accepts(messages, codec.MediaJSON, "*/*") > 0:
		case accepts(messages, codec.MediaProtobuf, "*/*") > 0:
			n.accept = codec.Protobuf
		default:
			return notAcceptable(headerMessageAccept, codec.MediaJSON, codec.MediaProtobuf)
		}
		return nil
	default:
		return notAcceptable("Accept", codec.MediaJSON, codec.MediaProtobuf, codec.MediaRecordIO)
	}
	if len(messages) > 0 {
		return &httpError{http.StatusNotAcceptable, fmt.Sprintf("'%s' goes with %s only", headerMessageAccept, codec.MediaRecordIO)}
	}
	return nil
}

// last is the value of a header. Of several lines the last counts, as for Mesos:
// mesos-go, for one, adds what it wants to what it always sends.
func last(h http.Header, name string) []string {
	values := h.Values(name)
	return values[max(len(values)-1, 0):]
}

// accepts returns the weight that the lists in values give to want, or else to what
// matches everything (RFC 9110, section 12.5).
func accepts(values []string, want, everything string) float64 {
	kind, _, _ := strings.Cut(want, "/")
	weight := map[string]float64{}
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			name, parameters, err := mime.ParseMediaType(strings.TrimSpace(part))
			if err != nil {
				continue
			}
			weight[name] = 1
			if q, err := strconv.ParseFloat(parameters["q"], 64); err == nil {
				weight[name] = q
			}
		}
	}
	for _, name := range []string{want, kind + "/*", everything} {
		if q, named := weight[name]; named && name != "" {
			return q
		}
	}
	return 0
}

func unsupportedMedia(header string, possible ...string) error {
	return &httpError{http.StatusUnsupportedMediaType, fmt.Sprintf("expecting '%s' of %s", header, strings.Join(possible, " or "))}
}

func notAcceptable(header string, possible ...string) error {
	return &httpError{http.StatusNotAcceptable, fmt.Sprintf("expecting '%s' to allow %s", header, strings.Join(possible, " or "))}
}

// gzipFrom is the size from which answers are compressed.
const gzipFrom = 1024

// answer sends a response that is no stream; nil is one without a body.
func (n *negotiated) answer(w http.ResponseWriter, status int, response *agentv1.Response) error {
	if response == nil {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(status)
		return nil
	}
	body, err := n.accept.Marshal(response)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", n.accept.MediaType())
	if n.gzip && len(body) >= gzipFrom {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(status)
		z := gzip.NewWriter(w)
		_, _ = z.Write(body) // who has left does not hear it
		_ = z.Close()        // the same
		return nil
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // as above
	return nil
}

// invalid is an error of class ErrInvalid.
func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, containerizer.ErrInvalid)...)
}
