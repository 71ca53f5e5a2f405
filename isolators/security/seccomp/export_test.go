package seccomp

import (
	profile "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Target is the machine and container that conditional rules are resolved for.
type Target struct {
	GOARCH       string
	Kernel       profile.KernelVersion
	Capabilities []string
}

// Resolve parses a profile and resolves it for t.
func (t Target) Resolve(data []byte) (*specs.LinuxSeccomp, error) {
	doc, err := parse(data)
	if err != nil {
		return nil, err
	}
	return (&target{t.GOARCH, t.Kernel, t.Capabilities}).resolve(doc)
}

// ParseKernelVersion reads a release of uname(2).
func ParseKernelVersion(release string) (profile.KernelVersion, error) {
	return parseKernelVersion(release)
}
