package client

import (
	"context"
	"fmt"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// Exec implements [containerizer.Control].
func (e *Engine) Exec(ctx context.Context, id containerizer.ContainerID, p *containerizer.Process, client *containerizer.IO) (containerizer.ExecProcess, error) {
	begin := &berthv1.ConnectExec{Id: id.String(), Process: &berthv1.Process{}}
	if err := wire.Encode(begin.GetProcess(), p); err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	if client != nil {
		begin.Streams = wanted(client)
	}
	s, err := e.session(ctx, client, &berthv1.ConnectRequest{Message: &berthv1.ConnectRequest_Exec{Exec: begin}})
	if err != nil {
		return nil, err
	}
	return &execProcess{s, client != nil}, nil
}

// execProcess implements [containerizer.ExecProcess].
type execProcess struct {
	*session

	pumped bool
}

// PID implements [containerizer.ExecProcess].
func (p *execProcess) PID() int { return p.pid }

// Session implements [containerizer.ExecProcess].
func (p *execProcess) Session() containerizer.Session {
	if !p.pumped {
		return nil
	}
	return p.session
}

// Wait implements [containerizer.ExecProcess].
func (p *execProcess) Wait(ctx context.Context) (*containerizer.Termination, error) {
	select {
	case <-p.exit:
		return p.termination, p.exitErr
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the process: %w", context.Cause(ctx))
	}
}

// Signal implements [containerizer.ExecProcess].
func (p *execProcess) Signal(_ context.Context, sig int) error {
	if sig < 1 || sig > 64 {
		return fmt.Errorf("there is no signal %d: %w", sig, containerizer.ErrInvalid)
	}
	return wire.Error(p.send(&berthv1.ConnectRequest{Message: &berthv1.ConnectRequest_Signal{Signal: int32(sig)}}))
}

// Close implements [containerizer.ExecProcess].
func (p *execProcess) Close() error {
	p.Detach()
	return nil
}
