// Package weburl reads what is at an address of the web.
package weburl

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/berth-dev/berth/containerizer"
)

// Open reads what is at an http or https URL, such as the archive of an import.
// The caller closes it. Errors: ErrInvalid, ErrUnavailable.
func Open(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("%q is not a URL: %w: %w", url, err, containerizer.ErrInvalid)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, containerizer.ErrUnavailable)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close() // says no more than its status
		return nil, fmt.Errorf("get %q: %s: %w", url, resp.Status, containerizer.ErrUnavailable)
	}
	return resp.Body, nil
}
