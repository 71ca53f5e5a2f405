package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
)

func load(t *testing.T, text string) (*config.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path)
}

func TestLoad(t *testing.T) {
	got, err := load(t, `
root = "/srv/berth"
isolation = ["cgroups/mem", "namespaces/pid"]

[cgroup]
driver = "systemd"
parent = "berth.slice"

[containers]
ulimits = ["nofile=1024:4096"]
seccomp = "unconfined"
pids_limit = 4096
stop_timeout_seconds = 0

[images]
gc_high = "85%"
gc_min_age = "24h"

[log]
max_size = "10m"
max_files = 3

[network]
plugin_dirs = ["/opt/cni/bin"]
dns = ["1.1.1.1"]

[pull]
layers = 3

[registries]
insecure = ["localhost:5000"]
certs_dirs = ["/etc/a"]
auth_file = "/etc/auth.json"
unqualified = ["quay.io", "docker.io"]
allow = ["*.example.com"]
block = ["quay.io/bad"]

[trust]
policy = "/srv/policy.json"
`)
	if err != nil {
		t.Fatal(err)
	}
	zero := int64(0)
	want := &config.Config{
		Root:       "/srv/berth",
		Isolation:  []string{"cgroups/mem", "namespaces/pid"},
		Cgroup:     config.Cgroup{Driver: "systemd", Parent: "berth.slice"},
		Containers: config.Containers{Ulimits: []string{"nofile=1024:4096"}, Seccomp: "unconfined", PidsLimit: 4096, StopTimeoutSeconds: &zero},
		Images:     config.Images{GCHigh: "85%", GCMinAge: "24h"},
		Log:        config.Log{MaxSize: "10m", MaxFiles: 3},
		Network:    config.Network{PluginDirs: []string{"/opt/cni/bin"}, DNS: []string{"1.1.1.1"}},
		Pull:       config.Pull{Layers: 3},
		Registries: config.Registries{
			Insecure: []string{"localhost:5000"}, CertsDirs: []string{"/etc/a"}, AuthFile: "/etc/auth.json",
			Unqualified: []any{"quay.io", "docker.io"}, Allow: []string{"*.example.com"}, Block: []string{"quay.io/bad"},
		},
		Trust: config.Trust{Policy: "/srv/policy.json"},
	}
	want.Path = got.Path
	want.Files = []string{want.Path}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"[trust]\npolicy = \"p.json\"\n":                `trust.policy = "p.json" is not an absolute path`,
		"root = \"/a\"\nfoo = 1\n":                      `line 2: no key "foo"`,
		"[cgroup]\ndrivr = \"x\"\n":                     `line 2: no key "cgroup.drivr"`,
		"root = 1\n":                                    `line 1`,
		"root = \n":                                     `line 1`,
		"root = \"relative\"\n":                         `root = "relative" is not an absolute path`,
		"[cgroup]\ndriver = \"x\"\n":                    `cgroup.driver = "x"`,
		"[containers]\nseccomp = \"foo\"\n":             `containers.seccomp = "foo"`,
		"[containers]\npids_limit = -1\n":               `not negative`,
		"[containers]\nstop_timeout_seconds = -1\n":     `is negative`,
		"[registries]\ncerts_dirs = [\"x\"]\n":          `registries.certs_dirs: "x"`,
		"[registries]\nauth_file = \"x\"\n":             `registries.auth_file = "x"`,
		"[registries]\nunqualified = 3\n":               `registries.unqualified: 3 is neither`,
		"[registries]\nunqualified = [3]\n":             `registries.unqualified: 3 is not`,
		"[registries]\nunqualified = \"x/y\"\n":         `registries.unqualified: "x/y" is not a registry`,
		"[registries]\nblock = [\"team/app\"]\n":        `registries.block: "team/app" is not of the form`,
		"[registries]\nunqualified = []\n":              `registries.unqualified: an empty list`,
		"[images]\ngc_high = \"85\"\n":                  `images.gc_high = "85"`,
		"[images]\ngc_high = \"101%\"\n":                `images.gc_high = "101%"`,
		"[images]\ngc_low = \"50%\"\n":                  `without images.gc_high`,
		"[images]\ngc_high=\"60%\"\ngc_low=\"60%\"\n":   `not below`,
		"[images]\ngc_high=\"60%\"\ngc_min_age=\"x\"\n": `images.gc_min_age = "x"`,
		"[daemon]\nmemory_limit = \"many\"\n":           `daemon.memory_limit = "many" is not a size`,
		"[daemon]\nmemory_limit = \"1m\"\n":             `less than 32m`,
		"[daemon]\nmax_calls = -1\n":                    `daemon.max_calls is not negative`,
		"[pressure]\nmemory_available = \"x\"\n":        `pressure.memory_available = "x" is not a size`,
		"[pressure]\ndisk_available = \"10\"\n":         `pressure.disk_available = "10"`,
		"[tracing]\nendpoint = \"host\"\n":              `tracing.endpoint = "host" is not HOST:PORT`,
		"[tracing]\nsample_ratio = 1.5\n":               `tracing.sample_ratio = 1.5`,
		"[client]\ntls_ca = \"ca.pem\"\n":               `client.tls_ca = "ca.pem" is not an absolute path`,
		"[tcp]\nread_only = true\n":                     `[tcp] means nothing without tcp.address`,
		"[tcp]\naddress = \"7443\"\n":                   `tcp.address = "7443" is not HOST:PORT`,
		// Without TLS and authority of clients there is no port but a loopback's.
		"[tcp]\naddress = \":7443\"\n":                                       `tcp.cert = "" is not an absolute path`,
		"[tcp]\naddress = \"127.0.0.1:1\"\n":                                 `tcp.cert = "" is not an absolute path`,
		"[tcp]\naddress = \":1\"\ncert = \"/c\"\nkey = \"/k\"\n":             `tcp.client_ca = "" is not an absolute path`,
		"[tcp]\naddress = \":1\"\ninsecure = true\n":                         `is no loopback address`,
		"[tcp]\naddress = \"0.0.0.0:1\"\ninsecure = true\n":                  `is no loopback address`,
		"[tcp]\naddress = \"127.0.0.1:1\"\ninsecure = true\ncert = \"/c\"\n": `tcp.insecure contradicts`,
	} {
		_, err := load(t, text)
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("%q: error %v, want ErrInvalid with %q", text, err, want)
		}
	}
}

func TestPressure(t *testing.T) {
	for _, tt := range []struct {
		images    config.Images
		high, low int
		age       time.Duration
	}{
		{config.Images{}, 0, 0, 2 * time.Minute},
		{config.Images{GCHigh: "85%"}, 85, 80, 2 * time.Minute},
		{config.Images{GCHigh: "3%"}, 3, 0, 2 * time.Minute},
		{config.Images{GCHigh: "90%", GCLow: "50%", GCMinAge: "0s"}, 90, 50, 0},
	} {
		high, low, age, err := tt.images.Pressure()
		if err != nil || high != tt.high || low != tt.low || age != tt.age {
			t.Errorf("%+v: %d, %d, %v, %v", tt.images, high, low, age, err)
		}
	}
}

func TestLoadWithoutFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none")
	c, err := config.LoadIfExists(path)
	if err != nil || !cmp.Equal(c, &config.Config{}) {
		t.Errorf("optional: %v, %v", c, err)
	}
	if _, err := config.Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("required: %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("root = \"/a\"\n[log]\nmax_files = 1\n")
	f.Add("x = {a = 1}")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := load(t, text); err == nil && c.Root != "" && c.Root[0] != '/' {
			t.Errorf("root %q", c.Root)
		}
	})
}

// TestDropIns: later files replace what earlier ones set, and no more.
func TestDropIns(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"config.toml":           "root = \"/a\"\n[network]\ndns = [\"1.1.1.1\", \"2.2.2.2\"]\n[pull]\nlayers = 1\n",
		"config.d/10-a.toml":    "[network]\ndns = [\"3.3.3.3\"]\n",
		"config.d/20-b.toml":    "[pull]\nlayers = 2\n",
		"config.d/30-c.nottoml": "nonsense",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(filepath.Join(dir, "config.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Root != "/a" || c.Pull.Layers != 2 || len(c.Network.DNS) != 1 || c.Network.DNS[0] != "3.3.3.3" || len(c.Files) != 3 {
		t.Errorf("loaded %+v of %q", c, c.Files)
	}
	bad := filepath.Join(dir, "config.d", "40-d.toml")
	if err := os.WriteFile(bad, []byte("\n[pull]\nlairs = 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(filepath.Join(dir, "config.toml")); !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), bad) || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("an unknown key of a drop-in: %v", err)
	}
}
