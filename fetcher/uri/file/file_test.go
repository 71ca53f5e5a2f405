package file_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
	"github.com/berth-dev/berth/fetcher/uri/file"
	"github.com/berth-dev/berth/fetcher/uri/uritest"
)

func write(t *testing.T, path string, content []byte, mode os.FileMode) string {
	t.Helper()
	_ = os.Remove(path)
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	uritest.Run(t, uritest.Subject{
		Scheme: file.New(), Missing: "file://" + dir + "/missing", Resumes: true,
		Put: func(t *testing.T, name string, content []byte) string {
			t.Helper()
			return write(t, filepath.Join(dir, name), content, 0o600)
		},
	})
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop", dir+"/loop"); err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]error{
		"file://elsewhere" + dir + "/x": containerizer.ErrInvalid,
		dir + "/fifo":                   containerizer.ErrInvalid,
		dir + "/loop":                   containerizer.ErrInvalid,
		dir:                             containerizer.ErrInvalid,
		"/dev/null":                     containerizer.ErrInvalid,
		dir + "/fifo/x":                 containerizer.ErrNotFound,
	} {
		if _, err := file.New().Open(t.Context(), uritest.Request(t, s)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", s, err, want)
		}
	}
}

// A task must not read what only we may.
func TestRightsOfTheUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	secret := write(t, dir+"/secret", []byte("s"), 0o600)
	group := write(t, dir+"/group", []byte("g"), 0o640)
	public := write(t, dir+"/public", []byte("p"), 0o644)
	if err := os.Chown(group, 0, 4321); err != nil {
		t.Fatal(err)
	}
	open := func(path string, o *containerizer.Owner) error {
		r := uritest.Request(t, path)
		r.Owner = o
		resp, err := file.New().Open(t.Context(), r)
		if err != nil {
			return err
		}
		_, err = io.ReadAll(resp.Body)
		return errors.Join(err, resp.Body.Close())
	}
	stranger, member := &containerizer.Owner{UID: 1234, GID: 1234}, &containerizer.Owner{UID: 1234, GID: 4321}
	for _, c := range []struct {
		path  string
		owner *containerizer.Owner
		want  error
	}{
		{secret, nil, nil},
		{secret, stranger, containerizer.ErrPermission},
		{group, stranger, containerizer.ErrPermission},
		{group, member, nil},
		{public, stranger, nil},
		{secret, nil, nil}, // the rights of this process are as before
	} {
		if err := open(c.path, c.owner); !errors.Is(err, c.want) {
			t.Errorf("%s as %+v: %v, want %v", c.path, c.owner, err, c.want)
		}
	}
	var _ uri.Scheme = file.New()
}
