package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/wire"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// Images implements [containerizer.Images], with [containerizer.ImagePinner] and
// [containerizer.ImageMover]. Directories and archives in references are the daemon's.
type Images struct {
	rpc berthv1.ImagesServiceClient
}

var (
	_ containerizer.Images      = (*Images)(nil)
	_ containerizer.ImagePinner = (*Images)(nil)
	_ containerizer.ImageMover  = (*Images)(nil)
)

// archiveChunk is how much of an archive goes in one message.
const archiveChunk = 64 << 10

func decodeImage(m *berthv1.Image) (*containerizer.Image, error) {
	i := &containerizer.Image{}
	if err := wire.Decode(i, m); err != nil {
		return nil, fmt.Errorf("image %s: %w", m.GetManifest(), err)
	}
	return i, nil
}

func decodeImages(list []*berthv1.Image) ([]containerizer.Image, error) {
	all := make([]containerizer.Image, 0, len(list))
	for _, m := range list {
		i, err := decodeImage(m)
		if err != nil {
			return nil, err
		}
		all = append(all, *i)
	}
	return all, nil
}

// transfer is a message of a call that tells its progress.
type transfer interface{ GetProgress() *berthv1.Progress }

// last reads messages until the last one, and passes on what they say of progress.
func last[M any, P interface {
	*M
	transfer
}](stream grpc.ServerStreamingClient[M], err error, tell func(containerizer.Progress),
) (P, error) {
	var end P
	err = each(stream, err, func(m *M) error {
		p := P(m).GetProgress()
		var progress containerizer.Progress
		switch {
		case p == nil:
			end = m
		case tell != nil && wire.Decode(&progress, p) == nil:
			tell(progress)
		}
		return nil
	})
	if err == nil && end == nil {
		err = fmt.Errorf("the daemon's answer has no end: %w", containerizer.ErrDataCorrupt)
	}
	return end, err
}

// Pull implements [containerizer.Images].
func (c *Images) Pull(ctx context.Context, source containerizer.ImageSource, o containerizer.PullOptions) (*containerizer.Image, error) {
	m := &berthv1.ImageSource{}
	if err := wire.Encode(m, &source); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Pull(ctx, &berthv1.PullRequest{Source: m})
	r, err := last(stream, err, o.Progress)
	if err != nil {
		return nil, err
	}
	return decodeImage(r.GetImage())
}

// List implements [containerizer.Images].
func (c *Images) List(ctx context.Context) ([]containerizer.Image, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all []containerizer.Image
	stream, err := c.rpc.ListImages(ctx, &berthv1.ListImagesRequest{})
	err = each(stream, err, func(m *berthv1.ListImagesResponse) error {
		part, err := decodeImages(m.GetImages())
		all = append(all, part...)
		return err
	})
	return all, err
}

// Inspect implements [containerizer.Images].
func (c *Images) Inspect(ctx context.Context, nameOrDigest string) (*containerizer.Image, error) {
	r, err := call(c.rpc.InspectImage(ctx, &berthv1.InspectImageRequest{NameOrDigest: nameOrDigest}))
	if err != nil {
		return nil, err
	}
	return decodeImage(r.GetImage())
}

// Tag implements [containerizer.Images].
func (c *Images) Tag(ctx context.Context, nameOrDigest, reference string) error {
	_, err := c.rpc.Tag(ctx, &berthv1.TagRequest{NameOrDigest: nameOrDigest, Reference: reference})
	return wire.Error(err)
}

// Remove implements [containerizer.Images].
func (c *Images) Remove(ctx context.Context, nameOrDigest string, force bool) (*containerizer.PruneReport, error) {
	r, err := call(c.rpc.RemoveImage(ctx, &berthv1.RemoveImageRequest{NameOrDigest: nameOrDigest, Force: force}))
	if err != nil {
		return nil, err
	}
	return decoded(&containerizer.PruneReport{}, r.GetReport())
}

// decoded is v with what m says.
func decoded[T any](v *T, m proto.Message) (*T, error) {
	return v, wire.Decode(v, m)
}

// Load implements [containerizer.Images].
func (c *Images) Load(ctx context.Context, r io.Reader, _ containerizer.PullOptions) ([]containerizer.Image, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Load(ctx)
	if err != nil {
		return nil, wire.Error(err)
	}
	err = stream.Send(&berthv1.LoadRequest{Name: nameOf(r)})
	if err == nil {
		err = send(r, func(p []byte) error { return stream.Send(&berthv1.LoadRequest{Data: p}) })
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	m, err := call(stream.CloseAndRecv())
	if err != nil {
		return nil, err
	}
	return decodeImages(m.GetImages())
}

// nameOf is what errors call the archive that r reads.
func nameOf(r io.Reader) string {
	if f, ok := r.(interface{ Name() string }); ok {
		return f.Name()
	}
	return ""
}

// send sends what r has. That the other side does not listen any more is no error
// here: its answer says why.
func send(r io.Reader, f func([]byte) error) error {
	buf := make([]byte, archiveChunk)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			switch err := f(buf[:n]); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return wire.Error(err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
	}
}

// Save implements [containerizer.Images].
func (c *Images) Save(ctx context.Context, w io.Writer, f containerizer.ArchiveFormat, references []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Save(ctx, &berthv1.SaveRequest{Format: string(f), References: references})
	return each(stream, err, func(m *berthv1.SaveResponse) error {
		if _, err := w.Write(m.GetData()); err != nil {
			return fmt.Errorf("write the archive: %w", err)
		}
		return nil
	})
}

// Usage implements [containerizer.Images].
func (c *Images) Usage(ctx context.Context) (*containerizer.StoreUsage, error) {
	r, err := call(c.rpc.StoreUsage(ctx, &berthv1.StoreUsageRequest{}))
	if err != nil {
		return nil, err
	}
	return decoded(&containerizer.StoreUsage{}, r)
}

// Prune implements [containerizer.Images].
func (c *Images) Prune(ctx context.Context, o containerizer.PruneOptions) (*containerizer.PruneReport, error) {
	m := &berthv1.PruneRequest{}
	if err := wire.Encode(m, &o); err != nil {
		return nil, err
	}
	r, err := call(c.rpc.Prune(ctx, m))
	if err != nil {
		return nil, err
	}
	return decoded(&containerizer.PruneReport{}, r.GetReport())
}

// Check implements [containerizer.Images].
func (c *Images) Check(ctx context.Context, repair bool) (*containerizer.StoreCheck, error) {
	r, err := call(c.rpc.CheckStore(ctx, &berthv1.CheckStoreRequest{Repair: repair}))
	if err != nil {
		return nil, err
	}
	return decoded(&containerizer.StoreCheck{}, r)
}

// Pin implements [containerizer.ImagePinner].
func (c *Images) Pin(ctx context.Context, nameOrDigest string, pinned bool) error {
	_, err := c.rpc.Pin(ctx, &berthv1.PinRequest{NameOrDigest: nameOrDigest, Pinned: pinned})
	return wire.Error(err)
}

// Push implements [containerizer.ImageMover].
func (c *Images) Push(ctx context.Context, nameOrDigest, target string, o containerizer.CopyOptions) (digest.Digest, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Push(ctx, &berthv1.PushRequest{NameOrDigest: nameOrDigest, Target: target, Platform: o.Platform})
	r, err := last(stream, err, o.Progress)
	return digest.Digest(r.GetDigest()), err
}

// Copy implements [containerizer.ImageMover].
func (c *Images) Copy(ctx context.Context, source, target string, o containerizer.CopyOptions) (digest.Digest, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Copy(ctx, &berthv1.CopyRequest{Source: source, Target: target, Platform: o.Platform})
	r, err := last(stream, err, o.Progress)
	return digest.Digest(r.GetDigest()), err
}

// Import implements [containerizer.ImageMover].
func (c *Images) Import(ctx context.Context, r io.Reader, o containerizer.ImportOptions) (*containerizer.Image, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Import(ctx)
	if err != nil {
		return nil, wire.Error(err)
	}
	options := &berthv1.ImportOptions{Reference: o.Reference, Changes: o.Changes, Message: o.Message, Platform: o.Platform}
	err = stream.Send(&berthv1.ImportRequest{Options: options, Name: nameOf(r)})
	if err == nil {
		err = send(r, func(p []byte) error { return stream.Send(&berthv1.ImportRequest{Data: p}) })
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, wire.Error(err)
	}
	m, err := call(stream.CloseAndRecv())
	if err != nil {
		return nil, err
	}
	return decodeImage(m.GetImage())
}
