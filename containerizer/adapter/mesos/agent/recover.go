package agent

import (
	"context"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
)

// Recover ends the sessions that an earlier server left: their clients went with it.
// It is called before the node is ready.
func (s *Server) Recover(ctx context.Context) error {
	left, err := s.Engine.List(ctx, containerizer.Filter{Labels: map[string]string{translate.LabelClass: translate.ClassDebug}})
	if err != nil {
		return err
	}
	for i := range left {
		if ours(&left[i]) && alive(&left[i]) {
			s.endSession(ctx, left[i].ID)
		}
	}
	return nil
}
