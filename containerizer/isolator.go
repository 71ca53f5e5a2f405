package containerizer

import (
	"context"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Container is what isolators, the provisioner and the launcher are told of one
// container. It is read-only for them and valid for one call.
type Container struct {
	ID   ContainerID
	Spec *Spec
	// Parent is nil for a root. Its Ledger shows what the calling isolator acquired for
	// it, and records nothing.
	Parent *Container
	// ImageConfig is the configuration of the container's image; nil without image.
	ImageConfig *v1.ImageConfig
	// Rootfs is what the provisioner made; nil when the container shares its
	// parent's or has none.
	Rootfs *Rootfs
	// Launch is the merged launch information of the isolators before this one;
	// for Isolate, and in a Parent, of all of them. nil in other calls.
	Launch *LaunchInfo
	// Dir is a private directory of the container on the state filesystem (0700);
	// an isolator that keeps files makes a folder there called as its family. It
	// goes with the container.
	Dir string
	// Ledger records acquisitions of the calling isolator.
	Ledger Ledger
	// NamespacePath returns a path that opens the namespace of kind t of a running
	// container, such as "/proc/123/ns/net". Errors: ErrNotFound,
	// ErrFailedPrecondition when it does not run.
	NamespacePath func(id ContainerID, t specs.LinuxNamespaceType) (string, error)
}

// Ledger is the write-ahead record of what was acquired for one container by one
// owner. An entry written before the resource exists outlives the death of every
// process of berth; after a crash, Cleanup finds it. Safe for concurrent use.
type Ledger interface {
	// Acquire records that the resource (kind, name) is about to be acquired. It is
	// idempotent. kind and name are free of control characters.
	Acquire(kind, name string) error
	// Release records that the resource is gone; a no-op for an unknown one.
	Release(kind, name string) error
	// Held lists the names of kind acquired and not released, in order.
	Held(kind string) []string
}

// Isolator gives containers one kind of isolation. The engine calls Prepare in
// the configured order before the process exists, and Cleanup in reverse order
// after it is gone. Calls for one container never overlap; calls for different
// containers do.
type Isolator interface {
	// Name is the isolator's name in configuration, such as "cgroups" or "network/cni".
	Name() string
	// Prepare acquires what the container needs, each thing recorded in c.Ledger
	// first, and says how to launch it; nil is nothing to say. After an error or a
	// crash the engine still calls Cleanup. It is called again, after a Cleanup,
	// when the container is started again. Errors: ErrInvalid for a spec it cannot
	// honour, ErrUnsupported for one that this node cannot.
	Prepare(ctx context.Context, c *Container) (*LaunchInfo, error)
	// Cleanup releases everything held for c. It is idempotent, works from c.ID and
	// c.Ledger alone (Spec may be nil after damage), and is a no-op for a container
	// it never saw. The engine retries it until it succeeds.
	Cleanup(ctx context.Context, c *Container) error
}

// ProcessIsolator is implemented by isolators that act on the process or its
// namespaces while it is held at the barrier (LaunchInfo.Barrier). After an error
// the launch is undone.
type ProcessIsolator interface {
	Isolate(ctx context.Context, c *Container, pid int) error
}

// Adjuster is implemented by isolators that speak for others who may change what a
// container is to be, or forbid it (isolators/nri).
type Adjuster interface {
	// Adjust returns the description to go on with, c.Spec if nothing changes; it writes
	// to neither. It is called once c.Spec is complete, Rootfs is there, and before any
	// isolator prepares. After an error the launch is undone.
	Adjust(ctx context.Context, c *Container) (*Spec, error)
	// AdjustUpdate is asked before an Update of a container that runs, likewise.
	AdjustUpdate(ctx context.Context, c *Container, r *Resources) (*Resources, error)
}

// Starter is implemented by isolators that are asked before the container's process
// executes its command: an error is that of the start.
type Starter interface {
	BeforeStart(ctx context.Context, c *Container) error
}

// Watcher is implemented by isolators that notice a container running into a
// limit. Watch blocks until that happens, or ctx ends (nil, ctx.Err()); where there is
// nothing to watch for it returns nil, nil.
type Watcher interface {
	Watch(ctx context.Context, c *Container) (*Limitation, error)
}

// Updater is implemented by isolators whose limits can change while a container
// runs. Nil fields of r stay as they are. All of r is applied or none.
type Updater interface {
	Update(ctx context.Context, c *Container, r *Resources) error
}

// UsageReporter is implemented by isolators that measure. It fills its own part
// of u and leaves the rest.
type UsageReporter interface {
	Usage(ctx context.Context, c *Container, u *Usage) error
}

// StatusReporter is implemented by isolators that have facts for Status, such as
// addresses. It fills its own part of s.
type StatusReporter interface {
	Status(ctx context.Context, c *Container, s *Status) error
}

// Freezer is implemented by the isolator that can stop and resume all processes
// of a container, and end them.
type Freezer interface {
	// Freeze returns when all processes are stopped, Thaw when they run again.
	Freeze(ctx context.Context, c *Container) error
	Thaw(ctx context.Context, c *Container) error
	// KillAll sends SIGKILL to every process in the container's control groups,
	// frozen ones and later forks included, and returns when none is left. It is a
	// no-op without processes.
	KillAll(ctx context.Context, c *Container) error
	// Processes lists the pids, in the host's pid namespace.
	Processes(ctx context.Context, c *Container) ([]int, error)
}

// ExitReporter is implemented by isolators that know more about an exit than the
// wait status says, such as an OOM kill. It is called once, before Cleanup.
type ExitReporter interface {
	ReportExit(ctx context.Context, c *Container, t *Termination) error
}

// Recoverer is implemented by isolators, launchers and provisioners with state of
// their own on the node. It is told, by Engine.Recover, which containers exist,
// and releases whatever belongs to none of them. No container is made meanwhile.
// orphans are the IDs it found and released.
type Recoverer interface {
	Recover(ctx context.Context, live []*Container) (orphans []ContainerID, err error)
}

// Usage is what a container uses, counted since its start. Nil parts were not
// measured.
type Usage struct {
	At      time.Time      `json:"at"`
	CPU     *CPUUsage      `json:"cpu,omitempty"`
	Memory  *MemoryUsage   `json:"memory,omitempty"`
	IO      *IOUsage       `json:"io,omitempty"`
	PIDs    *PIDsUsage     `json:"pids,omitempty"`
	Network []NetworkUsage `json:"network,omitempty"`
	Disk    *DiskUsage     `json:"disk,omitempty"`
}

// CPUUsage is processor time.
type CPUUsage struct {
	Total            time.Duration `json:"total"`
	User             time.Duration `json:"user"`
	System           time.Duration `json:"system"`
	Periods          uint64        `json:"periods"`
	ThrottledPeriods uint64        `json:"throttledPeriods"`
	Throttled        time.Duration `json:"throttled"`
	Pressure         *Pressure     `json:"pressure,omitempty"`
}

// MemoryUsage is memory in bytes. A limit of 0 is none.
type MemoryUsage struct {
	Bytes uint64 `json:"bytes"`
	// WorkingSetBytes is Bytes less the inactive file cache, as the kubelet counts.
	WorkingSetBytes uint64    `json:"workingSetBytes"`
	PeakBytes       uint64    `json:"peakBytes,omitempty"`
	LimitBytes      uint64    `json:"limitBytes,omitempty"`
	SwapBytes       uint64    `json:"swapBytes,omitempty"`
	RSSBytes        uint64    `json:"rssBytes"`
	CacheBytes      uint64    `json:"cacheBytes"`
	PageFaults      uint64    `json:"pageFaults"`
	MajorPageFaults uint64    `json:"majorPageFaults"`
	OOMKills        uint64    `json:"oomKills"`
	Pressure        *Pressure `json:"pressure,omitempty"`
	// LimitHits counts how often the limit was in the way.
	LimitHits       uint64 `json:"limitHits,omitempty"`
	MappedFileBytes uint64 `json:"mappedFileBytes,omitempty"`
	// KernelBytes is missing where the kernel does not tell it by itself.
	KernelBytes *uint64 `json:"kernelBytes,omitempty"`
	// SwapLimitBytes bounds SwapBytes; missing without limit.
	SwapLimitBytes *uint64 `json:"swapLimitBytes,omitempty"`
}

// IOUsage is block I/O over all devices.
type IOUsage struct {
	ReadBytes  uint64    `json:"readBytes"`
	WriteBytes uint64    `json:"writeBytes"`
	Reads      uint64    `json:"reads"`
	Writes     uint64    `json:"writes"`
	Pressure   *Pressure `json:"pressure,omitempty"`
	// Devices are the parts of it, of devices that were used.
	Devices []DeviceIO `json:"devices,omitempty"`
}

// DeviceIO is block I/O on one device.
type DeviceIO struct {
	Major      uint32 `json:"major"`
	Minor      uint32 `json:"minor"`
	ReadBytes  uint64 `json:"readBytes"`
	WriteBytes uint64 `json:"writeBytes"`
	Reads      uint64 `json:"reads"`
	Writes     uint64 `json:"writes"`
}

// PIDsUsage counts processes and threads. A limit of 0 is none.
type PIDsUsage struct {
	Current uint64 `json:"current"`
	Limit   uint64 `json:"limit,omitempty"`
}

// NetworkUsage is the traffic of one interface, as the container sees it.
type NetworkUsage struct {
	Interface string `json:"interface"`
	RxBytes   uint64 `json:"rxBytes"`
	RxPackets uint64 `json:"rxPackets"`
	RxErrors  uint64 `json:"rxErrors"`
	RxDropped uint64 `json:"rxDropped"`
	TxBytes   uint64 `json:"txBytes"`
	TxPackets uint64 `json:"txPackets"`
	TxErrors  uint64 `json:"txErrors"`
	TxDropped uint64 `json:"txDropped"`
}

// DiskUsage is the writable layer's size, as it was when that was last measured.
type DiskUsage struct {
	Bytes  uint64 `json:"bytes"`
	Inodes uint64 `json:"inodes"`
}

// Pressure is pressure stall information (Documentation/accounting/psi.rst).
type Pressure struct {
	Some PressureLine `json:"some"`
	Full PressureLine `json:"full"`
}

// PressureLine is one line of pressure: averages in percent, and a total.
type PressureLine struct {
	Avg10  float64       `json:"avg10"`
	Avg60  float64       `json:"avg60"`
	Avg300 float64       `json:"avg300"`
	Total  time.Duration `json:"total"`
}
