package systemd_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/cgroup"
	"github.com/berth-dev/berth/isolators/cgroup/systemd"
)

const patience = 20 * time.Second

func connect(t *testing.T, p *peer) (*systemd.Manager, context.Context) {
	t.Helper()
	m := systemd.New(systemd.Options{Socket: p.socket})
	t.Cleanup(m.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return m, ctx
}

// property finds a property in the body of StartTransientUnit or
// SetUnitProperties.
func properties(t *testing.T, list any) map[string]any {
	t.Helper()
	found := map[string]any{}
	for _, pair := range list.([][]any) {
		found[pair[0].(string)] = pair[1].(dbus.Variant).Value()
	}
	return found
}

func alive(pid uint32) bool {
	_, err := os.Stat("/proc/" + strconv.Itoa(int(pid)))
	return err == nil
}

func TestStartScope(t *testing.T) {
	p := newPeer(t)
	m, ctx := connect(t, p)
	keeper, err := m.StartScope(ctx, cgroup.Unit{
		Name: "berth-x.scope", Slice: "machine.slice", Description: "berth container x",
		Properties: []cgroup.Property{{Name: "MemoryMax", Value: uint64(64 << 20)}, {Name: "AllowedCPUs", Value: []byte{3}}},
	})
	if err != nil {
		t.Fatalf("StartScope = %v", err)
	}
	calls := p.took("StartTransientUnit")
	if len(calls) != 1 || calls[0].body[0] != "berth-x.scope" {
		t.Fatalf("StartTransientUnit was called as %v", calls)
	}
	got := properties(t, calls[0].body[2])
	sleeper := got["PIDs"].([]uint32)
	delete(got, "PIDs")
	want := map[string]any{
		"Description": "berth container x", "Slice": "machine.slice", "Delegate": true, "DefaultDependencies": false,
		"CPUAccounting": true, "MemoryAccounting": true, "TasksAccounting": true, "IOAccounting": true,
		"TimeoutStopUSec": uint64(1000000), "MemoryMax": uint64(64 << 20), "AllowedCPUs": []byte{3},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
	if len(sleeper) != 1 || !alive(sleeper[0]) {
		t.Fatalf("the scope was made with the processes %v, want one that lives", sleeper)
	}
	for range 2 {
		if err := keeper.Release(); err != nil {
			t.Errorf("release = %v", err)
		}
	}
	if alive(sleeper[0]) {
		t.Error("the sleeper outlives its release")
	}
}

func TestStartSliceAndSetProperties(t *testing.T) {
	p := newPeer(t)
	m, ctx := connect(t, p)
	if err := m.StartSlice(ctx, cgroup.Unit{Name: "berth-pod.slice", Slice: "berth.slice"}); err != nil {
		t.Fatalf("StartSlice = %v", err)
	}
	got := properties(t, p.took("StartTransientUnit")[0].body[2])
	for _, name := range []string{"Slice", "Delegate", "PIDs"} {
		if v, has := got[name]; has {
			t.Errorf("a slice was made with %s = %v", name, v)
		}
	}
	if err := m.SetProperties(ctx, "berth-pod.slice", []cgroup.Property{{Name: "TasksMax", Value: uint64(7)}}); err != nil {
		t.Fatalf("SetProperties = %v", err)
	}
	calls := p.took("SetUnitProperties")
	if len(calls) != 1 || calls[0].body[1] != true { // runtime: gone with the next boot
		t.Fatalf("SetUnitProperties was called as %v", calls)
	}
	if diff := cmp.Diff(map[string]any{"TasksMax": uint64(7)}, properties(t, calls[0].body[2])); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
}

func TestStop(t *testing.T) {
	p := newPeer(t)
	m, ctx := connect(t, p)
	if err := m.Stop(ctx, "berth-x.scope"); err != nil {
		t.Errorf("Stop = %v", err)
	}
	if calls := p.took("StopUnit"); len(calls) != 1 || calls[0].body[0] != "berth-x.scope" {
		t.Errorf("StopUnit was called as %v", calls)
	}
	p.refuse["StopUnit"] = "org.freedesktop.systemd1.NoSuchUnit"
	if err := m.Stop(ctx, "berth-x.scope"); err != nil {
		t.Errorf("Stop of an unknown unit = %v, want nothing", err)
	}
}

func TestRefusals(t *testing.T) {
	for refusal, want := range map[string]error{
		"org.freedesktop.DBus.Error.InvalidArgs":      containerizer.ErrInvalid,
		"org.freedesktop.DBus.Error.PropertyReadOnly": containerizer.ErrUnsupported,
		"org.freedesktop.DBus.Error.AccessDenied":     containerizer.ErrPermission,
	} {
		p := newPeer(t)
		m, ctx := connect(t, p)
		p.refuse["StartTransientUnit"] = refusal
		if _, err := m.StartScope(ctx, cgroup.Unit{Name: "berth-x.scope"}); !errors.Is(err, want) {
			t.Errorf("StartScope that systemd refuses with %s = %v, want %v", refusal, err, want)
		}
	}
}

// A unit that an earlier container left failed makes room.
func TestStartAfterFailedUnit(t *testing.T) {
	p := newPeer(t)
	m, ctx := connect(t, p)
	p.refuse["StartTransientUnit"] = "org.freedesktop.systemd1.UnitExists"
	keeper, err := m.StartScope(ctx, cgroup.Unit{Name: "berth-x.scope"})
	if err != nil {
		t.Fatalf("StartScope = %v", err)
	}
	if err := keeper.Release(); err != nil {
		t.Error(err)
	}
	if calls := p.took("ResetFailedUnit"); len(calls) != 1 {
		t.Errorf("ResetFailedUnit was called %d times, want once", len(calls))
	}
}

func TestJobThatFails(t *testing.T) {
	p := newPeer(t)
	p.result = "failed"
	m, ctx := connect(t, p)
	if _, err := m.StartScope(ctx, cgroup.Unit{Name: "berth-x.scope"}); !errors.Is(err, containerizer.ErrUnavailable) {
		t.Errorf("StartScope whose job fails = %v, want ErrUnavailable", err)
	}
	pid := properties(t, p.took("StartTransientUnit")[0].body[2])["PIDs"].([]uint32)[0]
	if alive(pid) {
		t.Error("the sleeper of a failed scope lives")
	}
}

func TestJobThatNeverEnds(t *testing.T) {
	p := newPeer(t)
	p.result = "never"
	m, _ := connect(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := m.StartScope(ctx, cgroup.Unit{Name: "berth-x.scope"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("StartScope = %v, want the end of its context", err)
	}
}

func TestReconnect(t *testing.T) {
	p := newPeer(t)
	m, ctx := connect(t, p)
	if err := m.StartSlice(ctx, cgroup.Unit{Name: "a.slice"}); err != nil {
		t.Fatal(err)
	}
	p.disconnect()
	for { // the library notices the end of a connection in its own time
		err := m.StartSlice(ctx, cgroup.Unit{Name: "b.slice"})
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("after systemd restarted: %v", err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	m := systemd.New(systemd.Options{Socket: t.TempDir() + "/none"})
	if err := m.Stop(t.Context(), "x.scope"); !errors.Is(err, containerizer.ErrUnavailable) {
		t.Errorf("Stop without systemd = %v, want ErrUnavailable", err)
	}
}
