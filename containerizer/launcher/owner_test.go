package launcher

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// layer makes a layer with files.
func layer(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOwner(t *testing.T) {
	base := layer(t, map[string]string{"etc/passwd": "app:x:5:6::/:\n", "etc/group": "staff:x:50:\n"})
	upper := layer(t, map[string]string{"etc/passwd": "app:x:7:8::/:\n"})
	overlay := &containerizer.Rootfs{Upper: upper, Lower: []string{layer(t, nil), base}}
	mapped := containerizer.Namespaces{
		User:        containerizer.Namespace{Mode: containerizer.NamespacePrivate},
		UIDMappings: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 100}},
		GIDMappings: []specs.LinuxIDMapping{{ContainerID: 0, HostID: 2000, Size: 100}},
	}
	parent := &containerizer.Container{
		Rootfs: overlay, Launch: &containerizer.LaunchInfo{UIDMappings: mapped.UIDMappings, GIDMappings: mapped.GIDMappings},
	}
	for name, c := range map[string]struct {
		user       string
		rootfs     *containerizer.Rootfs
		namespaces containerizer.Namespaces
		parent     *containerizer.Container
		want       containerizer.Owner
		err        error
	}{
		"root":                {"", overlay, containerizer.Namespaces{}, nil, containerizer.Owner{}, nil},
		"topmost layer":       {"app", overlay, containerizer.Namespaces{}, nil, containerizer.Owner{UID: 7, GID: 8}, nil},
		"each file by itself": {"app:staff", overlay, containerizer.Namespaces{}, nil, containerizer.Owner{UID: 7, GID: 50}, nil},
		"numbers":             {"9:10", overlay, containerizer.Namespaces{}, nil, containerizer.Owner{UID: 9, GID: 10}, nil},
		"directory":           {"app", &containerizer.Rootfs{Path: base}, containerizer.Namespaces{}, nil, containerizer.Owner{UID: 5, GID: 6}, nil},
		"user namespace":      {"app", overlay, mapped, nil, containerizer.Owner{UID: 1007, GID: 2008}, nil},
		"of the parent":       {"app", nil, containerizer.Namespaces{}, parent, containerizer.Owner{UID: 1007, GID: 2008}, nil},
		"host's, not the parent's": {
			"app", nil, containerizer.Namespaces{User: containerizer.Namespace{Mode: containerizer.NamespaceHost}}, parent, containerizer.Owner{UID: 7, GID: 8}, nil,
		},
		"unknown user": {"nobody", overlay, containerizer.Namespaces{}, nil, containerizer.Owner{}, containerizer.ErrInvalid},
		"another's namespace": {
			"app", overlay, containerizer.Namespaces{User: containerizer.Namespace{Mode: containerizer.NamespaceContainer}}, nil, containerizer.Owner{}, containerizer.ErrUnsupported,
		},
		"no file tree": {"app", nil, containerizer.Namespaces{}, nil, containerizer.Owner{}, containerizer.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := new(Launcher).Owner(&containerizer.Container{
				Rootfs: c.rootfs, Parent: c.parent,
				Spec: &containerizer.Spec{Process: containerizer.Process{User: c.user}, Namespaces: c.namespaces},
			})
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil && *got != c.want {
				t.Errorf("got %+v, want %+v", *got, c.want)
			}
		})
	}
}
