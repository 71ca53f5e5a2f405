package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	grpcadapter "github.com/berth-dev/berth/containerizer/adapter/grpc"
	"github.com/berth-dev/berth/containerizer/engine"
	"github.com/berth-dev/berth/containerizer/log"
)

const (
	memoryPressure = "MemoryPressure"
	diskPressure   = "DiskPressure"

	// pressurePause is how often is looked.
	pressurePause = 30 * time.Second
	// memoryAge is how old what is known of memory may be.
	memoryAge = time.Second
	// calmAfter is how long memory has to suffice for the pressure to be over, so that
	// who acts on it does not act on every breath.
	calmAfter = 30 * time.Second
)

// pressure knows what the node is short of (decisions/0001).
type pressure struct {
	root    string
	memory  uint64 // bytes that have to be available
	disk    int    // percent that have to be
	refuse  bool
	meminfo string // paths of the kernel's files
	psi     string
	now     func() time.Time
	log     *log.Logger
	metrics *Metrics
	// full is told when something failed for want of space.
	full chan struct{}

	mu         sync.Mutex
	conditions map[string]grpcadapter.Condition
	looked     time.Time // at memory
	short      time.Time // when there last was too little
}

func (d *Daemon) newPressure() (*pressure, error) {
	memory, disk, err := d.o.Config.Pressure.Thresholds()
	if err != nil {
		return nil, err
	}
	p := &pressure{
		root: d.o.Config.Root, memory: memory, disk: disk, refuse: d.o.Config.Pressure.RefuseLaunches,
		meminfo: "/proc/meminfo", psi: "/proc/pressure/memory", now: time.Now, log: d.o.Log.Named("pressure"),
		metrics: d.o.Metrics, full: make(chan struct{}, 1), conditions: map[string]grpcadapter.Condition{},
	}
	if d.o.MemInfo != "" {
		p.meminfo = d.o.MemInfo
	}
	p.lookAtDisk()
	p.lookAtMemory()
	return p, nil
}

// list are the conditions, as they are now.
func (p *pressure) list() []grpcadapter.Condition {
	p.lookAtDisk()
	p.lookAtMemory()
	p.mu.Lock()
	defer p.mu.Unlock()
	return []grpcadapter.Condition{p.conditions[memoryPressure], p.conditions[diskPressure]}
}

// set notes how a condition is, and logs when it changes.
//
// Preconditions: p.mu is held.
func (p *pressure) set(c grpcadapter.Condition) {
	last, known := p.conditions[c.Name]
	c.Since = last.Since
	if !known || last.Active != c.Active {
		c.Since = p.now()
	}
	p.conditions[c.Name] = c
	value := 0.0
	if c.Active {
		value = 1
	}
	p.metrics.pressure.WithLabelValues(c.Name).Set(value)
	switch {
	case c.Active && !last.Active:
		p.log.Warn("the node is under pressure", log.String("condition", c.Name), log.String("message", c.Message))
	case !c.Active && last.Active:
		p.log.Info("the pressure is over", log.String("condition", c.Name), log.String("message", c.Message))
	}
}

// lookAtDisk asks how full the file system of the images is.
func (p *pressure) lookAtDisk() {
	var fs unix.Statfs_t
	err := unix.Statfs(p.root, &fs)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil { // nothing was put there yet, as a rule
		p.set(grpcadapter.Condition{Name: diskPressure, Message: fmt.Sprintf("statfs %q: %v", p.root, err)})
		return
	}
	size := uint64(fs.Frsize)
	bytes, inodes := fs.Bavail*size, fs.Ffree
	total := (fs.Blocks - fs.Bfree + fs.Bavail) * size
	p.metrics.available.WithLabelValues("disk_bytes").Set(float64(bytes))
	p.metrics.available.WithLabelValues("disk_inodes").Set(float64(inodes))
	few := func(available, total uint64) bool { return total > 0 && available*100/total < uint64(p.disk) }
	message := fmt.Sprintf("%s of %s and %d of %d inodes are available at %q", units.BytesSize(float64(bytes)), units.BytesSize(float64(total)), inodes, fs.Files, p.root)
	p.set(grpcadapter.Condition{Name: diskPressure, Active: few(bytes, total) || few(inodes, fs.Files), Message: message})
}

// lookAtMemory asks how much memory is available, at most once a moment.
func (p *pressure) lookAtMemory() (short bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if now.Sub(p.looked) < memoryAge {
		return p.conditions[memoryPressure].Active
	}
	p.looked = now
	available, err := memAvailable(p.meminfo)
	if err != nil {
		p.set(grpcadapter.Condition{Name: memoryPressure, Message: err.Error()})
		return false
	}
	p.metrics.available.WithLabelValues("memory_bytes").Set(float64(available))
	if available < p.memory {
		p.short = now
	}
	active := !p.short.IsZero() && now.Sub(p.short) < calmAfter
	message := fmt.Sprintf("%s are available, %s have to be", units.BytesSize(float64(available)), units.BytesSize(float64(p.memory)))
	if stalls, err := os.ReadFile(p.psi); err == nil {
		message += "; stalls: " + strings.ReplaceAll(strings.TrimSpace(string(stalls)), "\n", ", ")
	}
	p.set(grpcadapter.Condition{Name: memoryPressure, Active: active, Message: message})
	return active
}

// memAvailable reads MemAvailable of meminfo (proc_meminfo(5)).
func memAvailable(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("how much memory is available: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, is := strings.CutPrefix(line, "MemAvailable:"); is {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 54)
			if err != nil {
				return 0, fmt.Errorf("%s: %q: %w", path, line, containerizer.ErrDataCorrupt)
			}
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("%s has no MemAvailable: %w", path, containerizer.ErrUnsupported)
}

// failed hears of an error: one for want of space is a reason to look at once.
func (p *pressure) failed(err error) {
	if err == nil || !errors.Is(err, containerizer.ErrResourceExhausted) && !errors.Is(err, unix.ENOSPC) {
		return
	}
	select {
	case p.full <- struct{}{}:
	default: // it is known
	}
}

// watchPressure looks at the node until ctx ends, so that the log and the metrics tell.
func (d *Daemon) watchPressure(ctx context.Context) {
	tick := time.NewTicker(pressurePause)
	defer tick.Stop()
	for {
		d.pressure.lookAtDisk()
		d.pressure.lookAtMemory()
		select {
		case <-tick.C:
		case <-d.pressure.full:
			d.putOff() // sweeping makes room
		case <-ctx.Done():
			return
		}
	}
}

// admitting is an engine that makes no new containers under memory pressure, if the
// configuration says so.
type admitting struct {
	*engine.Engine

	pressure *pressure
}

func (a admitting) admit(what string, id containerizer.ContainerID) error {
	if !a.pressure.refuse || !a.pressure.lookAtMemory() {
		return nil
	}
	a.pressure.metrics.refused.WithLabelValues("memory").Inc()
	return fmt.Errorf("%s container %q: the node is under memory pressure, and pressure.refuse_launches is set: %w", what, id, containerizer.ErrUnavailable)
}

// Prepare implements [containerizer.Lifecycle].
func (a admitting) Prepare(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec) error {
	if err := a.admit("prepare", id); err != nil {
		return err
	}
	return a.Engine.Prepare(ctx, id, spec)
}

// Launch implements [containerizer.Lifecycle].
func (a admitting) Launch(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec, o containerizer.LaunchOptions) (containerizer.Session, error) {
	if err := a.admit("launch", id); err != nil {
		return nil, err
	}
	return a.Engine.Launch(ctx, id, spec, o)
}

// Start implements [containerizer.Lifecycle].
func (a admitting) Start(ctx context.Context, id containerizer.ContainerID, o containerizer.LaunchOptions) (containerizer.Session, error) {
	if err := a.admit("start", id); err != nil {
		return nil, err
	}
	return a.Engine.Start(ctx, id, o)
}
