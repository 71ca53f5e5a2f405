package cri

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	crierrors "k8s.io/cri-api/pkg/errors"

	"github.com/berth-dev/berth/containerizer"
)

// maxMessage bounds the message of an error: it travels in a header.
const maxMessage = 4 << 10

// code is the code of err for a kubelet, which acts upon NotFound, Unimplemented and
// DeadlineExceeded, and shows the rest.
func code(err error) codes.Code {
	for _, c := range []struct {
		class error
		code  codes.Code
	}{
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
		{containerizer.ErrUntrusted, codes.Unknown},
		{containerizer.ErrCommandNotFound, codes.FailedPrecondition},
		{containerizer.ErrCommandNotExecutable, codes.FailedPrecondition},
		{containerizer.ErrNotFound, codes.NotFound},
		{containerizer.ErrAlreadyExists, codes.AlreadyExists},
		{containerizer.ErrInvalid, codes.InvalidArgument},
		// Not Unimplemented: by that, callers know calls that do not exist at all.
		{containerizer.ErrUnsupported, codes.FailedPrecondition},
		{containerizer.ErrFailedPrecondition, codes.FailedPrecondition},
		{containerizer.ErrPermission, codes.PermissionDenied},
		{containerizer.ErrUnavailable, codes.Unavailable},
		{containerizer.ErrResourceExhausted, codes.ResourceExhausted},
		{containerizer.ErrDataCorrupt, codes.DataLoss},
	} {
		if errors.Is(err, c.class) {
			return c.code
		}
	}
	return codes.Unknown
}

// statusOf returns err as a status.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	if _, is := status.FromError(err); is {
		return err
	}
	return status.Error(code(err), shorten(err.Error()))
}

func shorten(text string) string {
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
	}
	return text
}

// pullError gives the errors of pulls the words by which a kubelet knows them: it reads
// the beginning of the message, of errors of code Unknown.
func pullError(err error) error {
	switch {
	case errors.Is(err, containerizer.ErrUntrusted):
		return status.Error(codes.Unknown, shorten(crierrors.ErrSignatureValidationFailed.Error()+": "+err.Error()))
	case errors.Is(err, containerizer.ErrUnavailable):
		return status.Error(codes.Unknown, shorten(crierrors.ErrRegistryUnavailable.Error()+": "+err.Error()))
	}
	return err
}

// UnaryErrors gives the errors of methods their codes.
func UnaryErrors(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	response, err := handle(ctx, request)
	return response, statusOf(err)
}

// StreamErrors is UnaryErrors for streams.
func StreamErrors(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return statusOf(handle(server, stream))
}

// missing says that a thing does not exist, which is success for whoever wants it gone.
func missing(err error) bool { return errors.Is(err, containerizer.ErrNotFound) }

// unimplemented says that there is no such call here.
func unimplemented(call string) error {
	return status.Error(codes.Unimplemented, call+" is not implemented by berth")
}
