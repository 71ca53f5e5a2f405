package wiring_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/client"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/test/fixtures"
)

// TestLogsOverGRPC reads the log of a container while it runs and afterwards.
func TestLogsOverGRPC(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	dir := t.TempDir()
	cfg := settings(dir)
	t.Cleanup(func() { fixtures.RemoveGroups(cfg.Cgroup.Parent) })
	build(t, cfg.Monitor, "./cmd/berth-monitor")
	n := wiring.New(cfg, "/nonexistent", log.Nop(), parts())
	embedded, err := n.Engine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	e, is := overGRPC(t, n, embedded).(*client.Engine)
	if !is {
		t.Fatal("no client")
	}
	const id = containerizer.ContainerID("logs")
	spec := &containerizer.Spec{
		RootfsPath: makeRootfs(t, filepath.Join(dir, "rootfs")),
		Process:    containerizer.Process{Args: []string{"/bin/sh", "-c", "echo one; echo two >&2; sleep 0.3; echo three"}},
		Network:    containerizer.Network{None: true},
	}
	if _, err := e.Launch(t.Context(), id, spec, containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	read := func(tail int, follow bool) (lines []string) {
		t.Helper()
		err := e.Logs(t.Context(), id, tail, follow, func(l client.LogLine) error {
			if l.At.IsZero() {
				t.Error("a line without a time")
			}
			lines = append(lines, map[bool]string{true: "err ", false: "out "}[l.Stderr]+string(l.Data))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return lines
	}
	all := []string{"err two\n", "out one\n", "out three\n"}
	if got := slices.Sorted(slices.Values(read(-1, true))); !slices.Equal(got, all) {
		t.Errorf("followed %q, want %q", got, all)
	}
	if got := read(1, false); !slices.Equal(got, []string{"out three\n"}) {
		t.Errorf("the last line is %q", got)
	}
	if err := e.Destroy(t.Context(), id); err != nil {
		t.Error(err)
	}
}
