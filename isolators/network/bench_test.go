package network_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/network"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

// BenchmarkJoin compares what networks add to a launch.
func BenchmarkJoin(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root, for a network namespace of its own")
	}
	dir := b.TempDir()
	n := &node{opts: network.Options{StateDir: filepath.Join(dir, "state"), RootDir: filepath.Join(dir, "root"), ConfigDirs: []string{filepath.Join(dir, "net.d")}}}
	pluginDir, err := plugins()
	if err != nil {
		b.Fatal(err)
	}
	n.opts.PluginDirs = []string{pluginDir}
	if err := os.MkdirAll(n.opts.ConfigDirs[0], 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.opts.ConfigDirs[0], "users.conflist"), []byte(bridgeConf(n, "nftables")), 0o600); err != nil {
		b.Fatal(err)
	}
	ports := []containerizer.PortMapping{{ContainerPort: 80}}
	for name, c := range map[string]containerizer.Network{
		"none":                  {None: true},
		"built in":              {},
		"built in with port":    {Ports: ports},
		"plug-ins with port":    {Networks: []containerizer.NetworkAttachment{{Name: "users"}}, Ports: ports},
		"plug-ins without port": {Networks: []containerizer.NetworkAttachment{{Name: "users"}}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				iso := network.New(log.Nop(), n.opts)
				f := isolatortest.NewContainer(&testing.T{}, nil)
				f.Dir, f.Spec = dir, withImage(c)
				ns := nettest.New(b)
				b.StartTimer()
				info, err := iso.Prepare(b.Context(), f.Container)
				if err == nil && info.Barrier {
					err = iso.Isolate(b.Context(), f.Container, ns.PID())
				}
				b.StopTimer()
				if err != nil {
					b.Fatal(err)
				}
				ns.End()
				if err := iso.Cleanup(b.Context(), f.Container); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
