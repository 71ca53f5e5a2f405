package provisioner_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-dev/berth/containerizer"
)

// TestDiskUsage: what a container wrote is measured, and nobody else's files are.
func TestDiskUsage(t *testing.T) {
	for name, backend := range backends() {
		t.Run(name, func(t *testing.T) {
			f := newFakeFetcher()
			f.image("app", layerTar(t, "d ./ 755", "f a one"))
			p, _ := newStore(t, f, backend)
			got, err := p.Provision(t.Context(), "c1", source("app"))
			if err != nil {
				t.Fatal(err)
			}
			dir := got.Rootfs.Upper
			if dir == "" {
				dir = got.Rootfs.Path
			}
			if err := os.WriteFile(filepath.Join(dir, "new"), make([]byte, 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			c := &containerizer.Container{ID: "c1", Rootfs: got.Rootfs}
			u, err := p.DiskUsage(t.Context(), c)
			if err != nil || u == nil {
				t.Fatalf("DiskUsage = %+v, %v", u, err)
			}
			want := uint64(1)
			if name == "copy" {
				want = 2 // the image's file, too
			}
			if u.Inodes != want || u.Bytes < 1<<20 || u.Bytes > 2<<20 {
				t.Errorf("DiskUsage = %+v, want %d inodes and about 1 MiB", u, want)
			}
			if err := os.WriteFile(filepath.Join(dir, "more"), make([]byte, 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			if again, err := p.DiskUsage(t.Context(), c); err != nil || *again != *u {
				t.Errorf("DiskUsage a moment later = %+v, %v; want the same, not another walk", again, err)
			}
			for what, c := range map[string]*containerizer.Container{
				"no root filesystem":     {ID: "c1"},
				"the user's own":         {ID: "c1", Rootfs: &containerizer.Rootfs{Path: t.TempDir()}},
				"another container's":    {ID: "c2", Rootfs: got.Rootfs},
				"without writable layer": {ID: "c1", Rootfs: &containerizer.Rootfs{Lower: []string{"/a", "/b"}}},
			} {
				if u, err := p.DiskUsage(t.Context(), c); u != nil || err != nil {
					t.Errorf("DiskUsage with %s = %+v, %v", what, u, err)
				}
			}
			if err := p.Destroy(t.Context(), "c1"); err != nil {
				t.Fatal(err)
			}
		})
	}
}
