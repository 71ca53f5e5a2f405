package grpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// images is ImagesService.
type images struct {
	berthv1.UnsafeImagesServiceServer // none of its methods may be missing here

	store Store
}

// archiveChunk is how much of an archive goes in one message.
const archiveChunk = 64 << 10

// Pull implements [berthv1.ImagesServiceServer].
func (s *images) Pull(r *berthv1.PullRequest, stream grpc.ServerStreamingServer[berthv1.PullResponse]) error {
	source := containerizer.ImageSource{}
	if err := wire.Decode(&source, r.GetSource()); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	image, err := s.store.Pull(stream.Context(), source, containerizer.PullOptions{Progress: progress(func(p *berthv1.Progress) {
		_ = stream.Send(&berthv1.PullResponse{Progress: p}) // who does not listen gets the image all the same
	})})
	if err != nil {
		return err
	}
	m, err := encodeImage(image)
	if err != nil {
		return err
	}
	return stream.Send(&berthv1.PullResponse{Image: m})
}

// progress is a function for the progress of a transfer that sends it.
func progress(send func(*berthv1.Progress)) func(containerizer.Progress) {
	return func(p containerizer.Progress) {
		m := &berthv1.Progress{}
		if wire.Encode(m, &p) == nil {
			send(m)
		}
	}
}

func encodeImage(i *containerizer.Image) (*berthv1.Image, error) {
	m := &berthv1.Image{}
	if err := wire.Encode(m, i); err != nil {
		return nil, fmt.Errorf("image %s: %w", i.Manifest, err)
	}
	return m, nil
}

func encodeImages(list []containerizer.Image) ([]*berthv1.Image, error) {
	all := make([]*berthv1.Image, len(list))
	for i := range list {
		m, err := encodeImage(&list[i])
		if err != nil {
			return nil, err
		}
		all[i] = m
	}
	return all, nil
}

// ListImages implements [berthv1.ImagesServiceServer].
func (s *images) ListImages(_ *berthv1.ListImagesRequest, stream grpc.ServerStreamingServer[berthv1.ListImagesResponse]) error {
	list, err := s.store.List(stream.Context())
	if err != nil {
		return err
	}
	for len(list) > 0 {
		n := min(listChunk, len(list))
		all, err := encodeImages(list[:n])
		if err != nil {
			return err
		}
		if err := stream.Send(&berthv1.ListImagesResponse{Images: all}); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// InspectImage implements [berthv1.ImagesServiceServer].
func (s *images) InspectImage(ctx context.Context, r *berthv1.InspectImageRequest) (*berthv1.InspectImageResponse, error) {
	image, err := s.store.Inspect(ctx, r.GetNameOrDigest())
	if err != nil {
		return nil, err
	}
	m, err := encodeImage(image)
	return &berthv1.InspectImageResponse{Image: m}, err
}

// Tag implements [berthv1.ImagesServiceServer].
func (s *images) Tag(ctx context.Context, r *berthv1.TagRequest) (*berthv1.TagResponse, error) {
	return &berthv1.TagResponse{}, s.store.Tag(ctx, r.GetNameOrDigest(), r.GetReference())
}

// RemoveImage implements [berthv1.ImagesServiceServer].
func (s *images) RemoveImage(ctx context.Context, r *berthv1.RemoveImageRequest) (*berthv1.RemoveImageResponse, error) {
	response := &berthv1.RemoveImageResponse{Report: &berthv1.PruneReport{}}
	report, err := s.store.Remove(ctx, r.GetNameOrDigest(), r.GetForce())
	if err != nil {
		return nil, err
	}
	return response, wire.Encode(response.GetReport(), report)
}

// Load implements [berthv1.ImagesServiceServer].
func (s *images) Load(stream grpc.ClientStreamingServer[berthv1.LoadRequest, berthv1.LoadResponse]) error {
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	archive := &pieces{name: first.GetName(), rest: first.GetData(), next: func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	}}
	list, err := s.store.Load(stream.Context(), archive, containerizer.PullOptions{})
	if err != nil {
		return err
	}
	all, err := encodeImages(list)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&berthv1.LoadResponse{Images: all})
}

// pieces reads an archive that comes in messages.
type pieces struct {
	name string
	next func() ([]byte, error)
	rest []byte
}

// Name is what errors call it.
func (p *pieces) Name() string { return cmp.Or(p.name, "archive") }

func (p *pieces) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		piece, err := p.next()
		if err != nil {
			return 0, err
		}
		p.rest = piece
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// Save implements [berthv1.ImagesServiceServer].
func (s *images) Save(r *berthv1.SaveRequest, stream grpc.ServerStreamingServer[berthv1.SaveResponse]) error {
	return s.store.Save(stream.Context(), writer(func(p []byte) error {
		for len(p) > 0 {
			n := min(archiveChunk, len(p))
			if err := stream.Send(&berthv1.SaveResponse{Data: p[:n]}); err != nil {
				return err
			}
			p = p[n:]
		}
		return nil
	}), containerizer.ArchiveFormat(r.GetFormat()), r.GetReferences())
}

// Push implements [berthv1.ImagesServiceServer].
func (s *images) Push(r *berthv1.PushRequest, stream grpc.ServerStreamingServer[berthv1.PushResponse]) error {
	d, err := s.store.Push(stream.Context(), r.GetNameOrDigest(), r.GetTarget(), containerizer.CopyOptions{
		Platform: r.GetPlatform(), Progress: progress(func(p *berthv1.Progress) { _ = stream.Send(&berthv1.PushResponse{Progress: p}) }),
	})
	if err != nil {
		return err
	}
	return stream.Send(&berthv1.PushResponse{Digest: d.String()})
}

// Copy implements [berthv1.ImagesServiceServer].
func (s *images) Copy(r *berthv1.CopyRequest, stream grpc.ServerStreamingServer[berthv1.CopyResponse]) error {
	d, err := s.store.Copy(stream.Context(), r.GetSource(), r.GetTarget(), containerizer.CopyOptions{
		Platform: r.GetPlatform(), Progress: progress(func(p *berthv1.Progress) { _ = stream.Send(&berthv1.CopyResponse{Progress: p}) }),
	})
	if err != nil {
		return err
	}
	return stream.Send(&berthv1.CopyResponse{Digest: d.String()})
}

// Import implements [berthv1.ImagesServiceServer].
func (s *images) Import(stream grpc.ClientStreamingServer[berthv1.ImportRequest, berthv1.ImportResponse]) error {
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	o := first.GetOptions()
	archive := &pieces{name: first.GetName(), rest: first.GetData(), next: func() ([]byte, error) {
		m, err := stream.Recv()
		return m.GetData(), err
	}}
	image, err := s.store.Import(stream.Context(), archive, containerizer.ImportOptions{
		Reference: o.GetReference(), Changes: o.GetChanges(), Message: o.GetMessage(), Platform: o.GetPlatform(),
	})
	if err != nil {
		return err
	}
	m, err := encodeImage(image)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&berthv1.ImportResponse{Image: m})
}

// StoreUsage implements [berthv1.ImagesServiceServer].
func (s *images) StoreUsage(ctx context.Context, _ *berthv1.StoreUsageRequest) (*berthv1.StoreUsageResponse, error) {
	return answer(&berthv1.StoreUsageResponse{}, func() (*containerizer.StoreUsage, error) { return s.store.Usage(ctx) })
}

// answer is m with what f returns.
func answer[M proto.Message, T any](m M, f func() (*T, error)) (M, error) {
	v, err := f()
	if err != nil {
		return m, err
	}
	return m, wire.Encode(m, v)
}

// Prune implements [berthv1.ImagesServiceServer].
func (s *images) Prune(ctx context.Context, r *berthv1.PruneRequest) (*berthv1.PruneResponse, error) {
	o := containerizer.PruneOptions{}
	if err := wire.Decode(&o, r); err != nil {
		return nil, err
	}
	response := &berthv1.PruneResponse{Report: &berthv1.PruneReport{}}
	report, err := s.store.Prune(ctx, o)
	if err != nil {
		return nil, err
	}
	return response, wire.Encode(response.GetReport(), report)
}

// CheckStore implements [berthv1.ImagesServiceServer].
func (s *images) CheckStore(ctx context.Context, r *berthv1.CheckStoreRequest) (*berthv1.CheckStoreResponse, error) {
	return answer(&berthv1.CheckStoreResponse{}, func() (*containerizer.StoreCheck, error) { return s.store.Check(ctx, r.GetRepair()) })
}

// Pin implements [berthv1.ImagesServiceServer].
func (s *images) Pin(ctx context.Context, r *berthv1.PinRequest) (*berthv1.PinResponse, error) {
	return &berthv1.PinResponse{}, s.store.Pin(ctx, r.GetNameOrDigest(), r.GetPinned())
}
