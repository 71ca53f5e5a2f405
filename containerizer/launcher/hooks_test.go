package launcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// say is a hook that appends the status, pid and more of its state to the file at path:
// the kind, whether its namespaces are the host's, and the state.
func say(path, kind string) specs.Hook {
	script := `
net=inside; [ "$(readlink /proc/self/ns/net)" = "$HOST_NET" ] && net=host
read -r state
echo "$KIND $net $state" >> "$OUT"`
	net, _ := os.Readlink("/proc/self/ns/net")
	return specs.Hook{
		Path: "/bin/sh", Args: []string{"sh", "-c", script},
		Env: []string{"PATH=/bin:/usr/bin", "KIND=" + kind, "OUT=" + path, "HOST_NET=" + net},
	}
}

// heard is what hooks said: "KIND NET STATUS", and their states.
func heard(t *testing.T, path string) (lines []string, states []specs.State) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var state specs.State
		parts := strings.SplitN(line, " ", 3)
		if err := json.Unmarshal([]byte(parts[2]), &state); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, parts[0]+" "+parts[1]+" "+string(state.Status))
		states = append(states, state)
	}
	return lines, states
}

// TestHooks: each hook at its time, in its namespaces, with its state.
func TestHooks(t *testing.T) {
	l := newLauncher(t)
	for name, hold := range map[string]bool{"launched": false, "prepared and started": true} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "cat /started; ls /there; echo ran >> /order")
			host := filepath.Join(t.TempDir(), "said")
			root := r.Info.Rootfs.Path
			if err := os.Mkdir(filepath.Join(root, "there"), 0o755); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"ls", "readlink", "touch"} {
				if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil {
					t.Fatal(err)
				}
			}
			mount := specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "PATH=/bin:/usr/bin; mount -t tmpfs tmpfs ./there && touch ./there/mounted"}}
			r.Container.Spec.Annotations = map[string]string{"of": "mine"}
			r.Info.Hooks = &specs.Hooks{
				Prestart:        []specs.Hook{say(host, "prestart")}, //nolint:staticcheck // deprecated, and in use
				CreateRuntime:   []specs.Hook{say(host, "createRuntime")},
				CreateContainer: []specs.Hook{say(host, "createContainer"), mount},
				StartContainer:  []specs.Hook{say("/started", "startContainer")},
				Poststart:       []specs.Hook{say(host, "poststart")},
				Poststop:        []specs.Hook{say(host, "poststop")},
			}
			ctx := testContext(t)
			var out buffer
			r.Hold = hold
			if !hold {
				r.IO = &containerizer.IO{Stdout: &out, Stderr: &out}
			}
			launched, err := l.Launch(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			if hold {
				if _, err := os.Stat(filepath.Join(root, "started")); err == nil {
					t.Error("startContainer ran before the container was started")
				}
				if err := newLauncher(t).Start(ctx, r.Container); err != nil { // as another process would
					t.Fatal(err)
				}
			}
			if end, err := l.Wait(ctx, r.Container); err != nil || end.ExitCode != 0 {
				t.Fatalf("ended with %+v, %v: %s", end, err, out.String())
			}
			if !hold {
				_ = launched.Session.Wait()
				if got := out.String(); !strings.Contains(got, "mounted") || !strings.Contains(got, "startContainer") {
					t.Errorf("the container sees %q, want what hooks have made", got)
				}
			}
			if _, err := os.Stat(filepath.Join(root, "there", "mounted")); err == nil {
				t.Error("what a createContainer hook has mounted is seen outside of the container")
			}
			cleanup(t, l, r)
			cleanup(t, l, r) // again: poststop is over
			lines, states := heard(t, host)
			want := []string{
				"prestart host creating", "createRuntime host creating", "createContainer inside creating", "poststart host running", "poststop host stopped",
			}
			if diff := cmp.Diff(want, lines); diff != "" {
				t.Errorf("hooks (-want +got):\n%s", diff)
			}
			inside, innerStates := heard(t, filepath.Join(root, "started"))
			if diff := cmp.Diff([]string{"startContainer inside created"}, inside); diff != "" {
				t.Errorf("hooks inside (-want +got):\n%s", diff)
			}
			for i, pid := range []int{launched.PID, launched.PID, 1, launched.PID, 0} {
				if states[i].Pid != pid || states[i].ID != r.Container.ID.String() || states[i].Annotations["of"] != "mine" {
					t.Errorf("%s: state %+v, want pid %d", lines[i], states[i], pid)
				}
			}
			if innerStates[0].Pid != 1 {
				t.Errorf("startContainer is told pid %d, want 1", innerStates[0].Pid)
			}
		})
	}
}

// TestHooksBundle: the bundle is what hooks are told it is, in both file trees.
func TestHooksBundle(t *testing.T) {
	l := newLauncher(t)
	r := request(t, "exit 0")
	copied := filepath.Join(t.TempDir(), "config")
	script := "PATH=/bin:/usr/bin; cp config.json " + copied
	inner := "PATH=/bin:/usr/bin; test -x ./bin/busybox && cmp ../config.json " + copied
	r.Info.Hooks = &specs.Hooks{
		CreateRuntime:   []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}}},
		CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", inner}}},
	}
	run(t, l, r)
	text, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	var config specs.Spec
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	if config.Hostname != "box" || len(config.Mounts) == 0 || config.Process.Args[0] != "sh" || config.Root.Path != filepath.Join(r.Container.Dir, "bundle", "rootfs") {
		t.Errorf("config.json is %s", text)
	}
}

// TestHooksFail: the launch fails, says why, and leaves nothing.
func TestHooksFail(t *testing.T) {
	l := newLauncher(t)
	second := 1
	fails := specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "echo no luck >&2; exit 3"}}
	hangs := specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "/bin/sleep 1000 & wait"}, Timeout: &second}
	missing := specs.Hook{Path: "/nowhere/hook"}
	at := map[string]func(*specs.Hooks, specs.Hook){
		"prestart":        func(h *specs.Hooks, one specs.Hook) { h.Prestart = []specs.Hook{one} }, //nolint:staticcheck // deprecated, and in use
		"createRuntime":   func(h *specs.Hooks, one specs.Hook) { h.CreateRuntime = []specs.Hook{one} },
		"createContainer": func(h *specs.Hooks, one specs.Hook) { h.CreateContainer = []specs.Hook{one} },
		"startContainer":  func(h *specs.Hooks, one specs.Hook) { h.StartContainer = []specs.Hook{one} },
		"poststart":       func(h *specs.Hooks, one specs.Hook) { h.Poststart = []specs.Hook{one} },
	}
	for kind, set := range at {
		for name, tt := range map[string]struct {
			hook specs.Hook
			want string
		}{"fails": {fails, "no luck"}, "hangs": {hangs, "did not end within 1s"}, "missing": {missing, "no such file"}} {
			t.Run(kind+" "+name, func(t *testing.T) {
				r := request(t, "sleep 1000")
				stopped := filepath.Join(t.TempDir(), "stopped")
				r.Info.Hooks = &specs.Hooks{Poststop: []specs.Hook{say(stopped, "poststop")}}
				set(r.Info.Hooks, tt.hook)
				_, err := l.Launch(testContext(t), r)
				if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), kind+" hook") {
					t.Errorf("launch: %v, want the %s hook and %q", err, kind, tt.want)
				}
				if errors.Is(err, containerizer.ErrCommandNotFound) {
					t.Errorf("launch: %v, which is not about the command", err)
				}
				cleanup(t, l, r)
				if lines, _ := heard(t, stopped); len(lines) != 1 {
					t.Errorf("poststop hooks said %q", lines)
				}
			})
		}
	}
}

// TestPoststopFails: the others run, and the container goes.
func TestPoststopFails(t *testing.T) {
	l := newLauncher(t)
	r := request(t, "exit 0")
	host := filepath.Join(t.TempDir(), "said")
	r.Info.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/false"}, {Path: "/nowhere"}, say(host, "poststop")}}
	run(t, l, r)
	if lines, _ := heard(t, host); len(lines) != 1 {
		t.Errorf("poststop hooks said %q", lines)
	}
}

// TestHooksAreCancelled: a launch that is given up does not wait for a hook.
func TestHooksAreCancelled(t *testing.T) {
	l := newLauncher(t)
	for name, hooks := range map[string]*specs.Hooks{
		"here":   {CreateRuntime: []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "1000"}}}},
		"inside": {CreateContainer: []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "1000"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := request(t, "exit 0")
			r.Info.Hooks = hooks
			ctx, cancel := context.WithTimeout(testContext(t), time.Second)
			defer cancel()
			if _, err := l.Launch(ctx, r); err == nil {
				t.Error("the launch succeeded")
			}
			cleanup(t, l, r)
		})
	}
}

// TestHooksInUserNamespace: hooks inside are root of the user namespace.
func TestHooksInUserNamespace(t *testing.T) {
	l := newLauncher(t)
	r := request(t, "cat /inner")
	if err := os.Chmod(r.Info.Rootfs.Path, 0o777); err != nil {
		t.Fatal(err)
	}
	r.Info.Namespaces = append(r.Info.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	r.Info.UIDMappings = []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	r.Info.GIDMappings = r.Info.UIDMappings
	r.Info.Devices = nil
	script := `PATH=/bin:/usr/bin; cat /proc/self/uid_map; id -u; exit 9`
	r.Info.Hooks = &specs.Hooks{
		CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "[ $(/usr/bin/id -u) = 0 ] && /bin/grep -q 100000 /proc/self/uid_map"}}},
		StartContainer:  []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}}},
	}
	_, err := l.Launch(testContext(t), r)
	if err == nil || !strings.Contains(err.Error(), "startContainer hook") || !strings.Contains(err.Error(), "100000") || !strings.Contains(err.Error(), "status 9") {
		t.Errorf("launch: %v, want the startContainer hook in the user namespace", err)
	}
	cleanup(t, l, r)
}

// TestStartContainerIsConfined: the process that waits has no more than the hook may
// have, which may trace it.
func TestStartContainerIsConfined(t *testing.T) {
	l := newLauncher(t)
	r := request(t, "exit 0")
	caps := []string{"CAP_SYS_PTRACE", "CAP_SETUID"}
	r.Info.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	look := `while read -r k v; do case $k in Cap*) echo "$k $v";; esac; done < /proc/1/status; exit 9`
	r.Info.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", look}}}}
	_, err := l.Launch(testContext(t), r)
	for _, want := range []string{"CapPrm: 0000000000080080", "CapEff: 0000000000080080", "CapBnd: 0000000000080080"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("launch: %v, want process 1 with %q", err, want)
		}
	}
	cleanup(t, l, r)
}
