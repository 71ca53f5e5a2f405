package client

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// Engine implements [containerizer.Engine].
type Engine struct {
	rpc    berthv1.ContainersServiceClient
	system berthv1.SystemServiceClient
}

var _ containerizer.Engine = (*Engine)(nil)

// encodeSpec leaves it to the daemon to miss a nil spec.
func encodeSpec(spec *containerizer.Spec) (*berthv1.Spec, error) {
	if spec == nil {
		return nil, nil
	}
	m := &berthv1.Spec{}
	if err := wire.Encode(m, spec); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	return m, nil
}

// Prepare implements [containerizer.Lifecycle].
func (e *Engine) Prepare(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec) error {
	m, err := encodeSpec(spec)
	if err != nil {
		return err
	}
	_, err = e.rpc.Prepare(ctx, &berthv1.PrepareRequest{Id: id.String(), Spec: m})
	return wire.Error(err)
}

// Start implements [containerizer.Lifecycle].
func (e *Engine) Start(ctx context.Context, id containerizer.ContainerID, o containerizer.LaunchOptions) (containerizer.Session, error) {
	if o.Attach == nil {
		_, err := e.rpc.Start(ctx, &berthv1.StartRequest{Id: id.String()})
		return nil, wire.Error(err)
	}
	begin := &berthv1.ConnectStart{Id: id.String(), Streams: wanted(o.Attach)}
	return e.session(ctx, o.Attach, &berthv1.ConnectRequest{Message: &berthv1.ConnectRequest_Start{Start: begin}})
}

// Launch implements [containerizer.Lifecycle].
func (e *Engine) Launch(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec, o containerizer.LaunchOptions) (containerizer.Session, error) {
	m, err := encodeSpec(spec)
	if err != nil {
		return nil, err
	}
	var secrets [][]byte
	for _, kv := range o.SecretEnv {
		secrets = append(secrets, []byte(kv))
	}
	if o.Attach == nil {
		_, err := e.rpc.Launch(ctx, &berthv1.LaunchRequest{Id: id.String(), Spec: m, SecretEnv: secrets})
		return nil, wire.Error(err)
	}
	begin := &berthv1.ConnectLaunch{Id: id.String(), Spec: m, Streams: wanted(o.Attach), SecretEnv: secrets}
	return e.session(ctx, o.Attach, &berthv1.ConnectRequest{Message: &berthv1.ConnectRequest_Launch{Launch: begin}})
}

// Wait implements [containerizer.Lifecycle].
func (e *Engine) Wait(ctx context.Context, id containerizer.ContainerID) (*containerizer.Termination, error) {
	r, err := call(e.rpc.Wait(ctx, &berthv1.WaitRequest{Id: id.String()}))
	if err != nil {
		return nil, err
	}
	t := &containerizer.Termination{}
	return t, wire.Decode(t, r.GetTermination())
}

// Stop implements [containerizer.Lifecycle].
func (e *Engine) Stop(ctx context.Context, id containerizer.ContainerID, timeout *time.Duration) error {
	r := &berthv1.StopRequest{Id: id.String()}
	if timeout != nil {
		r.Timeout = durationpb.New(*timeout)
	}
	_, err := e.rpc.Stop(ctx, r)
	return wire.Error(err)
}

// Destroy implements [containerizer.Lifecycle].
func (e *Engine) Destroy(ctx context.Context, id containerizer.ContainerID) error {
	_, err := e.rpc.Destroy(ctx, &berthv1.DestroyRequest{Id: id.String()})
	return wire.Error(err)
}

// Kill implements [containerizer.Control].
func (e *Engine) Kill(ctx context.Context, id containerizer.ContainerID, sig int, all bool) error {
	const most = 1 << 20
	if sig < -most || sig > most { // the daemon says what is wrong with the others
		return fmt.Errorf("kill container %q: there is no signal %d: %w", id, sig, containerizer.ErrInvalid)
	}
	_, err := e.rpc.Kill(ctx, &berthv1.KillRequest{Id: id.String(), Signal: int32(sig), All: all})
	return wire.Error(err)
}

// Pause implements [containerizer.Control].
func (e *Engine) Pause(ctx context.Context, id containerizer.ContainerID) error {
	_, err := e.rpc.Pause(ctx, &berthv1.PauseRequest{Id: id.String()})
	return wire.Error(err)
}

// Resume implements [containerizer.Control].
func (e *Engine) Resume(ctx context.Context, id containerizer.ContainerID) error {
	_, err := e.rpc.Resume(ctx, &berthv1.ResumeRequest{Id: id.String()})
	return wire.Error(err)
}

// Update implements [containerizer.Control].
func (e *Engine) Update(ctx context.Context, id containerizer.ContainerID, r *containerizer.Resources) error {
	request := &berthv1.UpdateRequest{Id: id.String()}
	if r != nil {
		request.Resources = &berthv1.Resources{}
		if err := wire.Encode(request.GetResources(), r); err != nil {
			return fmt.Errorf("resources: %w", err)
		}
	}
	_, err := e.rpc.Update(ctx, request)
	return wire.Error(err)
}

// Attach implements [containerizer.Control].
func (e *Engine) Attach(ctx context.Context, id containerizer.ContainerID, client containerizer.IO) (containerizer.Session, error) {
	begin := &berthv1.ConnectAttach{Id: id.String(), Streams: wanted(&client)}
	return e.session(ctx, &client, &berthv1.ConnectRequest{Message: &berthv1.ConnectRequest_Attach{Attach: begin}})
}

// List implements [containerizer.Query].
func (e *Engine) List(ctx context.Context, f containerizer.Filter) ([]containerizer.Status, error) {
	r := &berthv1.ListRequest{}
	if err := wire.Encode(r, &f); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all []containerizer.Status
	stream, err := e.rpc.List(ctx, r)
	err = each(stream, err, func(part *berthv1.ListResponse) error {
		for _, m := range part.GetContainers() {
			s, err := decodeStatus(m)
			if err != nil {
				return err
			}
			all = append(all, *s)
		}
		return nil
	})
	return all, err
}

func decodeStatus(m *berthv1.Container) (*containerizer.Status, error) {
	s := &containerizer.Status{Spec: &containerizer.Spec{}}
	if err := wire.Decode(s, m); err != nil {
		return nil, fmt.Errorf("container %q: %w", m.GetId(), err)
	}
	return s, nil
}

// Status implements [containerizer.Query].
func (e *Engine) Status(ctx context.Context, id containerizer.ContainerID) (*containerizer.Status, error) {
	r, err := call(e.rpc.Get(ctx, &berthv1.GetRequest{Id: id.String()}))
	if err != nil {
		return nil, err
	}
	return decodeStatus(r.GetContainer())
}

// ResolveID implements [containerizer.Query].
func (e *Engine) ResolveID(ctx context.Context, nameOrID string) (containerizer.ContainerID, error) {
	r, err := call(e.rpc.Resolve(ctx, &berthv1.ResolveRequest{NameOrId: nameOrID}))
	return containerizer.ContainerID(r.GetId()), err
}

// Usage implements [containerizer.Query].
func (e *Engine) Usage(ctx context.Context, id containerizer.ContainerID) (*containerizer.Usage, error) {
	r, err := call(e.rpc.Usage(ctx, &berthv1.UsageRequest{Id: id.String()}))
	if err != nil {
		return nil, err
	}
	u := &containerizer.Usage{}
	return u, wire.Decode(u, r.GetUsage())
}

// Processes implements [containerizer.Query].
func (e *Engine) Processes(ctx context.Context, id containerizer.ContainerID) ([]int, error) {
	r, err := call(e.rpc.Processes(ctx, &berthv1.ProcessesRequest{Id: id.String()}))
	if err != nil {
		return nil, err
	}
	pids := make([]int, len(r.GetPids()))
	for i, pid := range r.GetPids() {
		pids[i] = int(pid)
	}
	return pids, nil
}

// eventBuffer is how many events are read ahead of who takes them.
const eventBuffer = 64

// Events implements [containerizer.Query].
func (e *Engine) Events(ctx context.Context, after uint64) (<-chan containerizer.Event, error) {
	stream, err := e.rpc.Events(ctx, &berthv1.EventsRequest{After: after})
	if err != nil {
		return nil, wire.Error(err)
	}
	if _, err := stream.Recv(); err != nil { // the first says that it stands
		return nil, wire.Error(err)
	}
	out := make(chan containerizer.Event, eventBuffer)
	go func() {
		defer close(out)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			var event containerizer.Event
			if wire.Decode(&event, m.GetEvent()) != nil {
				continue // of a kind that we do not know
			}
			select {
			case out <- event:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

// Rename implements [containerizer.Engine].
func (e *Engine) Rename(ctx context.Context, id containerizer.ContainerID, name string) error {
	_, err := e.rpc.Rename(ctx, &berthv1.RenameRequest{Id: id.String(), Name: name})
	return wire.Error(err)
}

// ReopenLog implements [containerizer.Engine].
func (e *Engine) ReopenLog(ctx context.Context, id containerizer.ContainerID) error {
	_, err := e.rpc.ReopenLog(ctx, &berthv1.ReopenLogRequest{Id: id.String()})
	return wire.Error(err)
}

// Recover implements [containerizer.Engine].
func (e *Engine) Recover(ctx context.Context, repair bool) (*containerizer.RecoverReport, error) {
	r, err := call(e.system.Recover(ctx, &berthv1.RecoverRequest{Repair: repair}))
	if err != nil {
		return nil, err
	}
	report := &containerizer.RecoverReport{}
	return report, wire.Decode(report, r)
}

// Program returns what a launch of spec would do, readably.
func (e *Engine) Program(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec) (string, error) {
	m, err := encodeSpec(spec)
	if err != nil {
		return "", err
	}
	r, err := call(e.system.Program(ctx, &berthv1.ProgramRequest{Id: id.String(), Spec: m}))
	return r.GetText(), err
}
