package provisioner_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner"
)

func check(t *testing.T, p *provisioner.Provisioner, repair bool) *containerizer.StoreCheck {
	t.Helper()
	r, err := p.Check(t.Context(), repair)
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return r
}

// must ends the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// one finds the only file of a pattern in the store.
func one(t *testing.T, root, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	return files[0]
}

// overwrite puts other content into a file, and leaves its times as they were.
func overwrite(t *testing.T, path, content string) {
	t.Helper()
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte(content), 0o600))
	must(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
}

// damages are what may happen to a store with one image of a layer {a: content,
// dir/, dir/b, link}.
func damages() map[string]func(t *testing.T, root string) {
	file := func(change func(path string) error) func(t *testing.T, root string) {
		return func(t *testing.T, root string) { t.Helper(); must(t, change(one(t, root, "layers/*/fs/a"))) }
	}
	record := func(pattern string) func(t *testing.T, root string) {
		return func(t *testing.T, root string) { t.Helper(); overwrite(t, one(t, root, pattern), "broken") }
	}
	cut := func(pattern string) func(t *testing.T, root string) {
		return func(t *testing.T, root string) { t.Helper(); must(t, os.Truncate(one(t, root, pattern), 0)) }
	}
	return map[string]func(t *testing.T, root string){
		"content, as long and as old": func(t *testing.T, root string) {
			t.Helper()
			overwrite(t, one(t, root, "layers/*/fs/a"), "c0ntent")
		},
		"a file cut off":   cut("layers/*/fs/a"),
		"a file's mode":    file(func(a string) error { return os.Chmod(a, 0o4755) }),
		"a file's owner":   file(func(a string) error { return os.Chown(a, 1, 1) }),
		"a file's time":    file(func(a string) error { return os.Chtimes(a, time.Now(), time.Now()) }),
		"a file missing":   file(os.Remove),
		"a file too many":  file(func(a string) error { return os.WriteFile(a+"b", nil, 0o600) }),
		"the last missing": func(t *testing.T, root string) { t.Helper(); must(t, os.Remove(one(t, root, "layers/*/fs/link"))) },
		"the last too many": func(t *testing.T, root string) {
			t.Helper()
			must(t, os.WriteFile(filepath.Join(one(t, root, "layers/*/fs"), "zzz"), nil, 0o600))
		},
		"a file that is a link": file(func(a string) error {
			return errors.Join(os.Remove(a), os.Symlink("content", a))
		}),
		"a link elsewhere": func(t *testing.T, root string) {
			t.Helper()
			link := one(t, root, "layers/*/fs/link")
			must(t, os.Remove(link))
			must(t, os.Symlink("/etc/shadow", link))
		},
		"a directory's mode": func(t *testing.T, root string) { t.Helper(); must(t, os.Chmod(one(t, root, "layers/*/fs/dir"), 0o777)) },
		"a layer missing":    func(t *testing.T, root string) { t.Helper(); must(t, os.RemoveAll(one(t, root, "layers/*"))) },
		"a layer's record":   record("layers/*/meta.json"),
		"a layer's list":     record("layers/*/files.mtree"),
		"half a list":        cut("layers/*/files.mtree"),
		"no list":            func(t *testing.T, root string) { t.Helper(); must(t, os.Remove(one(t, root, "layers/*/files.mtree"))) },
		"an image record":    record("images/*.json"),
		"half a record":      cut("images/*.json"),
		"a name's record":    record("refs/*.json"),
		"all blobs": func(t *testing.T, root string) {
			t.Helper()
			files, _ := filepath.Glob(filepath.Join(root, "oci/blobs/sha256/*"))
			for _, f := range files {
				overwrite(t, f, "broken")
			}
		},
		"no blobs": func(t *testing.T, root string) {
			t.Helper()
			files, _ := filepath.Glob(filepath.Join(root, "oci/blobs/sha256/*"))
			for _, f := range files {
				must(t, os.Remove(f))
			}
		},
	}
}

func damagedStore(t *testing.T) (f *fakeFetcher, p *provisioner.Provisioner, root string) {
	t.Helper()
	f = newFakeFetcher()
	f.image("app", layerTar(t, "f a content", "d dir 755", "f dir/b b", "l link a"))
	p, root = newStore(t, f)
	if _, err := p.Pull(t.Context(), source("app"), containerizer.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if r := check(t, p, false); len(r.Found) != 0 {
		t.Fatalf("before it was listed: %q", r.Found)
	}
	must(t, p.Sweep(t.Context()))
	wantClean(t, p, root)
	return f, p, root
}

func TestRepair(t *testing.T) {
	for name, damage := range damages() {
		t.Run(name, func(t *testing.T) {
			f, p, root := damagedStore(t)
			damage(t, root)
			found := check(t, p, false).Found
			if len(found) == 0 {
				t.Error("the damage was not found")
			}
			r := check(t, p, true)
			if !cmp.Equal(found, r.Found) || len(r.Repaired) == 0 || len(r.Owed) > 0 {
				t.Errorf("repair: %+v, found before: %q", r, found)
			}
			wantClean(t, p, root)
			f.down = true // it is whole without asking anybody
			got, err := p.Provision(t.Context(), "c", source("app"))
			if err != nil {
				t.Fatalf("after the repair: %v; %q", err, r.Repaired)
			}
			want := []string{". drwxr-xr-x", "a -rw-r--r-- content", "dir drwxr-xr-x", "dir/b -rw-r--r-- b", "link Lrwxrwxrwx -> a"}
			if diff := cmp.Diff(want, shown(t, mountRootfs(t, got.Rootfs))); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			wantClean(t, p, root)
		})
	}
}

// TestRepairWithoutRegistry repairs what the store's blobs allow, and owes the rest.
func TestRepairWithoutRegistry(t *testing.T) {
	for name, damage := range damages() {
		t.Run(name, func(t *testing.T) {
			f, p, root := damagedStore(t)
			f.down = true
			damage(t, root)
			r := check(t, p, true)
			if lost := strings.Contains(name, "blobs"); lost != (len(r.Owed) > 0) {
				t.Errorf("repair: %+v", r)
			}
			f.down = false
			if _, err := p.Pull(t.Context(), containerizer.ImageSource{Reference: "app", Pull: containerizer.PullAlways}, containerizer.PullOptions{}); err != nil {
				t.Fatal(err)
			}
			if name != "all blobs" && name != "no blobs" {
				wantClean(t, p, root)
			}
			if _, err := p.Provision(t.Context(), "c", source("app")); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRepairUnderContainers keeps a broken layer for the containers that run on it,
// and gives a whole one to those that start.
func TestRepairUnderContainers(t *testing.T) {
	_, p, root := damagedStore(t)
	got, err := p.Provision(t.Context(), "c", source("app"))
	must(t, err)
	running := mountRootfs(t, got.Rootfs)
	damages()["a directory's mode"](t, root)
	if r := check(t, p, true); len(r.Owed) > 0 {
		t.Errorf("repair: %+v", r)
	}
	must(t, p.Sweep(t.Context()))
	if b, err := os.ReadFile(filepath.Join(running, "dir/b")); string(b) != "b" {
		t.Errorf("the running container lost its files: %v", err)
	}
	wantClean(t, p, root)
	if again, err := p.Provision(t.Context(), "c", source("app")); err != nil || !cmp.Equal(again.Rootfs, got.Rootfs) {
		t.Errorf("the container cannot start again: %v", err)
	}
	must(t, p.Destroy(t.Context(), "c"))
	if _, err := p.Prune(t.Context(), containerizer.PruneOptions{}); err != nil {
		t.Error(err)
	}
	if dirs, _ := filepath.Glob(filepath.Join(root, "layers", "*")); len(dirs) != 1 {
		t.Errorf("without containers there are the layers %q", dirs)
	}
}

// TestLeftovers has half a lease and files of a pull that died: no damage, but told.
func TestLeftovers(t *testing.T) {
	_, p, root := damagedStore(t)
	must(t, os.WriteFile(filepath.Join(root, "leases", "0123.json"), []byte(`{"layers":["`), 0o600))
	must(t, os.MkdirAll(filepath.Join(root, "stage", "0123-4567", "fs", "dir"), 0o700))
	must(t, os.WriteFile(filepath.Join(root, "stage", "file-89"), nil, 0o600))
	writing, err := os.OpenFile(filepath.Join(root, "stage", "file-90"), os.O_WRONLY|os.O_CREATE, 0o600)
	must(t, err)
	must(t, unix.Flock(int(writing.Fd()), unix.LOCK_EX)) // just being written
	want := []string{"leases/0123.json", "stage/0123-4567", "stage/file-89"}
	r := check(t, p, false)
	if diff := cmp.Diff(want, r.Left); diff != "" || len(r.Found) > 0 {
		t.Errorf("left over (-want +got):\n%s\nfound %q", diff, r.Found)
	}
	if r = check(t, p, true); len(r.Repaired) != 3 {
		t.Errorf("repair: %+v", r)
	}
	must(t, writing.Close())
	must(t, os.Remove(filepath.Join(root, "stage", "file-90")))
	wantClean(t, p, root)
}

// TestCheckBesidesOthers has containers come and go, and images pulled and pruned,
// while the store is checked again and again.
func TestCheckBesidesOthers(t *testing.T) {
	f := newFakeFetcher()
	for n := range 4 {
		f.image(fmt.Sprint("app", n), layerTar(t, "f shared 1"), layerTar(t, fmt.Sprintf("f own%d 1", n)))
	}
	p, root := newStore(t, f)
	end := make(chan error)
	go func() {
		var err error
		for n := 0; n < 40 && err == nil; n++ {
			_, err = p.Provision(t.Context(), id(fmt.Sprint("c", n)), source(fmt.Sprint("app", n%4)))
			if err == nil {
				err = p.Destroy(t.Context(), id(fmt.Sprint("c", n)))
			}
			if err == nil && n%3 == 0 {
				_, err = p.Prune(t.Context(), containerizer.PruneOptions{All: true})
			}
		}
		end <- err
	}()
	q := open(t, root, f)
	for {
		select {
		case err := <-end:
			must(t, err)
			wantClean(t, p, root)
			return
		default:
		}
		if r := check(t, q, false); len(r.Found) > 0 {
			t.Errorf("found %q", slices.Compact(r.Found))
		}
	}
}

// TestFailedRepairKeepsNames damages a layer of an image whose registry is gone: its
// name stays and is owed, pinned as it was, and what is whole of the image stays too.
func TestFailedRepairKeepsNames(t *testing.T) {
	f := newFakeFetcher()
	f.image("app", layerTar(t, "f a content"), layerTar(t, "f b whole"))
	p, root := newStore(t, f)
	_, err := p.Pull(t.Context(), source("app"), containerizer.PullOptions{})
	must(t, err)
	must(t, p.Pin(t.Context(), "app", true))
	must(t, p.Sweep(t.Context()))
	f.down = true
	a := one(t, root, "layers/*/fs/a")
	layer := filepath.Base(filepath.Dir(filepath.Dir(a)))
	overwrite(t, a, "c0ntent")
	for _, blob := range []string{one(t, root, "layers/"+layer+"/meta.json")} {
		m, err := os.ReadFile(blob)
		must(t, err)
		_, rest, _ := strings.Cut(string(m), `"blob":"sha256:`)
		hex, _, _ := strings.Cut(rest, `"`)
		must(t, os.Remove(filepath.Join(root, "oci/blobs/sha256", hex)))
	}
	for range 2 { // a second repair owes the same
		r := check(t, p, true)
		if len(r.Owed) != 1 || !strings.Contains(r.Owed[0], `called "app"`) || !strings.Contains(r.Owed[0], "pull it") {
			t.Fatalf("repair: %+v", r)
		}
		if r := check(t, p, false); len(r.Found) != 1 || !strings.Contains(r.Found[0], `name "app"`) {
			t.Errorf("after the repair is found: %q", r.Found)
		}
	}
	never := containerizer.ImageSource{Reference: "app", Pull: containerizer.PullNever}
	if _, err := p.Provision(t.Context(), "c", never); !errors.Is(err, containerizer.ErrDataCorrupt) || !strings.Contains(err.Error(), "pull it again") {
		t.Errorf("to use it: %v", err)
	}
	if _, err := p.Inspect(t.Context(), "app"); !errors.Is(err, containerizer.ErrDataCorrupt) {
		t.Errorf("to look at it: %v", err)
	}
	if _, err := p.Remove(t.Context(), "app", false); !errors.Is(err, containerizer.ErrFailedPrecondition) {
		t.Errorf("it is not pinned any more: %v", err)
	}
	if _, err := p.Prune(t.Context(), containerizer.PruneOptions{All: true}); err != nil {
		t.Error(err)
	}
	if r := check(t, p, false); len(r.Found) != 1 {
		t.Errorf("a pinned name was pruned: %q", r.Found)
	}
	f.down = false
	_, err = p.Provision(t.Context(), "c", source("app"))
	must(t, err)
	wantClean(t, p, root)
}

// TestForgettingWhatIsLost removes the name of an image that could not be repaired.
func TestForgettingWhatIsLost(t *testing.T) {
	for name, remove := range map[string]func(p *provisioner.Provisioner) (*containerizer.PruneReport, error){
		"remove": func(p *provisioner.Provisioner) (*containerizer.PruneReport, error) {
			return p.Remove(t.Context(), "app", false)
		},
		"prune": func(p *provisioner.Provisioner) (*containerizer.PruneReport, error) {
			return p.Prune(t.Context(), containerizer.PruneOptions{All: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, p, root := damagedStore(t)
			f.down = true
			damages()["no blobs"](t, root)
			if r := check(t, p, true); len(r.Owed) != 1 {
				t.Fatalf("repair: %+v", r)
			}
			report, err := remove(p)
			if err != nil || !slices.Contains(report.Images, "app") {
				t.Errorf("%+v, %v", report, err)
			}
			wantClean(t, p, root)
			for _, dir := range []string{"refs", "layers", "images"} {
				wantEmpty(t, filepath.Join(root, dir))
			}
		})
	}
}
