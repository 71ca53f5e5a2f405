package launch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer/launch"
)

// An image's symbolic links that go up from the root end at the container's root, in
// everything that the launch looks up: nothing appears on the host, and the process
// stands inside.
func TestNoWayUp(t *testing.T) {
	for _, up := range []string{"/..", "../../../../..", "/../.", "/proc/../.."} {
		for name, with := range map[string]func(c *launch.Config, below string){
			"working directory": func(c *launch.Config, below string) { c.Process.WorkingDir = below },
			"mount": func(c *launch.Config, below string) {
				c.Info.Mounts = append(c.Info.Mounts, specs.Mount{Destination: below, Type: "tmpfs"})
			},
			"bind mount": func(c *launch.Config, below string) {
				c.Info.Mounts = append(c.Info.Mounts, specs.Mount{Destination: below, Source: "/dev/zero", Type: "bind"})
			},
			"device": func(c *launch.Config, below string) {
				c.Info.Devices = append(c.Info.Devices, specs.LinuxDevice{Path: below, Type: "c", Major: 1, Minor: 5})
			},
		} {
			t.Run(name+" below "+strings.ReplaceAll(up, "/", "_"), func(t *testing.T) {
				c := config(t, "true")
				if err := os.Symlink(up, filepath.Join(c.Info.Rootfs.Path, "up")); err != nil {
					t.Fatal(err)
				}
				host := t.TempDir()
				with(c, "/up"+host+"/made")
				got := runContainer(t, c)
				if got.err != nil {
					t.Fatal(got.err)
				}
				if left, err := os.ReadDir(host); err != nil || len(left) > 0 {
					t.Errorf("on the host the image has made %v, %v", left, err)
				}
				if _, err := os.Lstat(filepath.Join(c.Info.Rootfs.Path, host)); err != nil {
					t.Errorf("it is not in the container: %v", err)
				}
			})
		}
	}
}

// The working directory itself is not above the root either (CVE-2024-21626 had the
// same end by other means).
func TestWorkingDirIsInside(t *testing.T) {
	for _, dir := range []string{"/up", "/up/..", "/up/tmp/../.."} {
		t.Run(dir, func(t *testing.T) {
			c := config(t, "sh", "-c", "pwd; ls ../../../../../marker")
			for name, target := range map[string]string{"up": "/../../..", "marker": "tmp"} {
				if err := os.Symlink(target, filepath.Join(c.Info.Rootfs.Path, name)); err != nil {
					t.Fatal(err)
				}
			}
			c.Process.WorkingDir = dir
			expect(t, c, "/")
		})
	}
}

func TestRootfsPropagation(t *testing.T) {
	for mode, want := range map[string]string{
		"": "-", "private": "-", "rprivate": "-", "shared": "shared", "rshared": "shared", "unbindable": "unbindable",
	} {
		t.Run("propagation "+mode, func(t *testing.T) {
			c := config(t, "busybox", "awk", `$5 == "/" { split($7, kind, ":"); print kind[1] }`, "/proc/self/mountinfo")
			c.Info.RootfsPropagation = mode
			expect(t, c, want)
		})
	}
}
