package grpc

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// listChunk is how many images go in one message of a list: few enough for any limit of
// a client, many enough to cost little.
const listChunk = 64

// chunkBytes is the same for containers.
const chunkBytes = 256 << 10

// sharer is an engine that returns the same pointer as long as nothing has changed.
type sharer interface {
	ListShared(ctx context.Context, f containerizer.Filter) ([]*containerizer.Status, error)
}

// List implements [berthv1.ContainersServiceServer].
func (s *containers) List(r *berthv1.ListRequest, stream grpc.ServerStreamingServer[berthv1.ListResponse]) error {
	filter := containerizer.Filter{}
	if err := wire.Decode(&filter, r); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	found, err := s.list(stream.Context(), filter)
	if err != nil {
		return err
	}
	encoded, err := s.forms.of(found, filter)
	if err != nil {
		return err
	}
	for len(encoded) > 0 {
		n, size := 0, 0
		for ; n < len(encoded) && (n == 0 || size+len(encoded[n]) <= chunkBytes); n++ {
			size += len(encoded[n])
		}
		chunk := make([]byte, 0, size)
		for _, b := range encoded[:n] {
			chunk = append(chunk, b...)
		}
		// What is encoded already goes out as it is among the fields that are not known.
		response := &berthv1.ListResponse{}
		response.ProtoReflect().SetUnknown(chunk)
		if err := stream.Send(response); err != nil {
			return err
		}
		encoded = encoded[n:]
	}
	return nil
}

func (s *containers) list(ctx context.Context, f containerizer.Filter) ([]*containerizer.Status, error) {
	if e, is := s.engine.(sharer); is {
		return e.ListShared(ctx, f)
	}
	all, err := s.engine.List(ctx, f)
	shared := make([]*containerizer.Status, len(all))
	for i := range all {
		shared[i] = &all[i]
	}
	return shared, err
}

// forms remembers how containers are written in a list, as long as they do not change:
// to translate one takes longer than all else.
type forms struct {
	mu    sync.Mutex
	known [2]map[*containerizer.Status][]byte // in full, and brief
}

// of returns the containers of one list, each a field of a ListResponse.
func (m *forms) of(found []*containerizer.Status, f containerizer.Filter) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := &m.known[0]
	if f.Brief {
		known = &m.known[1]
	}
	if *known == nil {
		*known = map[*containerizer.Status][]byte{}
	}
	all := make([][]byte, len(found))
	for i, s := range found {
		b, ok := (*known)[s]
		if !ok {
			var err error
			if b, err = encodeListed(s, f); err != nil {
				return nil, fmt.Errorf("container %q: %w", s.ID, err)
			}
			(*known)[s] = b
		}
		all[i] = b
	}
	// Those that have changed since are forgotten once they are as many as the others.
	const few = 128
	if len(*known) > 2*len(found)+few {
		*known = make(map[*containerizer.Status][]byte, len(found))
		for i, s := range found {
			(*known)[s] = all[i]
		}
	}
	return all, nil
}

// encodeListed writes one container as it stands in a ListResponse.
func encodeListed(s *containerizer.Status, f containerizer.Filter) ([]byte, error) {
	if f.Brief {
		s = briefly(s)
	}
	m := &berthv1.Container{}
	if err := wire.Encode(m, s); err != nil {
		return nil, err
	}
	b := protowire.AppendTag(nil, (&berthv1.ListResponse{}).ProtoReflect().Descriptor().Fields().ByName("containers").Number(), protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(proto.Size(m))) //nolint:gosec // a size
	return proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
}

// briefly leaves out what [containerizer.Filter] says.
func briefly(s *containerizer.Status) *containerizer.Status {
	brief := *s
	brief.Rootfs = nil
	if full := s.Spec; full != nil {
		brief.Spec = &containerizer.Spec{
			Name: full.Name, Class: full.Class, Labels: full.Labels, Image: full.Image, RootfsPath: full.RootfsPath,
			Process:    containerizer.Process{Entrypoint: full.Process.Entrypoint, Args: full.Process.Args},
			Namespaces: full.Namespaces, Mounts: full.Mounts, Network: full.Network,
		}
	}
	return &brief
}
