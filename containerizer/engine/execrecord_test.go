package engine

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// An exec reads the record of a launch in part: the part must be all it needs.
func TestExecRecordReadsTheLaunchRecord(t *testing.T) {
	score := 5
	info := &containerizer.LaunchInfo{
		Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}}, UIDMappings: []specs.LinuxIDMapping{{Size: 1}}, GIDMappings: []specs.LinuxIDMapping{{Size: 2}},
		Cgroup: &containerizer.CgroupAttachment{Unified: "/x"}, Hostname: "h", Env: []string{"A=b"}, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CPU"}},
		OOMScoreAdj: &score, Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}}, NoNewPrivileges: true,
		Seccomp: &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, AppArmorProfile: "a", SELinuxLabel: "s", AdditionalGIDs: []uint32{7},
	}
	spec := &containerizer.Spec{Process: containerizer.Process{Env: []string{"C=d"}, User: "u"}, Security: containerizer.Security{Privileged: true}, Runtime: "r"}
	text, err := json.Marshal(&launchRecord{Spec: spec, Info: info})
	if err != nil {
		t.Fatal(err)
	}
	var rec execRecord
	if err := json.Unmarshal(text, &rec); err != nil {
		t.Fatal(err)
	}
	var x execBases
	profile, err := x.profile("", rec.Info.Seccomp)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := x.profile("", rec.Info.Seccomp); again != profile || err != nil {
		t.Errorf("a profile that is known is decoded again: %v", err)
	}
	if diff := cmp.Diff(info, rec.info(profile)); diff != "" {
		t.Errorf("launch information (-written +read):\n%s", diff)
	}
	if diff := cmp.Diff(spec, rec.spec()); diff != "" {
		t.Errorf("spec (-written +read):\n%s", diff)
	}
}

// A record that was replaced is read anew, whatever it has in common with the last one.
func TestExecBaseFollowsTheRecord(t *testing.T) {
	e, l := &Engine{}, &loaded{id: "c", dir: t.TempDir()}
	write := func(host string) {
		t.Helper()
		if err := writeJSON(filepath.Join(l.dir, launchFile), &launchRecord{Spec: &containerizer.Spec{}, Info: &containerizer.LaunchInfo{Hostname: host}}); err != nil {
			t.Fatal(err)
		}
	}
	var last *execBase
	for _, host := range []string{"a", "b", "b"} {
		write(host)
		for n := range 2 {
			b, err := e.execBase(l)
			if err != nil || b.info.Hostname != host {
				t.Fatalf("host name %q, %v, want %q", b.info.Hostname, err, host)
			}
			if n == 1 && b != last {
				t.Error("a record that stayed is read again")
			}
			last = b
		}
	}
	if err := os.WriteFile(filepath.Join(l.dir, "none"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(l.dir, "none"), filepath.Join(l.dir, launchFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.execBase(l); !errors.Is(err, containerizer.ErrDataCorrupt) {
		t.Errorf("an empty record: %v, want %v", err, containerizer.ErrDataCorrupt)
	}
}
