package cri

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// ContainerStats tells what a container uses.
func (s *runtimeService) ContainerStats(ctx context.Context, r *runtimeapi.ContainerStatsRequest) (*runtimeapi.ContainerStatsResponse, error) {
	i, err := s.index.container(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ContainerStatsResponse{Stats: s.containerStats(i, s.usageOf(ctx, i.status.ID))}, nil
}

// ListContainerStats is ContainerStats of those that run.
func (s *runtimeService) ListContainerStats(ctx context.Context, r *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	list, err := s.allContainerStats(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ListContainerStatsResponse{Stats: list}, nil
}

// StreamContainerStats is ListContainerStats in parts.
func (s *runtimeService) StreamContainerStats(r *runtimeapi.StreamContainerStatsRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamContainerStatsResponse]) error {
	list, err := s.allContainerStats(stream.Context(), r.GetFilter())
	return inBatches(list, err, func(part []*runtimeapi.ContainerStats) error {
		return stream.Send(&runtimeapi.StreamContainerStatsResponse{ContainerStats: part})
	})
}

func (s *Server) allContainerStats(ctx context.Context, f *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	items, err := s.index.all(ctx, "")
	if err != nil {
		return nil, err
	}
	out := []*runtimeapi.ContainerStats{}
	for _, i := range items {
		if i.record.container == nil || !alive(i) || !strings.HasPrefix(i.status.ID.Base(), f.GetId()) ||
			!strings.HasPrefix(string(i.status.ID.Root()), f.GetPodSandboxId()) || !hasLabels(i.record.container.GetConfig().GetLabels(), f.GetLabelSelector()) {
			continue
		}
		out = append(out, s.containerStats(i, s.usageOf(ctx, i.status.ID)))
	}
	return out, nil
}

// usageOf is what a container uses; of one that has ended or is going that is nothing.
func (s *Server) usageOf(ctx context.Context, id containerizer.ContainerID) *containerizer.Usage {
	u, err := s.o.Engine.Usage(ctx, id)
	if err != nil {
		return &containerizer.Usage{At: time.Now()}
	}
	return u
}

func (s *Server) containerStats(i item, u *containerizer.Usage) *runtimeapi.ContainerStats {
	config, at := i.record.container.GetConfig(), u.At.UnixNano()
	stats := &runtimeapi.ContainerStats{
		Attributes: &runtimeapi.ContainerAttributes{Id: i.status.ID.Base(), Metadata: config.GetMetadata(), Labels: config.GetLabels(), Annotations: config.GetAnnotations()},
		Cpu:        cpuStats(u), Memory: memoryStats(u), Io: ioStats(u),
		WritableLayer: &runtimeapi.FilesystemUsage{
			Timestamp: at, FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: s.o.ImageDir},
			UsedBytes: &runtimeapi.UInt64Value{}, InodesUsed: &runtimeapi.UInt64Value{},
		},
	}
	if d := u.Disk; d != nil {
		stats.WritableLayer.UsedBytes.Value, stats.WritableLayer.InodesUsed.Value = d.Bytes, d.Inodes
	}
	if m := u.Memory; m != nil {
		stats.Swap = &runtimeapi.SwapUsage{Timestamp: at, SwapUsageBytes: number(m.SwapBytes)}
	}
	return stats
}

func number(n uint64) *runtimeapi.UInt64Value { return &runtimeapi.UInt64Value{Value: n} }

func cpuStats(u *containerizer.Usage) *runtimeapi.CpuUsage {
	out := &runtimeapi.CpuUsage{Timestamp: u.At.UnixNano(), UsageCoreNanoSeconds: number(0)}
	if c := u.CPU; c != nil {
		out.UsageCoreNanoSeconds.Value = uint64(max(c.Total, 0)) //nolint:gosec // not negative
		out.Psi = psi(c.Pressure)
	}
	return out
}

func memoryStats(u *containerizer.Usage) *runtimeapi.MemoryUsage {
	out := &runtimeapi.MemoryUsage{Timestamp: u.At.UnixNano(), WorkingSetBytes: number(0)}
	m := u.Memory
	if m == nil {
		return out
	}
	out.WorkingSetBytes.Value = m.WorkingSetBytes
	out.UsageBytes, out.RssBytes = number(m.Bytes), number(m.RSSBytes)
	out.PageFaults, out.MajorPageFaults = number(m.PageFaults), number(m.MajorPageFaults)
	if m.LimitBytes > 0 {
		out.AvailableBytes = number(m.LimitBytes - min(m.WorkingSetBytes, m.LimitBytes))
	}
	out.Psi = psi(m.Pressure)
	return out
}

func ioStats(u *containerizer.Usage) *runtimeapi.IoUsage {
	if u.IO == nil {
		return nil
	}
	return &runtimeapi.IoUsage{Timestamp: u.At.UnixNano(), Psi: psi(u.IO.Pressure)}
}

// psi is pressure as CRI has it: totals in nanoseconds.
func psi(p *containerizer.Pressure) *runtimeapi.PsiStats {
	if p == nil {
		return nil
	}
	line := func(l containerizer.PressureLine) *runtimeapi.PsiData {
		return &runtimeapi.PsiData{Total: uint64(max(l.Total, 0)), Avg10: l.Avg10, Avg60: l.Avg60, Avg300: l.Avg300} //nolint:gosec // not negative
	}
	return &runtimeapi.PsiStats{Some: line(p.Some), Full: line(p.Full)}
}

// PodSandboxStats tells what a pod uses.
func (s *runtimeService) PodSandboxStats(ctx context.Context, r *runtimeapi.PodSandboxStatsRequest) (*runtimeapi.PodSandboxStatsResponse, error) {
	i, err := s.index.sandbox(ctx, r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	stats, err := s.podStats(ctx, i)
	if err != nil {
		return nil, err
	}
	return &runtimeapi.PodSandboxStatsResponse{Stats: stats}, nil
}

// ListPodSandboxStats is PodSandboxStats of those that are ready.
func (s *runtimeService) ListPodSandboxStats(ctx context.Context, r *runtimeapi.ListPodSandboxStatsRequest) (*runtimeapi.ListPodSandboxStatsResponse, error) {
	list, err := s.allPodStats(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ListPodSandboxStatsResponse{Stats: list}, nil
}

// StreamPodSandboxStats is ListPodSandboxStats in parts.
func (s *runtimeService) StreamPodSandboxStats(r *runtimeapi.StreamPodSandboxStatsRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamPodSandboxStatsResponse]) error {
	list, err := s.allPodStats(stream.Context(), r.GetFilter())
	return inBatches(list, err, func(part []*runtimeapi.PodSandboxStats) error {
		return stream.Send(&runtimeapi.StreamPodSandboxStatsResponse{PodSandboxStats: part})
	})
}

func (s *Server) allPodStats(ctx context.Context, f *runtimeapi.PodSandboxStatsFilter) ([]*runtimeapi.PodSandboxStats, error) {
	items, err := s.index.all(ctx, "")
	if err != nil {
		return nil, err
	}
	out := []*runtimeapi.PodSandboxStats{}
	for _, i := range items {
		if i.record.pod == nil || !alive(i) || !strings.HasPrefix(string(i.status.ID), f.GetId()) || !hasLabels(i.record.pod.GetConfig().GetLabels(), f.GetLabelSelector()) {
			continue
		}
		stats, err := s.podStats(ctx, i)
		if err != nil {
			return nil, err
		}
		out = append(out, stats)
	}
	return out, nil
}

// podStats adds up what the containers of a pod use: with cgroup version 1 there is no
// group around them that is ours.
func (s *Server) podStats(ctx context.Context, i item) (*runtimeapi.PodSandboxStats, error) {
	config, own := i.record.pod.GetConfig(), s.usageOf(ctx, i.status.ID)
	at := own.At.UnixNano()
	linux := &runtimeapi.LinuxPodSandboxStats{Cpu: cpuStats(own), Memory: memoryStats(own), Io: ioStats(own), Process: &runtimeapi.ProcessUsage{Timestamp: at, ProcessCount: number(0)}}
	linux.Network = networkStats(own)
	items, err := s.index.all(ctx, i.status.ID)
	if err != nil {
		return nil, err
	}
	for _, c := range items {
		if c.record.container == nil || !alive(c) {
			continue
		}
		u := s.usageOf(ctx, c.status.ID)
		stats := s.containerStats(c, u)
		linux.Containers = append(linux.Containers, stats)
		linux.Cpu.UsageCoreNanoSeconds.Value += stats.GetCpu().GetUsageCoreNanoSeconds().GetValue()
		addMemory(linux.GetMemory(), stats.GetMemory())
		if u.PIDs != nil {
			linux.Process.ProcessCount.Value += u.PIDs.Current
		}
	}
	return &runtimeapi.PodSandboxStats{
		Attributes: &runtimeapi.PodSandboxAttributes{Id: string(i.status.ID), Metadata: config.GetMetadata(), Labels: config.GetLabels(), Annotations: config.GetAnnotations()},
		Linux:      linux,
	}, nil
}

func addMemory(to, m *runtimeapi.MemoryUsage) {
	to.WorkingSetBytes = number(to.GetWorkingSetBytes().GetValue() + m.GetWorkingSetBytes().GetValue())
	to.UsageBytes = number(to.GetUsageBytes().GetValue() + m.GetUsageBytes().GetValue())
	to.RssBytes = number(to.GetRssBytes().GetValue() + m.GetRssBytes().GetValue())
	to.PageFaults = number(to.GetPageFaults().GetValue() + m.GetPageFaults().GetValue())
	to.MajorPageFaults = number(to.GetMajorPageFaults().GetValue() + m.GetMajorPageFaults().GetValue())
}

func networkStats(u *containerizer.Usage) *runtimeapi.NetworkUsage {
	out := &runtimeapi.NetworkUsage{Timestamp: u.At.UnixNano()}
	for _, n := range u.Network {
		if n.Interface == "lo" {
			continue
		}
		one := &runtimeapi.NetworkInterfaceUsage{
			Name: n.Interface, RxBytes: number(n.RxBytes), RxErrors: number(n.RxErrors), TxBytes: number(n.TxBytes), TxErrors: number(n.TxErrors),
		}
		if out.GetDefaultInterface() == nil {
			out.DefaultInterface = one
			continue
		}
		out.Interfaces = append(out.Interfaces, one)
	}
	return out
}
