package cli

import (
	"fmt"
	"slices"
	"time"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/cmd/berth/internal/specflag"
	"github.com/berth-dev/berth/containerizer"
)

// applyDefaults fills in what the flags left open and the configuration says.
func applyDefaults(spec *containerizer.Spec, s *Settings) error {
	limits, err := specflag.Ulimits(s.Containers.Ulimits)
	if err != nil {
		return fmt.Errorf("configuration %q: %w", s.ConfigPath, err)
	}
	for _, l := range limits {
		if !slices.ContainsFunc(spec.Process.Rlimits, func(r specs.POSIXRlimit) bool { return r.Type == l.Type }) {
			spec.Process.Rlimits = append(spec.Process.Rlimits, l)
		}
	}
	if spec.Security.Seccomp == "" && !spec.Security.Privileged {
		spec.Security.Seccomp = s.Containers.Seccomp
	}
	if limit := s.Containers.PidsLimit; limit > 0 && spec.Resources.Linux.Pids == nil {
		spec.Resources.Linux.Pids = &specs.LinuxPids{Limit: &limit}
	}
	if t := s.Containers.StopTimeoutSeconds; t != nil && spec.StopTimeout == nil {
		d := time.Duration(*t) * time.Second
		spec.StopTimeout = &d
	}
	if len(spec.Network.DNSServers) == 0 {
		spec.Network.DNSServers = s.Network.DNS
	}
	return logDefaults(&spec.Log, s)
}

func logDefaults(log *containerizer.LogConfig, s *Settings) error {
	if log.Driver != containerizer.LogFile {
		return nil
	}
	if s.Log.MaxSize != "" && log.MaxSizeBytes == 0 {
		n, err := units.RAMInBytes(s.Log.MaxSize)
		if err != nil || n < 0 {
			return invalidf("configuration %q: log.max_size = %q is not a size", s.ConfigPath, s.Log.MaxSize)
		}
		log.MaxSizeBytes = n
	}
	if log.MaxFiles == 0 {
		log.MaxFiles = s.Log.MaxFiles
	}
	return nil
}
