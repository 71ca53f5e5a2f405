package grpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	grpcadapter "github.com/berth-dev/berth/containerizer/adapter/grpc"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// asItIs sends and receives messages as they are.
type asItIs struct{}

func (asItIs) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (asItIs) Unmarshal(b []byte, v any) error {
	*v.(*[]byte) = slices.Clone(b)
	return nil
}
func (asItIs) Name() string { return "proto" }

// method is one of the API.
type method struct {
	name   string
	stream grpc.StreamDesc
}

// serveFake serves the API over a node that does nothing.
func serveFake(tb testing.TB) (conn *grpc.ClientConn, methods []method) {
	tb.Helper()
	server := grpc.NewServer(grpc.UnaryInterceptor(grpcadapter.UnaryErrors), grpc.StreamInterceptor(grpcadapter.StreamErrors), grpc.MaxRecvMsgSize(maxFuzzed))
	(&grpcadapter.Server{Engine: fakeEngine{}, Images: fakeStore{}, Artifacts: fakeArtifacts{}, Daemon: fakeNode{}}).Register(server)
	for service, info := range server.GetServiceInfo() {
		for _, m := range info.Methods {
			methods = append(methods, method{"/" + service + "/" + m.Name, grpc.StreamDesc{ClientStreams: m.IsClientStream, ServerStreams: m.IsServerStream}})
		}
	}
	slices.SortFunc(methods, func(a, b method) int { return strings.Compare(a.name, b.name) })
	l := bufconn.Listen(1 << 20)
	go func() { _ = server.Serve(l) }() // ends with Stop
	tb.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:fake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn, methods
}

// maxFuzzed bounds messages, as berthd does.
const maxFuzzed = 8 << 20

// talk makes a call with messages and reads all answers.
func talk(ctx context.Context, conn *grpc.ClientConn, m *method, messages [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m.stream.StreamName = m.name
	s, err := conn.NewStream(ctx, &m.stream, m.name, grpc.ForceCodec(asItIs{}))
	if err != nil {
		return err
	}
	for i := range messages {
		if err := s.SendMsg(&messages[i]); err != nil {
			break // the answer says why
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		var answer []byte
		if err := s.RecvMsg(&answer); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// right says whether a code may answer what no client of ours would send.
func right(err error) bool {
	s := status.Convert(err)
	switch s.Code() {
	case codes.OK, codes.InvalidArgument, codes.NotFound, codes.Unimplemented, codes.Unavailable:
		return true
	case codes.Internal: // it is no message at all, says the library
		return strings.Contains(s.Message(), "unmarshal")
	default:
		return false
	}
}

// FuzzAPI sends bytes to every method: nothing panics, takes much memory, hangs or
// answers with a code that says that it is our fault.
func FuzzAPI(f *testing.F) {
	conn, methods := serveFake(f)
	seeds := []proto.Message{
		&berthv1.LaunchRequest{Id: "c", Spec: &berthv1.Spec{Name: "a", Process: &berthv1.Process{Args: [][]byte{[]byte("x")}}}},
		&berthv1.StopRequest{Id: "none"},
		&berthv1.ConnectRequest{Message: &berthv1.ConnectRequest_Exec{Exec: &berthv1.ConnectExec{Id: "c", Process: &berthv1.Process{}, Streams: &berthv1.Streams{Stdin: true, Stdout: true}}}},
		&berthv1.ConnectRequest{Message: &berthv1.ConnectRequest_Stdin{Stdin: []byte("input")}},
		&berthv1.ListRequest{Labels: map[string]string{"a": "b"}},
	}
	for i := range methods {
		f.Add(uint8(i), uint8(0), []byte{}, []byte{0xff, 0xff, 0xff})
		for _, m := range seeds {
			b, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), uint8(2), b, b)
		}
	}
	f.Fuzz(func(t *testing.T, which, times uint8, first, rest []byte) {
		m := methods[int(which)%len(methods)]
		messages := [][]byte{first}
		if m.stream.ClientStreams {
			for range times % 8 {
				messages = append(messages, rest)
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := talk(t.Context(), conn, &m, messages)
		runtime.ReadMemStats(&after)
		if !right(err) {
			t.Errorf("%s answers %v", m.name, err)
		}
		const most = 32 << 20
		if used := after.TotalAlloc - before.TotalAlloc; used > most {
			t.Errorf("%s took %d bytes of memory for %d and %d times %d", m.name, used, len(first), times%8, len(rest))
		}
	})
}

// TestAPIBounds: a message that is too large is refused before it is read.
func TestAPIBounds(t *testing.T) {
	conn, methods := serveFake(t)
	large := make([]byte, maxFuzzed+1)
	for i := range methods {
		if err := talk(t.Context(), conn, &methods[i], [][]byte{large}); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s with a message of %d bytes answers %v", methods[i].name, len(large), err)
		}
	}
	if len(methods) < 40 {
		t.Errorf("only %d methods: %s", len(methods), fmt.Sprint(methods))
	}
}
