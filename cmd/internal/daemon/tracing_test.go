package daemon_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/cmd/internal/daemon"
	"github.com/berth-dev/berth/cmd/internal/tracing"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

// spans is a collector of traces.
type spans struct {
	collector.UnimplementedTraceServiceServer

	mu  sync.Mutex
	all []*v1.Span
	// of says what sent them.
	of map[string]string
}

// Export implements [collector.TraceServiceServer].
func (s *spans) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range r.GetResourceSpans() {
		for _, a := range resource.GetResource().GetAttributes() {
			s.of[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range resource.GetScopeSpans() {
			s.all = append(s.all, scope.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// trace are the spans of one trace, each with the names of those it is a part of,
// outermost first.
func (s *spans) trace(id string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	byID := map[string]*v1.Span{}
	for _, span := range s.all {
		if fmt.Sprintf("%x", span.GetTraceId()) == id {
			byID[string(span.GetSpanId())] = span
		}
	}
	var paths []string
	for _, span := range byID {
		var names []string
		for at := span; at != nil; at = byID[string(at.GetParentSpanId())] {
			names = append(names, at.GetName())
		}
		slices.Reverse(names)
		paths = append(paths, strings.Join(names, " > "))
	}
	slices.Sort(paths)
	return paths
}

// collect starts a collector.
func collect(t *testing.T) (address string, s *spans) {
	t.Helper()
	s = &spans{of: map[string]string{}}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, s)
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(l) }() // ends with Stop
	t.Cleanup(server.Stop)
	return l.Addr().String(), s
}

// traced is a daemon's setup with traces, as berthd wires it.
func traced(t *testing.T, c config.Tracing) (s setup, end func()) {
	t.Helper()
	tr, err := tracing.New(t.Context(), c, "test", log.Nop())
	if err != nil {
		t.Fatal(err)
	}
	s = setup{
		config:  func(cfg *config.Config) { cfg.Tracing = c },
		parts:   func(p *wiring.Parts) { p.Tracer = tr },
		options: func(o *daemon.Options) { o.Tracing = tr.Server() },
	}
	return s, func() {
		if err := tr.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Logf("Close = %v", err)
		}
	}
}

// TestTraces: a launch is traced from the client's call down to the program.
func TestTraces(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	n := newCrashNode(t)
	address, got := collect(t)
	s, end := traced(t, config.Tracing{Endpoint: address, Insecure: true, ServiceName: "node7"})
	l := serveLive(t, n.dir, s)
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+trace+"-"+parent+"-01")
	e := l.client.Containers
	if _, err := e.Launch(ctx, "traced", n.spec("sleep 1000"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.Destroy(ctx, "traced"); err != nil {
		t.Fatal(err)
	}
	l.stop() // a call's span ends after its answer
	end()
	const call, gone = "berth.v1.ContainersService/Launch > launch", "berth.v1.ContainersService/Destroy > destroy"
	paths := got.trace(trace)
	for _, want := range []string{
		call, call + " > isolator cgroups", call + " > isolator filesystem/linux", call + " > process", call + " > process > monitor",
		call + " > process > compile", call + " > process > program", gone, gone + " > release isolator > isolator cgroups",
	} {
		if !slices.Contains(paths, want) {
			t.Errorf("no span %q; there are\n%s", want, strings.Join(paths, "\n"))
		}
	}
	if got.of["service.name"] != "node7" || got.of["service.version"] != "test" {
		t.Errorf("the spans are of %q", got.of)
	}
	got.mu.Lock()
	defer got.mu.Unlock()
	for _, span := range got.all {
		if span.GetName() == "berth.v1.ContainersService/Launch" && fmt.Sprintf("%x", span.GetParentSpanId()) != parent {
			t.Errorf("the call's parent is %x, want the client's span", span.GetParentSpanId())
		}
		if span.GetEndTimeUnixNano() < span.GetStartTimeUnixNano() {
			t.Errorf("span %q ends before it begins", span.GetName())
		}
	}
}

// TestTracesToNobody: a collector that is dead, or takes connections and says nothing,
// delays nothing.
func TestTracesToNobody(t *testing.T) {
	hangs, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close() //nolint:errcheck // it has served
	for name, address := range map[string]string{"dead": freePort(t), "hangs": hangs.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			s, end := traced(t, config.Tracing{Endpoint: address, Insecure: true})
			l := serveLive(t, "", s)
			began := time.Now()
			for range 6000 { // more than wait for the collector
				if _, err := l.client.Containers.ResolveID(t.Context(), "none"); err == nil {
					t.Fatal("there is a container")
				}
			}
			calls := time.Since(began)
			began = time.Now()
			end()
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the end took %s", took)
			}
			t.Logf("6000 calls took %s", calls)
			if calls > 2*time.Minute {
				t.Errorf("the calls took %s", calls)
			}
		})
	}
}
