package artifact_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
)

// TestFailedPlacing has the last of several artifacts find a directory in its place:
// what was placed before is taken back, and what it replaced is there again.
func TestFailedPlacing(t *testing.T) {
	b := newBench(t)
	b.files["one"], b.files["two"], b.files["tree.tar"] = "new one", "new two", "d tree\nf tree/a new"
	for path, content := range map[string]string{"one": "old one", "tree/a": "old a", "tree/own": "own", "taken/x": "x"} {
		path = filepath.Join(b.dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(b.dir, "link")); err != nil {
		t.Fatal(err)
	}
	before := listing(t, b.dir)
	_, err := b.fetch(
		containerizer.Artifact{URI: b.url + "one"}, containerizer.Artifact{URI: b.url + "tree.tar"},
		containerizer.Artifact{URI: b.url + "two", Output: "new/deep/two"}, containerizer.Artifact{URI: b.url + "one", Output: "link"},
		containerizer.Artifact{URI: b.url + "two", Output: "taken"},
	)
	if !errors.Is(err, containerizer.ErrAlreadyExists) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, listing(t, b.dir)); diff != "" {
		t.Errorf("the directory (-before +after):\n%s", diff)
	}
}

func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var b []byte
		if info.Mode().IsRegular() {
			if b, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		out[path] = info.Mode().String() + " " + string(b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
