package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	"github.com/berth-dev/berth/containerizer/log"
)

// Metrics are what a daemon counts (docs/daemon.md). They are made before the node,
// whose engine tells them of its steps.
type Metrics struct {
	registry   *prometheus.Registry
	operations *prometheus.HistogramVec
	steps      *prometheus.HistogramVec
	events     *prometheus.CounterVec
	calls      *prometheus.HistogramVec
	freed      prometheus.Counter
	pressure   *prometheus.GaugeVec
	available  *prometheus.GaugeVec
	refused    *prometheus.CounterVec

	mu      sync.Mutex
	current map[containerizer.ContainerID]step // of operations in progress
}

// step is one that an operation is at.
type step struct {
	name  string
	began time.Time
}

// NewMetrics returns metrics of nothing yet.
func NewMetrics() *Metrics {
	// From what a step takes to what a pull takes.
	buckets := prometheus.ExponentialBucketsRange(100e-6, 100, 19)
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "berth_operation_seconds", Help: "Operations on containers, by kind and outcome (ok, failed).", Buckets: buckets,
		}, []string{"operation", "outcome"}),
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "berth_step_seconds", Help: "Steps of operations, such as launch.isolator.", Buckets: buckets,
		}, []string{"step"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_events_total", Help: "What happened to containers, by whichever process.",
		}, []string{"type"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "berth_rpc_seconds", Help: "Calls of the API, streams until their end.", Buckets: buckets,
		}, []string{"method", "code"}),
		freed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "berth_images_removed_total", Help: "Images removed because the disk was too full.",
		}),
		pressure: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "berth_node_pressure", Help: "Whether the node is under pressure (1) or not (0), by condition.",
		}, []string{"condition"}),
		available: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "berth_node_available", Help: "What is available of the node: memory_bytes, disk_bytes, disk_inodes.",
		}, []string{"resource"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "berth_refused_total", Help: "What was refused: calls beyond the bound, launches under memory pressure.",
		}, []string{"reason"}),
		current: map[containerizer.ContainerID]step{},
	}
	m.registry.MustRegister(m.operations, m.steps, m.events, m.calls, m.freed, m.pressure, m.available, m.refused,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// OnStep is the engine's: an operation on id is about to do what is named.
func (m *Metrics) OnStep(id containerizer.ContainerID, name string) {
	m.next(id, step{name, time.Now()})
}

// OnRelieved is the store's: images were removed because the disk was too full.
func (m *Metrics) OnRelieved(images int) { m.freed.Add(float64(images)) }

// OnOperation is the engine's: an operation on id has ended.
func (m *Metrics) OnOperation(id containerizer.ContainerID, kind string, took time.Duration, err error) {
	m.next(id, step{})
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	m.operations.WithLabelValues(kind, outcome).Observe(took.Seconds())
}

// next puts an operation at its next step; none is its end.
func (m *Metrics) next(id containerizer.ContainerID, s step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if last, ok := m.current[id]; ok {
		m.steps.WithLabelValues(last.name).Observe(time.Since(last.began).Seconds())
	}
	if s.name == "" {
		delete(m.current, id)
		return
	}
	m.current[id] = s
}

func (m *Metrics) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	began := time.Now()
	response, err := handle(ctx, request)
	m.called(info.FullMethod, began, err)
	return response, err
}

func (m *Metrics) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	began := time.Now()
	err := handle(server, stream)
	m.called(info.FullMethod, began, err)
	return err
}

func (m *Metrics) called(method string, began time.Time, err error) {
	m.calls.WithLabelValues(method, status.Code(wire.Status(err)).String()).Observe(time.Since(began).Seconds())
}

// containers counts them when somebody asks.
type containers struct {
	engine containerizer.Engine
	log    *log.Logger

	states, owed *prometheus.Desc
}

func newContainers(e containerizer.Engine, l *log.Logger) *containers {
	return &containers{
		engine: e, log: l,
		states: prometheus.NewDesc("berth_containers", "Containers, by state.", []string{"state"}, nil),
		owed:   prometheus.NewDesc("berth_containers_owed", "Containers that hold what could not be released yet.", nil, nil),
	}
}

// Describe implements [prometheus.Collector].
func (c *containers) Describe(out chan<- *prometheus.Desc) {
	out <- c.states
	out <- c.owed
}

// Collect implements [prometheus.Collector].
func (c *containers) Collect(out chan<- prometheus.Metric) {
	all, err := c.engine.List(context.Background(), containerizer.Filter{}) // waits for nobody
	if err != nil {
		c.log.Warn("containers are not counted", log.Error(err))
		return
	}
	count, owed := map[containerizer.State]int{}, 0
	for i := range all {
		count[all[i].State]++
		if len(all[i].Owed) > 0 {
			owed++
		}
	}
	for _, s := range []containerizer.State{
		containerizer.StatePreparing, containerizer.StateCreated, containerizer.StateRunning, containerizer.StatePaused,
		containerizer.StateExited, containerizer.StateDestroying,
	} {
		out <- prometheus.MustNewConstMetric(c.states, prometheus.GaugeValue, float64(count[s]), string(s))
	}
	out <- prometheus.MustNewConstMetric(c.owed, prometheus.GaugeValue, float64(owed))
}
