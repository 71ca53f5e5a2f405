package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-dev/berth/containerizer"
)

// TestReboot takes the state folder away, as a reboot does with /run, and in a
// second way only changes the boot it belongs to. What is to survive is there,
// exited; what is not can be reclaimed.
func TestReboot(t *testing.T) {
	for name, reboot := range map[string]func(t *testing.T, n *node){
		"state lost": func(t *testing.T, n *node) {
			t.Helper()
			for _, d := range []string{n.state, n.first.Root, n.last.Root} { // memory and kernel
				if err := os.RemoveAll(d); err != nil {
					t.Fatal(err)
				}
			}
			nodeAt(t, filepath.Dir(n.state))
		},
		"state kept": oldBoot,
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			ctx := t.Context()
			e := n.engine(t)
			stays, gone := imageSpec("sleep 1000"), imageSpec("sleep 1000")
			stays.Name, gone.AutoRemove = "stays", true
			for id, s := range map[containerizer.ContainerID]*containerizer.Spec{"stays": stays, "gone": gone} {
				if _, err := e.Launch(ctx, id, s, containerizer.LaunchOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := e.Launch(ctx, "stays.child", &containerizer.Spec{Process: stays.Process}, containerizer.LaunchOptions{}); err != nil {
				t.Fatal(err)
			}
			killFor(t, n, "stays.child", "stays", "gone") // as a reboot does
			reboot(t, n)

			e = n.engine(t)
			for _, id := range []containerizer.ContainerID{"stays", "stays.child"} {
				s, err := e.Status(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				if s.State != containerizer.StateExited || s.Termination.Reason != containerizer.ReasonUnknown || s.Interrupted {
					t.Errorf("Status(%s) = %+v with %+v, want exited for an unknown reason", id, s, s.Termination)
				}
			}
			if id, err := e.ResolveID(ctx, "stays"); err != nil || id != "stays" {
				t.Errorf("ResolveID = %q, %v", id, err)
			}
			if s, err := e.Status(ctx, "gone"); err == nil && s.State != containerizer.StateExited {
				t.Errorf("Status(gone) = %+v", s)
			} else if err != nil && !errors.Is(err, containerizer.ErrNotFound) {
				t.Errorf("Status(gone) = %v", err)
			}
			if _, err := e.Start(ctx, "stays", containerizer.LaunchOptions{}); err != nil {
				t.Fatalf("Start after the reboot = %v", err)
			}
			if r, err := e.Recover(ctx, true); err != nil || len(r.Owed) > 0 {
				t.Errorf("Recover = %+v, %v", r, err)
			}
			if _, err := e.Status(ctx, "gone"); !errors.Is(err, containerizer.ErrNotFound) {
				t.Errorf("Status(gone) after Recover = %v", err)
			}
			if err := e.Destroy(ctx, "stays"); err != nil {
				t.Error(err)
			}
			left := n.leftovers(t)
			if name == "state lost" { // the image store recovers by itself
				left = without(left, n.provisioner.Root)
			}
			if len(left) > 0 {
				t.Errorf("left on the node: %q", left)
			}
		})
	}
}

// killFor kills the processes and monitors of containers, by the launcher.
func killFor(t *testing.T, n *node, ids ...containerizer.ContainerID) {
	t.Helper()
	for _, id := range ids {
		c := &containerizer.Container{ID: id, Dir: filepath.Join(n.state, "containers", strings.ReplaceAll(string(id), ".", "/children/"))}
		if err := n.launcher.Cleanup(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}

// oldBoot makes the state folder one of another boot.
func oldBoot(t *testing.T, n *node) {
	t.Helper()
	boot := readFile(t, n.state, "boot")
	err := filepath.WalkDir(n.state, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(strings.ReplaceAll(string(b), boot, "another-boot")), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func without(paths []string, below string) []string {
	var out []string
	for _, p := range paths {
		if !strings.HasPrefix(p, below) {
			out = append(out, p)
		}
	}
	return out
}

// TestRecordsSurvive checks that an exit code outlives a reboot, and that damaged
// records are reported and removed.
func TestRecordsSurvive(t *testing.T) {
	n := newNode(t)
	ctx := t.Context()
	e := n.engine(t)
	if _, err := e.Launch(ctx, "c", spec("exit 42"), containerizer.LaunchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Wait(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for id, record := range map[string]string{"empty": "", "torn": `{"request":{"id":"torn"`, "other": `{"request":{"id":"c"}}`} {
		dir := filepath.Join(n.root, "records", id)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "record.json"), []byte(record), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(n.state); err != nil {
		t.Fatal(err)
	}
	e = n.engine(t)
	s, err := e.Status(ctx, "c")
	if err != nil || s.Termination == nil || s.Termination.ExitCode != 42 {
		t.Fatalf("Status = %+v, %v; want exit code 42", s, err)
	}
	for _, repair := range []bool{false, true} {
		r, err := e.Recover(ctx, repair)
		if err != nil || len(r.Owed) > 0 || len(r.Repaired) < 3 {
			t.Errorf("Recover(%t) = %+v, %v; want three damaged records", repair, r, err)
		}
	}
	if err := e.Destroy(ctx, "c"); err != nil {
		t.Error(err)
	}
	if left := n.leftovers(t); len(left) > 0 {
		t.Errorf("left on the node: %q", left)
	}
}

// TestDamagedContainer spoils each file of a container: it is still listed, and
// can be destroyed with everything it holds.
func TestDamagedContainer(t *testing.T) {
	for _, file := range []string{"spec.json", "status.json", "launch.json", "ledger"} {
		for name, content := range map[string]string{"empty": "", "nonsense": "{\x00", "newer": `{"version": 99}`} {
			t.Run(file+" "+name, func(t *testing.T) {
				n := newNode(t)
				ctx := t.Context()
				e := n.engine(t)
				s := imageSpec("sleep 1000")
				s.Name = "damaged"
				if _, err := e.Launch(ctx, "c", s, containerizer.LaunchOptions{}); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(n.state, "containers", "c", file), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
				all, err := e.List(ctx, containerizer.Filter{})
				if err != nil || len(all) != 1 {
					t.Errorf("List = %+v, %v; want the container", all, err)
				}
				if err := e.Destroy(ctx, "c"); err != nil {
					t.Errorf("Destroy = %v", err)
				}
				if _, err := e.Recover(ctx, true); err != nil {
					t.Errorf("Recover = %v", err)
				}
				left := n.leftovers(t)
				if file == "ledger" { // what was in it, others must find
					left = without(without(left, n.first.Root), n.provisioner.Root)
				}
				if len(left) > 0 {
					t.Errorf("left on the node: %q", left)
				}
			})
		}
	}
}
