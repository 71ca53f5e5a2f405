package cgroup

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// maxPIDs is PID_MAX_LIMIT of 64-bit kernels; pids.max takes no more.
const maxPIDs = 4 << 20

func (i *Isolator) planPIDs(p *plan, r *specs.LinuxPids) error {
	if r == nil || r.Limit == nil {
		return nil
	}
	limit := *r.Limit
	switch {
	case limit < -1 || limit > maxPIDs:
		return fmt.Errorf("pids.limit %d is outside 1 to %d (-1 and 0: no limit): %w", limit, maxPIDs, containerizer.ErrInvalid)
	case limit == 0:
		limit = -1
	}
	if i.node.of(pids) == nil {
		if limit == -1 {
			return nil // which is what a node without the controller does
		}
		return i.node.missing(pids, "pids.limit")
	}
	p.add(setting{field: "pids.limit", controller: pids, file: "pids.max", value: maxOr(limit)})
	return nil
}
