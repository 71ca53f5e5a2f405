package grpc

import (
	"context"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// system is SystemService.
type system struct {
	berthv1.UnsafeSystemServiceServer // none of its methods may be missing here

	engine containerizer.Engine
	daemon Daemon
}

// Info implements [berthv1.SystemServiceServer].
func (s *system) Info(ctx context.Context, _ *berthv1.InfoRequest) (*berthv1.InfoResponse, error) {
	info := s.daemon.Info(ctx)
	m := &berthv1.InfoResponse{}
	return m, wire.Encode(m, &info)
}

// Recover implements [berthv1.SystemServiceServer].
func (s *system) Recover(ctx context.Context, r *berthv1.RecoverRequest) (*berthv1.RecoverResponse, error) {
	return answer(&berthv1.RecoverResponse{}, func() (*containerizer.RecoverReport, error) { return s.engine.Recover(ctx, r.GetRepair()) })
}

// Reload implements [berthv1.SystemServiceServer].
func (s *system) Reload(ctx context.Context, _ *berthv1.ReloadRequest) (*berthv1.ReloadResponse, error) {
	applied, restart, err := s.daemon.Reload(ctx)
	return &berthv1.ReloadResponse{Applied: applied, Restart: restart}, err
}

// Program implements [berthv1.SystemServiceServer].
func (s *system) Program(ctx context.Context, r *berthv1.ProgramRequest) (*berthv1.ProgramResponse, error) {
	id, spec, err := described(r)
	if err != nil {
		return nil, err
	}
	text, err := s.daemon.Program(ctx, id, spec)
	return &berthv1.ProgramResponse{Text: text}, err
}
