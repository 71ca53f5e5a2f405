package launch_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
)

var update = flag.Bool("update", false, "write the golden files anew")

// representative is a container with something of nearly everything.
func representative() *launch.Config {
	caps := []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}
	score := 100
	return &launch.Config{
		ID: "0123456789abcdef",
		Info: &containerizer.LaunchInfo{
			Rootfs:         &containerizer.Rootfs{Lower: []string{"/layers/b", "/layers/a"}, Upper: "/upper", Work: "/work", Volatile: true},
			ReadonlyRootfs: true,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace},
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.CgroupNamespace},
				{Type: specs.NetworkNamespace, Path: "/proc/1234/ns/net"},
			},
			Cgroup: &containerizer.CgroupAttachment{Legacy: []string{"/sys/fs/cgroup/memory/berth/a", "/sys/fs/cgroup/pids/berth/a"}},
			Mounts: []specs.Mount{
				{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
				{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
				{Destination: "/data", Type: "bind", Source: "/host/data", Options: []string{"rbind", "rslave", "rro"}},
				{Destination: "/etc/hosts", Type: "bind", Source: "/host/hosts", Options: []string{"bind", "ro"}},
				{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			},
			LayerMounts:   []containerizer.LayerMount{{Rootfs: containerizer.Rootfs{Path: "/volumes/v"}, SubPath: "data", Destination: "/volume"}},
			Devices:       []specs.LinuxDevice{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}},
			MaskedPaths:   []string{"/proc/kcore"},
			ReadonlyPaths: []string{"/proc/sys"},
			Hostname:      "box",
			Domainname:    "example.org",
			Sysctl:        map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "65536"},
			LoopbackUp:    true,
			Barrier:       true,
			OOMScoreAdj:   &score,
		},
		Process: launch.Process{
			Args: []string{"server", "-v"}, Env: []string{"PATH=/usr/bin:/bin", "LANG=C"}, WorkingDir: "/srv",
			UID: 1000, GID: 100, Groups: []uint32{100, 29}, Umask: 0o22, Terminal: true, Size: containerizer.Size{Columns: 80, Rows: 25},
			Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 4096}},
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps, Inheritable: caps, Ambient: caps[1:]},
			NoNewPrivileges: true,
			AppArmorProfile: "berth-default",
		},
		PivotDir:    "/run/berth/pivot",
		Filter:      make([]byte, 8),
		FilterFlags: unix.SECCOMP_FILTER_FLAG_LOG,
		IsDir:       func(path string) (bool, error) { return !strings.HasSuffix(path, "hosts"), nil },
		HostDevice:  func(d *specs.LinuxDevice) (string, error) { return d.Path, nil },
		LastCap:     40, // CAP_CHECKPOINT_RESTORE
	}
}

// The programs of a container and of an exec, as a dry run prints them: whoever
// changes what is executed, or in which order, sees it here. The flags of open(2) are
// not the same on every architecture.
func TestPrintedPrograms(t *testing.T) {
	for name, compile := range map[string]func() (*launch.Program, error){
		"container": func() (*launch.Program, error) { return launch.Compile(representative()) },
		"exec": func() (*launch.Program, error) {
			c := representative()
			c.Process.Terminal = false
			return launch.CompileExec(c, unix.CLONE_NEWNS|unix.CLONE_NEWPID|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS|unix.CLONE_NEWNET|unix.CLONE_NEWCGROUP)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var texts [2]string // the second shows that it is the same every time
			for i := range texts {
				p, err := compile()
				if err != nil {
					t.Fatal(err)
				}
				var b bytes.Buffer
				if n, err := p.WriteTo(&b); err != nil || n != int64(b.Len()) {
					t.Fatalf("wrote %d of %d bytes, %v", n, b.Len(), err)
				}
				texts[i] = b.String()
			}
			if diff := cmp.Diff(texts[0], texts[1]); diff != "" {
				t.Fatalf("compiled twice (-first +second):\n%s", diff)
			}
			golden := filepath.Join("testdata", name+"_amd64.golden")
			if *update {
				if err := os.WriteFile(golden, []byte(texts[0]), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), texts[0]); diff != "" {
				t.Errorf("the program is another one; -update writes it (-want +got):\n%s", diff)
			}
		})
	}
}
