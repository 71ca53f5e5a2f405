package engine

import (
	"encoding/json"
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
	spec := &containerizer.Spec{Process: containerizer.Process{Env: []string{"C=d"}, User: "u"}, Security: containerizer.Security{Privileged: true}}
	text, err := json.Marshal(&launchRecord{Spec: spec, Info: info})
	if err != nil {
		t.Fatal(err)
	}
	var rec execRecord
	if err := json.Unmarshal(text, &rec); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(info, rec.info()); diff != "" {
		t.Errorf("launch information (-written +read):\n%s", diff)
	}
	if diff := cmp.Diff(spec, rec.spec()); diff != "" {
		t.Errorf("spec (-written +read):\n%s", diff)
	}
}
