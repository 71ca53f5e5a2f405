package cgroup_test

import (
	"context"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/cgroup"
	"github.com/berth-dev/berth/isolators/isolatortest"
)

// The launch path: what berth run pays for control groups, without limits, with
// those that people set, and with a device of its own. idle waits between the
// rounds, so that whatever needs an RCU grace period shows.
func BenchmarkPrepareCleanup(b *testing.B) {
	requireRoot(b)
	iso := newIsolator(b, cgroup.Options{Parent: newParent(b)})
	for _, kind := range []struct {
		name string
		spec *containerizer.Spec
	}{
		{"plain", &containerizer.Spec{}},
		{"limits", limited(specs.LinuxResources{
			CPU:    &specs.LinuxCPU{Quota: new(int64(50000)), Period: new(uint64(100000))},
			Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(128 << 20))},
			Pids:   &specs.LinuxPids{Limit: new(int64(50))},
		})},
		{"device", limited(specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: true, Type: "c", Major: new(int64(10)), Minor: new(int64(229)), Access: "rw"}}})},
	} {
		for _, regime := range []struct {
			name  string
			pause time.Duration
		}{{"busy", 0}, {"idle", 20 * time.Millisecond}} {
			b.Run(kind.name+"/"+regime.name, func(b *testing.B) {
				b.ReportAllocs()
				var prepare, cleanup time.Duration
				for b.Loop() {
					b.StopTimer()
					pause, cancel := context.WithTimeout(b.Context(), regime.pause)
					<-pause.Done()
					cancel()
					f := &containerizer.Container{ID: containerizer.NewContainerID(), Spec: kind.spec, Ledger: &isolatortest.Ledger{}}
					b.StartTimer()
					t0 := time.Now()
					if _, err := iso.Prepare(b.Context(), f); err != nil {
						b.Fatal(err)
					}
					t1 := time.Now()
					if err := iso.Cleanup(b.Context(), f); err != nil {
						b.Fatal(err)
					}
					prepare, cleanup = prepare+t1.Sub(t0), cleanup+time.Since(t1)
				}
				b.ReportMetric(float64(prepare.Microseconds())/float64(b.N), "prepare-µs")
				b.ReportMetric(float64(cleanup.Microseconds())/float64(b.N), "cleanup-µs")
			})
		}
	}
}

func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := cgroup.New(cgroup.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUsage(b *testing.B) {
	iso := newIsolator(b, cgroup.Options{Parent: newParent(b)})
	f := &containerizer.Container{ID: containerizer.NewContainerID(), Spec: &containerizer.Spec{}, Ledger: &isolatortest.Ledger{}}
	if _, err := iso.Prepare(b.Context(), f); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var u containerizer.Usage
		if err := iso.Usage(b.Context(), f, &u); err != nil {
			b.Fatal(err)
		}
	}
	if err := iso.Cleanup(b.Context(), f); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkUsageOfMany: a round over 500 containers, as a scraper makes it, with the
// files kept open and, as it was before and is beyond the bound, opened each time.
func BenchmarkUsageOfMany(b *testing.B) {
	const many = 500
	iso := newIsolator(b, cgroup.Options{Parent: newParent(b)})
	var all []*containerizer.Container
	for range many {
		c := &containerizer.Container{ID: containerizer.NewContainerID(), Spec: &containerizer.Spec{}, Ledger: &isolatortest.Ledger{}}
		if _, err := iso.Prepare(b.Context(), c); err != nil {
			b.Fatal(err)
		}
		all = append(all, c)
	}
	round := func(b *testing.B, iso func() *cgroup.Isolator) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			i := iso()
			for _, c := range all {
				var u containerizer.Usage
				if err := i.Usage(b.Context(), c, &u); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/many, "µs/container")
	}
	b.Run("kept", func(b *testing.B) { round(b, func() *cgroup.Isolator { return iso }) })
	b.Run("opened", func(b *testing.B) { round(b, func() *cgroup.Isolator { return cgroup.Forgetful(iso) }) })
	for _, c := range all {
		if err := iso.Cleanup(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}
