package fetcher_test

import (
	"errors"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher"
	"github.com/berth-dev/berth/fetcher/policy"
)

func TestName(t *testing.T) {
	f := fetcher.New(fetcher.Options{})
	for in, want := range map[string]struct {
		name  string
		local bool
		err   error
	}{
		"debian":     {"docker.io/library/debian:latest", false, nil},
		"oci:/d:x":   {"oci:/d:x", true, nil},
		"Debian":     {"", false, containerizer.ErrInvalid},
		"ftp://x/y":  {"", false, containerizer.ErrUnsupported},
		"docker://a": {"docker.io/library/a:latest", false, nil},
	} {
		name, local, err := f.Name(in)
		if name != want.name || local != want.local || !errors.Is(err, want.err) {
			t.Errorf("Name(%q) = %q, %v, %v; want %+v", in, name, local, err, want)
		}
	}
}

func TestConnect(t *testing.T) {
	f := fetcher.New(fetcher.Options{})
	for name, want := range map[string]error{
		"oci:/nonexistent":            containerizer.ErrNotFound,
		"oci-archive:/nonexistent":    containerizer.ErrNotFound,
		"docker-archive:/nonexistent": containerizer.ErrNotFound,
		"oci-archive:/proc/self/cwd":  containerizer.ErrInvalid, // a directory
		"not a name":                  containerizer.ErrInvalid,
	} {
		if _, err := f.Connect(t.Context(), name, nil); !errors.Is(err, want) {
			t.Errorf("Connect(%q): %v, want class %q", name, err, want)
		}
	}
	blocked := fetcher.New(fetcher.Options{Policy: policy.Policy{Block: []string{"127.0.0.1:1"}}})
	if _, err := blocked.Connect(t.Context(), "127.0.0.1:1/a:b", nil); !errors.Is(err, containerizer.ErrPermission) {
		t.Errorf("blocked: %v", err)
	}
	o, err := f.Connect(t.Context(), "127.0.0.1:1/nothing/listens:here", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.Resolve(t.Context()); !errors.Is(err, containerizer.ErrUnavailable) {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := f.Contents(t.Context(), "/nonexistent"); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("Contents: %v", err)
	}
}
