package network

import (
	"context"

	"github.com/berth-dev/berth/containerizer"
)

// Status fills in addresses and published ports. A container that shares another
// one's network has that one's addresses and no ports.
func (i *Isolator) Status(_ context.Context, c *containerizer.Container, s *containerizer.Status) error {
	m, err := modeOf(c)
	if err != nil || m.kind == kindHost || m.kind == kindPath {
		return err
	}
	rec, err := i.load(m.owner)
	if err != nil {
		return err
	}
	s.Networks = nil
	for _, a := range rec.Networks {
		if a.Status.Name != "" {
			s.Networks = append(s.Networks, a.Status)
		}
	}
	if m.kind == kindPrivate {
		s.Ports = rec.Ports
	}
	return nil
}
