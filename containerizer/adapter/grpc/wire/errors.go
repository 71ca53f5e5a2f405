package wire

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berth-dev/berth/containerizer"
)

// domain is that of our ErrorInfo.
const domain = "berth.dev"

// class is one class of errors, as it travels.
type class struct {
	err    error
	code   codes.Code
	reason string
}

// classes in the order in which they are looked for: the particular before the general.
func classes() []class {
	return []class{
		{containerizer.ErrUntrusted, codes.PermissionDenied, "UNTRUSTED"},
		{containerizer.ErrCommandNotFound, codes.FailedPrecondition, "COMMAND_NOT_FOUND"},
		{containerizer.ErrCommandNotExecutable, codes.FailedPrecondition, "COMMAND_NOT_EXECUTABLE"},
		{containerizer.ErrNotFound, codes.NotFound, "NOT_FOUND"},
		{containerizer.ErrAlreadyExists, codes.AlreadyExists, "ALREADY_EXISTS"},
		{containerizer.ErrInvalid, codes.InvalidArgument, "INVALID"},
		{containerizer.ErrUnsupported, codes.Unimplemented, "UNSUPPORTED"},
		{containerizer.ErrFailedPrecondition, codes.FailedPrecondition, "FAILED_PRECONDITION"},
		{containerizer.ErrPermission, codes.PermissionDenied, "PERMISSION"},
		{containerizer.ErrUnavailable, codes.Unavailable, "UNAVAILABLE"},
		{containerizer.ErrResourceExhausted, codes.ResourceExhausted, "RESOURCE_EXHAUSTED"},
		{containerizer.ErrDataCorrupt, codes.DataLoss, "DATA_CORRUPT"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, ""},
		{context.Canceled, codes.Canceled, ""},
	}
}

// maxMessage bounds the message of a status: it travels in a header.
const maxMessage = 4 << 10

// Status returns err as an error of gRPC: its class as code and ErrorInfo, its words
// as message. nil stays nil, and so does a status.
func Status(err error) error {
	if err == nil {
		return nil
	}
	if _, is := status.FromError(err); is {
		return err
	}
	text := err.Error()
	if len(text) > maxMessage {
		text = text[:maxMessage] + "…"
	}
	for _, c := range classes() {
		if !errors.Is(err, c.err) {
			continue
		}
		s := status.New(c.code, text)
		if c.reason != "" {
			if with, err := s.WithDetails(&errdetails.ErrorInfo{Reason: c.reason, Domain: domain}); err == nil {
				s = with
			}
		}
		return s.Err()
	}
	return status.Error(codes.Internal, text)
}

// Error returns what a call over gRPC failed with, as an error of the class that the
// other side said. nil stays nil.
func Error(err error) error {
	s, is := status.FromError(err)
	if err == nil || !is {
		return err
	}
	reason := ""
	for _, d := range s.Details() {
		if info, is := d.(*errdetails.ErrorInfo); is && info.GetDomain() == domain {
			reason = info.GetReason()
		}
	}
	for _, c := range classes() {
		if reason == c.reason && (reason != "" || s.Code() == c.code) {
			return &remote{s.Message(), c.err}
		}
	}
	if s.Code() == codes.Unavailable { // the connection, not the engine
		return fmt.Errorf("ask the daemon: %s: %w", s.Message(), containerizer.ErrUnavailable)
	}
	return errors.New(s.Message())
}

// remote is an error of the other side: its words have the class in them already.
type remote struct {
	text  string
	class error
}

func (e *remote) Error() string { return e.text }
func (e *remote) Unwrap() error { return e.class }
