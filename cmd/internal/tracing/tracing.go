package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/stats"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

const (
	// queue is how many spans wait for the collector; further ones are dropped.
	queue = 4096
	// batchEvery is how long a span waits for others to go with.
	batchEvery = time.Second
	// exportTimeout is how long the collector may take for a batch.
	exportTimeout = 5 * time.Second
	// closePatience is how long the end of the daemon waits for the last spans.
	closePatience = time.Second
	// complainEvery bounds how often the log says that spans are lost.
	complainEvery = time.Minute
)

// Tracing is a connection to a collector.
type Tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

var _ containerizer.Tracer = (*Tracing)(nil)

// New returns a connection to the collector of c, which has an endpoint. It connects in
// the background. The caller closes it.
func New(ctx context.Context, c config.Tracing, version string, l *log.Logger) (*Tracing, error) {
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(c.Endpoint), otlptracegrpc.WithTimeout(exportTimeout)}
	if c.Insecure {
		options = append(options, otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("send traces to %q: %w", c.Endpoint, err)
	}
	ratio := 1.0
	if c.SampleRatio != nil {
		ratio = *c.SampleRatio
	}
	host, _ := os.Hostname() // "" is an answer, too
	p := sdk.NewTracerProvider(
		sdk.WithBatcher(exporter, sdk.WithMaxQueueSize(queue), sdk.WithBatchTimeout(batchEvery), sdk.WithExportTimeout(exportTimeout)),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(ratio))),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", cmp.Or(c.ServiceName, "berthd")), attribute.String("service.version", version),
			attribute.String("host.name", host), attribute.Int("process.pid", os.Getpid()),
		)),
	)
	complaints := &complaints{log: l}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(complaints.add)) // the library has no other place for it
	return &Tracing{provider: p, tracer: p.Tracer("github.com/berth-dev/berth")}, nil
}

// Server makes a span of each call of a server, in the trace of the client if that says
// so (W3C Trace Context). Those of who asks for health are left out.
func (t *Tracing) Server() stats.Handler {
	return otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithFilter(filters.Not(filters.HealthCheck())),
	)
}

// Span implements [containerizer.Tracer].
func (t *Tracing) Span(ctx context.Context, id containerizer.ContainerID, kind, name string) (inner context.Context, end func(error)) {
	attributes := []attribute.KeyValue{attribute.String("container.id", id.String())}
	title := kind
	if name != "" {
		title += " " + name
	}
	inner, span := t.tracer.Start(ctx, title, trace.WithAttributes(attributes...))
	return inner, func(err error) {
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// Close hands over what is left, if the collector is quick.
func (t *Tracing) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closePatience)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("hand over the last traces: %w", err)
	}
	return nil
}

// complaints are those of the library, few of which are told.
type complaints struct {
	log *log.Logger

	mu   sync.Mutex
	last time.Time
}

func (c *complaints) add(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.last) < complainEvery {
		return
	}
	c.last = time.Now()
	c.log.Warn("traces are lost", log.Error(err))
}
