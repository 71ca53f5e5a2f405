package config

import (
	"fmt"
	"net"
	"path/filepath"
)

// Mesos says how tools and executors of Mesos reach berthd: the operator API of an
// agent. Without Socket and Address it is not served.
type Mesos struct {
	// Socket is the path of a socket for root, Address a TCP "HOST:PORT".
	Socket  string `toml:"socket"`
	Address string `toml:"address"`
	// WorkDir is the folder of sandboxes; "" is mesos in Root. SandboxDirectory is where
	// containers with an image find theirs; "" is /mnt/mesos/sandbox.
	WorkDir          string `toml:"work_dir"`
	SandboxDirectory string `toml:"sandbox_directory"`
	// Credentials, JWTSecretKey and ACLs are paths of files in the form of Mesos's flags
	// of these names. Address needs one of the first two, unless Anonymous lets everybody
	// who reaches it be as good as root.
	Credentials  string `toml:"credentials"`
	JWTSecretKey string `toml:"jwt_secret_key"`
	ACLs         string `toml:"acls"`
	Anonymous    bool   `toml:"anonymous"`
	// SeccompConfigDir has the profiles that containers may name.
	SeccompConfigDir string `toml:"seccomp_config_dir"`
	// CgroupsEnableCFS bounds processor time by requests, where no limit is given.
	CgroupsEnableCFS bool `toml:"cgroups_enable_cfs"`
}

// Serves says whether the API is to be served.
func (m *Mesos) Serves() bool { return m.Socket != "" || m.Address != "" }

func (m *Mesos) check() error {
	for _, p := range []struct{ key, path string }{
		{"socket", m.Socket},
		{"work_dir", m.WorkDir},
		{"sandbox_directory", m.SandboxDirectory},
		{"credentials", m.Credentials},
		{"jwt_secret_key", m.JWTSecretKey},
		{"acls", m.ACLs},
		{"seccomp_config_dir", m.SeccompConfigDir},
	} {
		if p.path != "" && !filepath.IsAbs(p.path) {
			return fmt.Errorf("mesos.%s = %q is not an absolute path", p.key, p.path)
		}
	}
	if m.Address == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(m.Address); err != nil {
		return fmt.Errorf("mesos.address: %w", err)
	}
	if m.Credentials == "" && m.JWTSecretKey == "" && !m.Anonymous {
		return fmt.Errorf("mesos.address = %q: mesos.credentials or mesos.jwt_secret_key is needed, because who uses it is as good as root (or anonymous = true)", m.Address)
	}
	return nil
}
