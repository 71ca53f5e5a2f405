package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/registry/hosts"
)

// maxFallbackTag is how long a tag can be in any registry.
const maxFallbackTag = 128

// Referrers asks the registry for the manifests that refer to d, or, if it does not
// know, looks at the tag under which clients then keep the list
// (https://github.com/opencontainers/distribution-spec, "Listing Referrers" and
// "Referrers Tag Schema"). Of an answer in pages only the first one is read.
func (o *Origin) Referrers(ctx context.Context, d digest.Digest, artifactTypes ...string) ([]v1.Descriptor, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("referrers of %q: %w: %w", d, err, containerizer.ErrInvalid)
	}
	var out []v1.Descriptor
	for _, t := range artifactTypes {
		index, err := o.referrers(ctx, d, t)
		if errors.Is(err, containerizer.ErrNotFound) {
			return o.fallbackReferrers(ctx, d, artifactTypes)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, ofTypes(index, []string{t})...)
	}
	return out, nil
}

// referrers asks for those of one type. ErrNotFound is that the registry cannot tell.
func (o *Origin) referrers(ctx context.Context, d digest.Digest, artifactType string) (*v1.Index, error) {
	what := fmt.Sprintf("ask what refers to %s of %q", d, o.ref)
	var raw []byte
	err := o.try(ctx, &question{what: what, need: hosts.Referrers}, func(e *endpoint, limit time.Duration) error {
		resp, err := e.ask(ctx, what, "/referrers/"+string(d), url.Values{"artifactType": {artifactType}}, http.Header{"Accept": {v1.MediaTypeImageIndex}}, limit)
		if err != nil {
			return err
		}
		if unknownAPI(resp.StatusCode) {
			_ = resp.Body.Close() // says no more
			return fmt.Errorf("%s: %d %s: %w", what, resp.StatusCode, http.StatusText(resp.StatusCode), containerizer.ErrNotFound)
		}
		raw, err = o.document(what, resp, maxManifest, "")
		return err
	})
	if errors.Is(err, containerizer.ErrFailedPrecondition) { // nobody may be asked, as hosts.toml has it
		err = fmt.Errorf("%w: %w", err, containerizer.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return parseReferrers(what, raw)
}

// unknownAPI knows the answers of registries that do not have the API: 404 as they
// should, and others. The tag decides then.
func unknownAPI(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	case http.StatusNotImplemented:
		return true
	}
	return status >= http.StatusBadRequest && status < http.StatusInternalServerError
}

func (o *Origin) fallbackReferrers(ctx context.Context, d digest.Digest, artifactTypes []string) ([]v1.Descriptor, error) {
	tag := d.Algorithm().String() + "-" + d.Encoded()
	if len(tag) > maxFallbackTag { // sha512
		return nil, nil
	}
	_, raw, err := o.ResolveTag(ctx, tag)
	if errors.Is(err, containerizer.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	index, err := parseReferrers(fmt.Sprintf("tag %q beside %q", tag, o.ref), raw)
	if err != nil {
		return nil, err
	}
	return ofTypes(index, artifactTypes), nil
}

func parseReferrers(what string, raw []byte) (*v1.Index, error) {
	var index v1.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("%s: the answer is no index: %w: %w", what, err, containerizer.ErrInvalid)
	}
	if index.MediaType != "" && index.MediaType != v1.MediaTypeImageIndex {
		return nil, fmt.Errorf("%s: the answer is of the type %.100q, not an index: %w", what, index.MediaType, containerizer.ErrInvalid)
	}
	return &index, nil
}

// ofTypes are the manifests of some artifact types: registries need not choose.
func ofTypes(index *v1.Index, artifactTypes []string) (out []v1.Descriptor) {
	for _, m := range index.Manifests {
		if m.MediaType == v1.MediaTypeImageManifest && slices.Contains(artifactTypes, m.ArtifactType) {
			out = append(out, m)
		}
	}
	return out
}
