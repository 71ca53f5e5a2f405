package cri

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// metric is one of the kubelet's metrics of containers, under the names of cAdvisor.
type metric struct {
	name, help string
	labels     []string // besides commonLabels
	counter    bool
	pod        bool // of the pod, not of its containers
	values     func(*measured, item) []sample
}

// measured is what there is to be told of a container.
type measured struct {
	*containerizer.Usage
	node *nodeFS
	open *openFiles
}

// sample is a value, with values of the metric's own labels.
type sample struct {
	labels []string
	value  uint64
}

// commonLabels are on all metrics.
//
//nolint:gochecknoglobals // a constant
var commonLabels = []string{"id", "name", "image", "pod", "namespace", "container"}

func one(v uint64) []sample { return []sample{{nil, v}} }

func cpu(f func(*containerizer.CPUUsage) uint64) func(*measured, item) []sample {
	return func(u *measured, _ item) []sample {
		if u.CPU == nil {
			return nil
		}
		return one(f(u.CPU))
	}
}

func memory(f func(*containerizer.MemoryUsage) uint64) func(*measured, item) []sample {
	return func(u *measured, _ item) []sample {
		if u.Memory == nil {
			return nil
		}
		return one(f(u.Memory))
	}
}

func network(f func(*containerizer.NetworkUsage) uint64) func(*measured, item) []sample {
	return func(u *measured, _ item) []sample {
		var out []sample
		for n := range u.Network {
			if u.Network[n].Interface != "lo" {
				out = append(out, sample{[]string{u.Network[n].Interface}, f(&u.Network[n])})
			}
		}
		return out
	}
}

// seconds rounds down: the interface has whole numbers only.
func seconds[T ~int64](d T) uint64 { return uint64(max(d, 0)) / 1e9 }

// metricsList are all of them. What the node does not measure is not listed.
func metricsList() []metric {
	iface, device := []string{"interface"}, []string{"device"}
	return slices.Concat(openMetrics(), diskMetrics(), pressureMetrics(), []metric{
		{"container_cpu_usage_seconds_total", "Processor time, in seconds.", nil, true, false, cpu(func(c *containerizer.CPUUsage) uint64 { return seconds(c.Total) })},
		{"container_cpu_user_seconds_total", "Processor time in user mode, in seconds.", nil, true, false, cpu(func(c *containerizer.CPUUsage) uint64 { return seconds(c.User) })},
		{"container_cpu_system_seconds_total", "Processor time in the kernel, in seconds.", nil, true, false, cpu(func(c *containerizer.CPUUsage) uint64 { return seconds(c.System) })},
		{"container_cpu_cfs_periods_total", "Enforcement periods that have passed.", nil, true, false, cpu(func(c *containerizer.CPUUsage) uint64 { return c.Periods })},
		{"container_cpu_cfs_throttled_periods_total", "Periods in which it was throttled.", nil, true, false, cpu(func(c *containerizer.CPUUsage) uint64 { return c.ThrottledPeriods })},
		{"container_cpu_cfs_throttled_seconds_total", "Time throttled, in seconds.", nil, true, false, cpu(func(c *containerizer.CPUUsage) uint64 { return seconds(c.Throttled) })},
		{"container_memory_usage_bytes", "Memory, the file cache included.", nil, false, false, memory(func(m *containerizer.MemoryUsage) uint64 { return m.Bytes })},
		{"container_memory_working_set_bytes", "Memory without the inactive file cache.", nil, false, false, memory(func(m *containerizer.MemoryUsage) uint64 { return m.WorkingSetBytes })},
		{"container_memory_rss", "Anonymous memory.", nil, false, false, memory(func(m *containerizer.MemoryUsage) uint64 { return m.RSSBytes })},
		{"container_memory_cache", "File cache.", nil, false, false, memory(func(m *containerizer.MemoryUsage) uint64 { return m.CacheBytes })},
		{"container_memory_swap", "Swapped memory.", nil, false, false, memory(func(m *containerizer.MemoryUsage) uint64 { return m.SwapBytes })},
		{"container_memory_max_usage_bytes", "The most memory it has had.", nil, false, false, memory(func(m *containerizer.MemoryUsage) uint64 { return m.PeakBytes })},
		{"container_memory_failures_total", "Page faults.", []string{"failure_type", "scope"}, true, false, pageFaults},
		{"container_oom_events_total", "Processes that the OOM killer ended.", nil, true, false, memory(func(m *containerizer.MemoryUsage) uint64 { return m.OOMKills })},
		{"container_spec_memory_limit_bytes", "The memory limit; 0 is none.", nil, false, false, memory(func(m *containerizer.MemoryUsage) uint64 { return m.LimitBytes })},
		{"container_memory_failcnt", "How often the memory limit was in the way.", nil, true, false, memory(func(m *containerizer.MemoryUsage) uint64 { return m.LimitHits })},
		{"container_memory_mapped_file", "Files mapped into memory.", nil, false, false, memory(func(m *containerizer.MemoryUsage) uint64 { return m.MappedFileBytes })},
		{"container_memory_kernel_usage", "Memory of the kernel for it, where the kernel tells.", nil, false, false, func(u *measured, _ item) []sample {
			if u.Memory == nil {
				return nil
			}
			return optional(u.Memory.KernelBytes)
		}},
		{"container_spec_memory_swap_limit_bytes", "The limit of swap; 0 is none.", nil, false, false, memory(func(m *containerizer.MemoryUsage) uint64 { return orNone(m.SwapLimitBytes) })},
		{"container_spec_cpu_period", "The CPU period, in microseconds.", nil, false, false, func(_ *measured, i item) []sample {
			return one(uint64(max(applied(&i.status.Spec.Resources.Linux, nil).GetLinux().GetCpuPeriod(), 0))) //nolint:gosec // not negative
		}},
		{"container_spec_cpu_shares", "The CPU shares.", nil, false, false, func(_ *measured, i item) []sample {
			return one(uint64(max(applied(&i.status.Spec.Resources.Linux, nil).GetLinux().GetCpuShares(), 0))) //nolint:gosec // not negative
		}},
		{"container_fs_reads_bytes_total", "Bytes read from block devices.", device, true, false, blockIO(func(d *containerizer.DeviceIO) uint64 { return d.ReadBytes })},
		{"container_fs_reads_total", "Reads from block devices.", device, true, false, blockIO(func(d *containerizer.DeviceIO) uint64 { return d.Reads })},
		{"container_fs_writes_bytes_total", "Bytes written to block devices.", device, true, false, blockIO(func(d *containerizer.DeviceIO) uint64 { return d.WriteBytes })},
		{"container_fs_writes_total", "Writes to block devices.", device, true, false, blockIO(func(d *containerizer.DeviceIO) uint64 { return d.Writes })},
		{"container_threads", "Threads.", nil, false, false, func(u *measured, _ item) []sample {
			if u.PIDs == nil {
				return nil
			}
			return one(u.PIDs.Current)
		}},
		{"container_threads_max", "The limit of threads; 0 is none.", nil, false, false, func(u *measured, _ item) []sample {
			if u.PIDs == nil {
				return nil
			}
			return one(u.PIDs.Limit)
		}},
		{"container_start_time_seconds", "When it was started, in seconds of Unix time.", nil, false, false, func(_ *measured, i item) []sample {
			return one(uint64(max(i.status.StartedAt.Unix(), 0))) //nolint:gosec // not negative
		}},
		{"container_last_seen", "When it was last seen, in seconds of Unix time.", nil, false, false, func(u *measured, _ item) []sample {
			return one(uint64(max(u.At.Unix(), 0))) //nolint:gosec // not negative
		}},
		{"container_network_receive_bytes_total", "Bytes received.", iface, true, true, network(func(n *containerizer.NetworkUsage) uint64 { return n.RxBytes })},
		{"container_network_receive_packets_total", "Packets received.", iface, true, true, network(func(n *containerizer.NetworkUsage) uint64 { return n.RxPackets })},
		{"container_network_receive_errors_total", "Errors while receiving.", iface, true, true, network(func(n *containerizer.NetworkUsage) uint64 { return n.RxErrors })},
		{"container_network_receive_packets_dropped_total", "Packets dropped while receiving.", iface, true, true, network(func(n *containerizer.NetworkUsage) uint64 { return n.RxDropped })},
		{"container_network_transmit_bytes_total", "Bytes sent.", iface, true, true, network(func(n *containerizer.NetworkUsage) uint64 { return n.TxBytes })},
		{"container_network_transmit_packets_total", "Packets sent.", iface, true, true, network(func(n *containerizer.NetworkUsage) uint64 { return n.TxPackets })},
		{"container_network_transmit_errors_total", "Errors while sending.", iface, true, true, network(func(n *containerizer.NetworkUsage) uint64 { return n.TxErrors })},
		{"container_network_transmit_packets_dropped_total", "Packets dropped while sending.", iface, true, true, network(func(n *containerizer.NetworkUsage) uint64 { return n.TxDropped })},
	})
}

func pageFaults(u *measured, _ item) []sample {
	if u.Memory == nil {
		return nil
	}
	return []sample{{[]string{"pgfault", "container"}, u.Memory.PageFaults}, {[]string{"pgmajfault", "container"}, u.Memory.MajorPageFaults}}
}

// ListMetricDescriptors tells which metrics there are.
func (*runtimeService) ListMetricDescriptors(context.Context, *runtimeapi.ListMetricDescriptorsRequest) (*runtimeapi.ListMetricDescriptorsResponse, error) {
	r := &runtimeapi.ListMetricDescriptorsResponse{}
	for _, m := range metricsList() {
		r.Descriptors = append(r.Descriptors, &runtimeapi.MetricDescriptor{Name: m.name, Help: m.help, LabelKeys: slices.Concat(commonLabels, m.labels)})
	}
	return r, nil
}

// ListPodSandboxMetrics returns the metrics of all pods that are ready.
func (s *runtimeService) ListPodSandboxMetrics(ctx context.Context, _ *runtimeapi.ListPodSandboxMetricsRequest) (*runtimeapi.ListPodSandboxMetricsResponse, error) {
	list, err := s.podMetrics(ctx)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ListPodSandboxMetricsResponse{PodMetrics: list}, nil
}

// StreamPodSandboxMetrics is ListPodSandboxMetrics in parts.
func (s *runtimeService) StreamPodSandboxMetrics(_ *runtimeapi.StreamPodSandboxMetricsRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxMetricsResponse]) error {
	list, err := s.podMetrics(stream.Context())
	return inBatches(list, err, func(part []*runtimeapi.PodSandboxMetrics) error {
		return stream.Send(&runtimeapi.StreamPodSandboxMetricsResponse{PodSandboxMetrics: part})
	})
}

func (s *Server) podMetrics(ctx context.Context) ([]*runtimeapi.PodSandboxMetrics, error) {
	items, err := s.index.all(ctx, "")
	if err != nil {
		return nil, err
	}
	list, node := metricsList(), newNodeFS(s.o.ImageDir)
	pods := map[containerizer.ContainerID]*runtimeapi.PodSandboxMetrics{}
	configs := map[containerizer.ContainerID]item{}
	var out []*runtimeapi.PodSandboxMetrics
	for _, i := range items { // a pod comes before its containers
		if !alive(i) {
			continue
		}
		u := &measured{Usage: s.usageOf(ctx, i.status.ID), node: node}
		if i.record.pod != nil {
			m := &runtimeapi.PodSandboxMetrics{PodSandboxId: string(i.status.ID), Metrics: measure(list, u, i, i, true)}
			pods[i.status.ID], configs[i.status.ID] = m, i
			out = append(out, m)
			continue
		}
		if m := pods[i.status.ID.Root()]; m != nil {
			if pids, err := s.o.Engine.Processes(ctx, i.status.ID); err == nil { // it may have ended
				u.open = countOpenFiles(pids)
			}
			m.ContainerMetrics = append(m.ContainerMetrics, &runtimeapi.ContainerMetrics{
				ContainerId: i.status.ID.Base(), Metrics: measure(list, u, i, configs[i.status.ID.Root()], false),
			})
		}
	}
	return out, nil
}

// measure takes the metrics of a pod, or of a container in it.
func measure(list []metric, u *measured, i, pod item, ofPod bool) []*runtimeapi.Metric { //nolint:revive // two kinds
	meta := pod.record.pod.GetConfig().GetMetadata()
	labels := []string{string(i.status.ID), "", "", meta.GetName(), meta.GetNamespace(), ""}
	if c := i.record.container; c != nil {
		name := c.GetConfig().GetMetadata().GetName()
		labels[1], labels[2], labels[5] = name, c.GetConfig().GetImage().GetUserSpecifiedImage(), name
	}
	var out []*runtimeapi.Metric
	for _, m := range list {
		if m.pod != ofPod {
			continue
		}
		kind := runtimeapi.MetricType_GAUGE
		if m.counter {
			kind = runtimeapi.MetricType_COUNTER
		}
		for _, v := range m.values(u, i) {
			out = append(out, &runtimeapi.Metric{
				Name: m.name, Timestamp: u.At.UnixNano(), MetricType: kind,
				LabelValues: slices.Concat(labels, v.labels), Value: number(v.value),
			})
		}
	}
	return out
}
