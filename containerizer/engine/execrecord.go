package engine

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// execRecord is as much of launch.json as an exec session needs.
type execRecord struct {
	Spec struct {
		Process  containerizer.Process `json:"process"`
		Security struct {
			Privileged bool `json:"privileged"`
		} `json:"security"`
		Runtime string `json:"runtime"`
	} `json:"spec"`
	Info *struct {
		Namespaces      []specs.LinuxNamespace          `json:"namespaces"`
		UIDMappings     []specs.LinuxIDMapping          `json:"uidMappings"`
		GIDMappings     []specs.LinuxIDMapping          `json:"gidMappings"`
		Cgroup          *containerizer.CgroupAttachment `json:"cgroup"`
		Hostname        string                          `json:"hostname"`
		Env             []string                        `json:"env"`
		Rlimits         []specs.POSIXRlimit             `json:"rlimits"`
		OOMScoreAdj     *int                            `json:"oomScoreAdj"`
		Capabilities    *specs.LinuxCapabilities        `json:"capabilities"`
		NoNewPrivileges bool                            `json:"noNewPrivileges"`
		Seccomp         json.RawMessage                 `json:"seccomp"`
		AppArmorProfile string                          `json:"appArmorProfile"`
		SELinuxLabel    string                          `json:"seLinuxLabel"`
		AdditionalGIDs  []uint32                        `json:"additionalGIDs"`
	} `json:"info"`
}

// info is the launch information of the record, with its profile.
func (r *execRecord) info(profile *specs.LinuxSeccomp) *containerizer.LaunchInfo {
	i := r.Info
	return &containerizer.LaunchInfo{
		Namespaces: i.Namespaces, UIDMappings: i.UIDMappings, GIDMappings: i.GIDMappings, Cgroup: i.Cgroup,
		Hostname: i.Hostname, Env: i.Env, Rlimits: i.Rlimits, OOMScoreAdj: i.OOMScoreAdj,
		Capabilities: i.Capabilities, NoNewPrivileges: i.NoNewPrivileges, Seccomp: profile,
		AppArmorProfile: i.AppArmorProfile, SELinuxLabel: i.SELinuxLabel, AdditionalGIDs: i.AdditionalGIDs,
	}
}

// spec is what a launcher asks of a spec at an exec.
func (r *execRecord) spec() *containerizer.Spec {
	return &containerizer.Spec{Process: r.Spec.Process, Security: containerizer.Security{Privileged: r.Spec.Security.Privileged}, Runtime: r.Spec.Runtime}
}

// execBase is an execRecord, decoded. It is shared: nobody changes it.
type execBase struct {
	spec *containerizer.Spec
	info *containerizer.LaunchInfo
}

// execBases remembers them by container: a probe executes something each second, and
// a profile takes longer to decode than all else of launch.json.
type execBases struct {
	memo[*execBase]

	mu       sync.Mutex
	profiles map[[sha256.Size]byte]*specs.LinuxSeccomp // the same for many containers
}

// maxProfiles bounds how many profiles are remembered.
const maxProfiles = 64

// execBase reads what an exec session in l needs of its launch.
func (e *Engine) execBase(l *loaded) (*execBase, error) {
	path := filepath.Join(l.dir, launchFile)
	return e.execBases.read(l.id, path, func() (*execBase, error) {
		var rec execRecord
		if err := readJSON(path, &rec); err != nil {
			return nil, err
		}
		if rec.Info == nil {
			return nil, fmt.Errorf("%s is incomplete: %w", launchFile, containerizer.ErrDataCorrupt)
		}
		profile, err := e.execBases.profile(path, rec.Info.Seccomp)
		if err != nil {
			return nil, err
		}
		return &execBase{rec.spec(), rec.info(profile)}, nil
	})
}

// profile decodes a profile that is not known.
func (x *execBases) profile(path string, raw json.RawMessage) (*specs.LinuxSeccomp, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	key := sha256.Sum256(raw)
	x.mu.Lock()
	p := x.profiles[key]
	x.mu.Unlock()
	if p != nil {
		return p, nil
	}
	if err := decodeJSON(path, raw, &p); err != nil || p == nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.profiles == nil || len(x.profiles) >= maxProfiles {
		x.profiles = map[[sha256.Size]byte]*specs.LinuxSeccomp{}
	}
	x.profiles[key] = p
	return p, nil
}
