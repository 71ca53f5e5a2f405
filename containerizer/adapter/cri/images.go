package cri

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// image finds an image of the store by what a kubelet calls it: an id, a name or a digest.
func (s *Server) image(ctx context.Context, ref string) (*containerizer.Image, error) {
	if ref == "" {
		return nil, fmt.Errorf("no image is named: %w", containerizer.ErrInvalid)
	}
	i, err := s.o.Images.Inspect(ctx, ref)
	if repository, sum, by := strings.Cut(ref, "@"); by && missing(err) {
		return s.byDigest(ctx, repository, sum, err)
	}
	return i, err
}

// byDigest finds an image that was pulled by another name of the same repository; err if
// there is none.
func (s *Server) byDigest(ctx context.Context, repository, sum string, err error) (*containerizer.Image, error) {
	all, lerr := s.o.Images.List(ctx)
	if lerr != nil {
		return nil, lerr
	}
	for _, i := range all {
		if i.Manifest.String() != sum && i.Index.String() != sum {
			continue
		}
		for _, name := range i.References {
			name, _, _ = strings.Cut(name, "@")
			if r := repositoryOf(name); r == repository || r == "docker.io/"+repository || r == "docker.io/library/"+repository {
				return s.o.Images.Inspect(ctx, i.Config.String())
			}
		}
	}
	return nil, err
}

// ListImages lists images, one for each id.
func (s *imageService) ListImages(ctx context.Context, r *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	list, err := s.images(ctx, r.GetFilter())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ListImagesResponse{Images: list}, nil
}

// StreamImages is ListImages in parts.
func (s *imageService) StreamImages(r *runtimeapi.StreamImagesRequest, stream grpc.ServerStreamingServer[runtimeapi.StreamImagesResponse]) error {
	list, err := s.images(stream.Context(), r.GetFilter())
	return inBatches(list, err, func(part []*runtimeapi.Image) error {
		return stream.Send(&runtimeapi.StreamImagesResponse{Images: part})
	})
}

func (s *Server) images(ctx context.Context, f *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	if name := f.GetImage().GetImage(); name != "" {
		i, err := s.known(ctx, name)
		if i == nil || err != nil {
			return nil, err
		}
		return []*runtimeapi.Image{i}, nil
	}
	all, err := s.o.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []*runtimeapi.Image
	byID := map[string]*runtimeapi.Image{}
	for n := range all {
		shown := shownImage(&all[n])
		if first := byID[shown.GetId()]; first != nil { // of another registry, or compressed otherwise
			first.RepoTags, first.RepoDigests = union(first.GetRepoTags(), shown.GetRepoTags()), union(first.GetRepoDigests(), shown.GetRepoDigests())
			first.Pinned = first.GetPinned() || shown.GetPinned()
			continue
		}
		byID[shown.GetId()] = shown
		out = append(out, shown)
	}
	return out, nil
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// known is the image that a reference means, nil if there is none.
func (s *Server) known(ctx context.Context, ref string) (*runtimeapi.Image, error) {
	i, err := s.image(ctx, ref)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return shownImage(i), nil
}

// ImageStatus tells about an image; one that is not there is no error.
func (s *imageService) ImageStatus(ctx context.Context, r *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	i, err := s.known(ctx, r.GetImage().GetImage())
	if err != nil {
		return nil, err
	}
	return &runtimeapi.ImageStatusResponse{Image: i}, nil
}

func shownImage(i *containerizer.Image) *runtimeapi.Image {
	out := &runtimeapi.Image{Id: i.Config.String(), Size: uint64(max(i.SizeBytes, 1)), Pinned: i.Pinned} //nolint:gosec // not negative
	target := i.Manifest
	if i.Index != "" {
		target = i.Index
	}
	for _, name := range i.References {
		if repository, _, by := strings.Cut(name, "@"); by {
			out.RepoDigests = append(out.RepoDigests, repositoryOf(repository)+name[len(repository):])
			continue
		}
		out.RepoTags = append(out.RepoTags, name)
		out.RepoDigests = append(out.RepoDigests, repositoryOf(name)+"@"+target.String())
	}
	slices.Sort(out.GetRepoDigests())
	out.RepoDigests = slices.Compact(out.GetRepoDigests())
	if i.Configuration != nil {
		setUser(out, i.Configuration.Config.User)
	}
	return out
}

// repositoryOf is a name without its tag.
func repositoryOf(name string) string {
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		return name[:at]
	}
	return name
}

// setUser sets the user of an image by number, or by name; its group is not asked for.
func setUser(out *runtimeapi.Image, user string) {
	user, _, _ = strings.Cut(user, ":")
	if user == "" {
		return
	}
	if uid, err := strconv.ParseInt(user, 10, 64); err == nil {
		out.Uid = &runtimeapi.Int64Value{Value: uid}
		return
	}
	out.Username = user
}

// PullImage fetches an image, or asks the registry whether the caller may have the one
// that is here.
func (s *imageService) PullImage(ctx context.Context, r *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	source := containerizer.ImageSource{Reference: r.GetImage().GetImage(), Pull: containerizer.PullAlways, Auth: auth(r.GetAuth())}
	if source.Reference == "" {
		return nil, fmt.Errorf("pull: no image is named: %w", containerizer.ErrInvalid)
	}
	i, err := s.o.Images.Pull(ctx, source, containerizer.PullOptions{})
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("pull %q: %w", source.Reference, ctx.Err())
		}
		return nil, pullError(err)
	}
	return &runtimeapi.PullImageResponse{ImageRef: i.Config.String()}, nil
}

// auth are the credentials of a call; nil are those of the node.
func auth(a *runtimeapi.AuthConfig) *containerizer.RegistryAuth {
	out := &containerizer.RegistryAuth{
		Username: a.GetUsername(), Password: a.GetPassword(), Auth: a.GetAuth(), ServerAddress: a.GetServerAddress(),
		IdentityToken: a.GetIdentityToken(), RegistryToken: a.GetRegistryToken(),
	}
	if *out == (containerizer.RegistryAuth{ServerAddress: out.ServerAddress}) {
		return nil
	}
	return out
}

// RemoveImage removes an image with all its names. Containers that use it go on.
func (s *imageService) RemoveImage(ctx context.Context, r *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	for {
		i, err := s.image(ctx, r.GetImage().GetImage())
		if missing(err) {
			return &runtimeapi.RemoveImageResponse{}, nil
		}
		if err != nil {
			return nil, err
		}
		_, err = s.o.Images.Remove(ctx, i.Config.String(), true)
		if missing(err) { // somebody was faster
			return &runtimeapi.RemoveImageResponse{}, nil
		}
		if err != nil {
			return nil, err
		}
		// What is left has the id in other compressions, or is kept by a container.
		again, err := s.image(ctx, i.Config.String())
		if err != nil || again.Manifest == i.Manifest {
			return &runtimeapi.RemoveImageResponse{}, nil //nolint:nilerr // it is gone
		}
	}
}

// ImageFsInfo tells what images and writable layers take.
func (s *imageService) ImageFsInfo(ctx context.Context, _ *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	u, err := s.o.Images.Usage(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now().UnixNano()
	at := &runtimeapi.FilesystemIdentifier{Mountpoint: s.o.ImageDir}
	usage := func(bytes int64) *runtimeapi.FilesystemUsage {
		return &runtimeapi.FilesystemUsage{
			Timestamp: now, FsId: at, UsedBytes: &runtimeapi.UInt64Value{Value: uint64(max(bytes, 0))}, //nolint:gosec // not negative
			InodesUsed: &runtimeapi.UInt64Value{},
		}
	}
	return &runtimeapi.ImageFsInfoResponse{
		ImageFilesystems:     []*runtimeapi.FilesystemUsage{usage(u.LayerBytes + u.BlobBytes)},
		ContainerFilesystems: []*runtimeapi.FilesystemUsage{usage(u.WritableBytes)},
	}, nil
}
