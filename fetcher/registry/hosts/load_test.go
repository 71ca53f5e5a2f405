package hosts_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/registry/hosts"
)

// tree makes files below a new directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func server(name string) string { return "server = \"https://" + name + "\"\n" }

func TestLoad(t *testing.T) {
	root := tree(t, map[string]string{
		"a/reg.example_5000_/hosts.toml": server("underscores"),
		"a/reg.example:5000/hosts.toml":  server("colon"),
		"a/colon.example:1/hosts.toml":   server("colon"),
		"a/plain.example/hosts.toml":     server("first"),
		"a/empty.example/hosts.toml":     "",
		"a/[::1]_5000_/hosts.toml":       server("six"),
		"a/_default/hosts.toml":          server("default"),
		"b/plain.example/hosts.toml":     server("second"),
		"b/empty.example/hosts.toml":     server("second"),
		"b/own.example/hosts.toml":       server("own"),
		"b/docker.example/ca.crt":        "x",
		"b/docker.example/client.cert":   "x",
		"b/docker.example/client.key":    "x",
		"b/docker.example/both.cert":     "x",
		"b/orphan.example/client.key":    "x",
	})
	dirs := []string{filepath.Join(root, "missing"), filepath.Join(root, "a"), filepath.Join(root, "b")}
	for registry, want := range map[string]string{
		"reg.example:5000":   "https://underscores/v2",
		"colon.example:1":    "https://colon/v2",
		"plain.example":      "https://first/v2",
		"empty.example":      "https://second/v2", // an empty directory says nothing
		"own.example":        "https://own/v2",    // comes before another directory's _default
		"[::1]:5000":         "https://six/v2",
		"plain.example:5000": "https://default/v2",
		"[::1]":              "https://default/v2",
	} {
		got, err := hosts.Load(dirs, registry)
		if err != nil || len(got) != 1 || got[0].URL == nil || got[0].URL.String() != want {
			t.Errorf("Load(%q) = %+v, %v; want %s", registry, got, err, want)
		}
	}

	got, err := hosts.Load(dirs, "docker.example")
	in := func(name string) string { return filepath.Join(root, "b/docker.example", name) }
	want := []seen{{Can: everything, CA: []string{in("ca.crt")}, Client: [][2]string{{in("both.cert"), ""}, {in("client.cert"), in("client.key")}}}}
	if diff := cmp.Diff(want, see(got)); err != nil || diff != "" {
		t.Errorf("Docker's form: %v\n%s", err, diff)
	}
	if _, err := hosts.Load(dirs, "orphan.example"); !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), "client.key") {
		t.Errorf("key without certificate: %v", err)
	}
	if got, err := hosts.Load(nil, "reg.example"); err != nil || len(got) != 1 || got[0].URL != nil || got[0].Can != everything {
		t.Errorf("without directories: %+v, %v", got, err)
	}
	for _, registry := range []string{"", ".", "..", "../x", "a/b", "a\x00"} {
		if _, err := hosts.Load(dirs, registry); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("Load(%q): %v", registry, err)
		}
	}
}

// TestLoadAgain has a file that changes between two pulls.
func TestLoadAgain(t *testing.T) {
	root := tree(t, map[string]string{"r/hosts.toml": server("one")})
	for _, name := range []string{"one", "two"} {
		if err := os.WriteFile(filepath.Join(root, "r/hosts.toml"), []byte(server(name)), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := hosts.Load([]string{root}, "r"); err != nil || got[0].URL.Host != name {
			t.Errorf("got %v, %v", got, err)
		}
	}
}

func TestLoadBroken(t *testing.T) {
	root := tree(t, map[string]string{
		"bad/hosts.toml":       "skip_verify = 3",
		"dir/hosts.toml/x":     "",
		"big/hosts.toml":       "#" + strings.Repeat("x", 1<<20),
		"_default/hosts.toml":  server("default"),
		"ca/hosts.toml":        "ca = \"missing.crt\"",
		"nopem/hosts.toml":     "ca = \"x.crt\"",
		"nopem/x.crt":          "not PEM",
		"badclient/hosts.toml": "client = \"x.pem\"",
		"badclient/x.pem":      "not PEM",
	})
	for registry, want := range map[string]string{
		"bad": "skip_verify", "dir": "not a regular file", "big": "not a regular file of at most",
	} {
		if _, err := hosts.Load([]string{root}, registry); !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "hosts.toml") {
			t.Errorf("%s: %v, want %q", registry, err, want)
		}
	}
	for registry, want := range map[string]string{
		"ca": "missing.crt", "nopem": "no certificate in PEM form", "badclient": "x.pem",
	} {
		all, err := hosts.Load([]string{root}, registry)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := all[0].Certificates(); !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "hosts.toml") {
			t.Errorf("%s: %v, want %q", registry, err, want)
		}
	}
}
