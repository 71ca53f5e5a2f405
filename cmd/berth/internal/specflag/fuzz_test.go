package specflag_test

import (
	"path"
	"strings"
	"testing"

	"github.com/berth-dev/berth/containerizer"
)

// fuzz parses one flag with any value and checks what came out.
func fuzz(f *testing.F, flag string, seeds []string, check func(*testing.T, *containerizer.Spec)) {
	f.Helper()
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		s, err := spec(flag+"="+value, "debian")
		if err != nil {
			if !strings.Contains(err.Error(), flag) && !strings.Contains(err.Error(), "environment variable") && !strings.Contains(err.Error(), "two mounts") {
				t.Errorf("error %q does not name %s", err, flag)
			}
			return
		}
		check(t, s)
	})
}

func checkMounts(t *testing.T, s *containerizer.Spec) {
	t.Helper()
	if len(s.Mounts) != 1 {
		t.Fatalf("%d mounts", len(s.Mounts))
	}
	m := s.Mounts[0]
	if !path.IsAbs(m.Destination) || path.Clean(m.Destination) != m.Destination || m.Destination == "/" {
		t.Errorf("destination %q", m.Destination)
	}
	switch m.Type {
	case containerizer.MountBind:
		if !path.IsAbs(m.Source) {
			t.Errorf("bind of %q", m.Source)
		}
	case containerizer.MountVolume:
		if m.Source == "" || strings.ContainsAny(m.Source, "/\x00") || m.Source[0] == '.' {
			t.Errorf("volume %q", m.Source)
		}
	case containerizer.MountTmpfs, containerizer.MountImage:
	default:
		t.Errorf("type %q", m.Type)
	}
}

func FuzzVolume(f *testing.F) {
	fuzz(f, "--volume", []string{"/a", "a:/b", "/a:/b:ro,z", "./x:/y:rshared", "a:/b:c:d"}, checkMounts)
}

func FuzzMount(f *testing.F) {
	fuzz(f, "--mount", []string{
		"type=bind,src=/a,dst=/b", "type=tmpfs,dst=/a,tmpfs-size=1k", `"type=volume","src=a","dst=/b"`, "dst=/a",
		"type=image,src=x,dst=/y,subpath=z",
	}, checkMounts)
}

func FuzzTmpfs(f *testing.F) {
	fuzz(f, "--tmpfs", []string{"/a", "/a:size=1m,mode=700", "/a:exec,huge=always"}, checkMounts)
}

func FuzzPublish(f *testing.F) {
	fuzz(f, "--publish", []string{"80", "80:80", "127.0.0.1:80:80/udp", "[::1]:1-2:3-4", "::80", "1:2:3"}, func(t *testing.T, s *containerizer.Spec) {
		t.Helper()
		for _, p := range s.Network.Ports {
			if p.ContainerPort == 0 || p.Protocol == "" {
				t.Errorf("port %+v", p)
			}
		}
		if len(s.Network.Ports) == 0 {
			t.Error("no port")
		}
	})
}

func FuzzUlimit(f *testing.F) {
	fuzz(f, "--ulimit", []string{"nofile=1", "nofile=1:2", "core=-1", "=", "nofile=x"}, func(t *testing.T, s *containerizer.Spec) {
		t.Helper()
		for _, r := range s.Process.Rlimits {
			if r.Soft > r.Hard || !strings.HasPrefix(r.Type, "RLIMIT_") {
				t.Errorf("limit %+v", r)
			}
		}
	})
}

func FuzzDevice(f *testing.F) {
	fuzz(f, "--device", []string{"/dev/fuse", "/dev/a:/dev/b", "/dev/a:rwm", "/dev/a:/dev/b:r", "v.com/c=d"}, func(t *testing.T, s *containerizer.Spec) {
		t.Helper()
		for _, d := range s.Devices {
			if !path.IsAbs(d.HostPath) || d.ContainerPath != "" && !path.IsAbs(d.ContainerPath) || strings.Trim(d.Permissions, "rwm") != "" {
				t.Errorf("device %+v", d)
			}
		}
		if len(s.Devices)+len(s.CDIDevices) != 1 {
			t.Errorf("devices %v, CDI devices %v", s.Devices, s.CDIDevices)
		}
	})
}

func FuzzNetwork(f *testing.F) {
	fuzz(f, "--network", []string{"a", "name=a,ip=10.0.0.1", "a:ip=10.0.0.1,mac=02:00:00:00:00:01", "ns:/proc/1/ns/net", "none"}, func(*testing.T, *containerizer.Spec) {})
}

func FuzzArtifact(f *testing.F) {
	seeds := []string{
		"https://h/a.tgz,cache,executable=true", "./a,output=b/c,extract=false", `"https://h/a,b",keep`, "s3://b/k,sha256=" + strings.Repeat("0", 64), "a,user=1:2", ",", "a,=",
	}
	fuzz(f, "--artifact", seeds, func(t *testing.T, s *containerizer.Spec) {
		t.Helper()
		if len(s.Artifacts) != 1 || len(s.Mounts) != 1 || s.Mounts[0].Destination != "/sandbox" {
			t.Fatalf("%d artifacts, mounts %+v", len(s.Artifacts), s.Mounts)
		}
		a := &s.Artifacts[0]
		if err := a.Validate(); err != nil || !strings.Contains(a.URI, "://") && !path.IsAbs(a.URI) {
			t.Errorf("%+v: %v", a, err)
		}
	})
}
