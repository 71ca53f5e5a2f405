package volume_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/cmd/berth/internal/volume"
	"github.com/berth-dev/berth/containerizer"
)

func names(t *testing.T, s *volume.Store) []string {
	t.Helper()
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, v := range list {
		out = append(out, v.Name)
	}
	return out
}

func TestLife(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volumes")
	s := volume.New(dir)
	if got := names(t, s); got != nil {
		t.Errorf("before: %q", got)
	}
	if made, err := s.Ensure("b", map[string]string{"k": "v"}); !made || err != nil {
		t.Fatalf("Ensure: %v, %v", made, err)
	}
	if made, err := s.Ensure("b", nil); made || err != nil {
		t.Fatalf("Ensure again: %v, %v", made, err)
	}
	if _, err := s.Ensure("a", nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, names(t, s)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	v, err := s.Get("b")
	if err != nil {
		t.Fatal(err)
	}
	if v.Mountpoint != filepath.Join(dir, "b") || v.Labels["k"] != "v" {
		t.Errorf("volume %+v", v)
	}
	if err := os.WriteFile(filepath.Join(v.Mountpoint, "file"), make([]byte, 9000), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Size("b"); err != nil || n < 9000 {
		t.Errorf("size %d, %v", n, err)
	}
	for range 2 {
		if err := s.Remove("b"); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"a"}, names(t, s)); diff != "" {
		t.Errorf("names after (-want +got):\n%s", diff)
	}
	if _, err := s.Get("b"); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("Get: %v", err)
	}
	// Labels must not come back with a new volume of that name.
	if _, err := s.Ensure("b", nil); err != nil {
		t.Fatal(err)
	}
	if v, err = s.Get("b"); err != nil || v.Labels != nil {
		t.Errorf("new volume %+v, %v", v, err)
	}
}

func TestBadNames(t *testing.T) {
	s := volume.New(t.TempDir())
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".facts", "-a", "a\x00"} {
		_, ensure := s.Ensure(name, nil)
		_, get := s.Get(name)
		for _, err := range []error{ensure, get, s.Remove(name)} {
			if !errors.Is(err, containerizer.ErrInvalid) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
}

func TestParallel(t *testing.T) {
	s := volume.New(t.TempDir())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := s.Ensure("v", map[string]string{"a": "b"}); err != nil {
					t.Error(err)
				}
				if _, err := s.List(); err != nil {
					t.Error(err)
				}
				if err := s.Remove("v"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := names(t, s); got != nil {
		t.Errorf("left: %q", got)
	}
}
