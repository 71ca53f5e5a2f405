package cli

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
)

// inspectImage is what `berth inspect` prints of an image, in Docker's words.
type inspectImage struct {
	Id           string //nolint:staticcheck // Docker's name
	RepoTags     []string
	RepoDigests  []string
	Created      time.Time
	Author       string
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64
	SharedSize   int64
	Config       *v1.ImageConfig
	RootFS       inspectRootFS
	History      []v1.History `json:",omitempty"`
	Manifest     digest.Digest
	Index        digest.Digest `json:",omitempty"`
	Pinned       bool          `json:",omitempty"`
}

type inspectRootFS struct {
	Type   string
	Layers []digest.Digest
}

func (a *App) inspectImage(ctx context.Context, name string) (any, error) {
	images, err := a.images(ctx)
	if err != nil {
		return nil, err
	}
	image, err := images.Inspect(ctx, name)
	if err != nil {
		return nil, err
	}
	return imageView(image), nil
}

func imageView(i *containerizer.Image) *inspectImage {
	v := &inspectImage{
		Id: i.Config.String(), RepoTags: []string{}, RepoDigests: []string{}, Created: i.Created,
		Architecture: i.Platform.Architecture, Variant: i.Platform.Variant, Os: i.Platform.OS,
		Size: i.SizeBytes, SharedSize: i.SharedBytes, RootFS: inspectRootFS{Type: "layers", Layers: i.Layers},
		Manifest: i.Manifest, Index: i.Index, Pinned: i.Pinned,
	}
	for _, ref := range i.References {
		repository, tag := splitReference(ref)
		repository = familiar(repository)
		if tag != "<none>" {
			v.RepoTags = append(v.RepoTags, repository+":"+tag)
		}
		v.RepoDigests = append(v.RepoDigests, repository+"@"+i.Manifest.String())
	}
	if c := i.Configuration; c != nil {
		v.Author, v.Config, v.History = c.Author, &c.Config, c.History
	}
	return v
}
