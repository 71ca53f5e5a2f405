package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
	web "github.com/berth-dev/berth/fetcher/uri/http"
)

// Options of the scheme. The zero value works.
type Options struct {
	// Getenv replaces os.Getenv.
	Getenv func(string) string
	// Now replaces time.Now.
	Now func() time.Time
}

// Scheme reads from S3.
type Scheme struct {
	o      Options
	client *web.Client
}

var _ uri.Scheme = (*Scheme)(nil)

// New returns the scheme. It does no I/O.
func New(o Options) *Scheme {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Scheme{o, web.NewClient(web.Options{NoRedirects: true})}
}

// Names implements [uri.Scheme].
func (*Scheme) Names() []string { return []string{"s3"} }

// Open implements [uri.Scheme].
func (s *Scheme) Open(ctx context.Context, r uri.Request) (*uri.Response, error) {
	what := fmt.Sprintf("fetch %q", r.Reference)
	if err := check(r.URL); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	set, err := s.load()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	resp, err := s.get(ctx, r, set)
	if moved, ok := errors.AsType[*movedError](err); ok && set.endpoint == nil && moved.region != set.region {
		set.region = moved.region
		return s.get(ctx, r, set)
	}
	return resp, err
}

func check(u *url.URL) error {
	switch {
	case u.Host == "" || u.Port() != "" || strings.ContainsFunc(u.Host, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}):
		return fmt.Errorf("%.100q is no name of a bucket (s3://BUCKET/KEY): %w", u.Host, containerizer.ErrInvalid)
	case u.User != nil || u.RawQuery != "":
		return fmt.Errorf("an S3 URI has neither user nor query (credentials come from the environment): %w", containerizer.ErrInvalid)
	}
	return nil
}

func (s *Scheme) get(ctx context.Context, r uri.Request, set *settings) (*uri.Response, error) {
	return web.GetWith(ctx, s.client, r, web.Hooks{
		Make: func(ctx context.Context) (*http.Request, error) {
			return http.NewRequestWithContext(ctx, http.MethodGet, set.url(r.URL), http.NoBody)
		},
		Finish: func(req *http.Request) {
			if set.id != "" {
				sign(req, set.credentials, set.region, s.o.Now())
			}
		},
		Status: func(what string, resp *http.Response) error { return status(what, resp, set) },
	})
}

// url is where an object is: at Amazon in a host of its bucket, unless its name would
// fit no certificate; elsewhere below the endpoint.
func (set *settings) url(u *url.URL) string {
	key := escape(strings.TrimPrefix(u.Path, "/"))
	if set.endpoint != nil {
		return strings.TrimSuffix(set.endpoint.String(), "/") + "/" + u.Host + "/" + key
	}
	domain := "s3." + set.region + ".amazonaws.com"
	if strings.HasPrefix(set.region, "cn-") {
		domain += ".cn"
	}
	if strings.ContainsAny(u.Host, "._") || strings.ToLower(u.Host) != u.Host {
		return "https://" + domain + "/" + u.Host + "/" + key
	}
	return "https://" + u.Host + "." + domain + "/" + key
}

// movedError says in which region a bucket is.
type movedError struct {
	error
	region string
}

func (m *movedError) Unwrap() error { return m.error }

// status explains an answer; other regions and missing credentials have their own.
func status(what string, resp *http.Response, set *settings) error {
	region := resp.Header.Get("X-Amz-Bucket-Region")
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect, http.StatusBadRequest, http.StatusForbidden:
		if region != "" && region != set.region && !strings.ContainsAny(region, "./:@") {
			err := fmt.Errorf("%s: the bucket is in the region %.50q, not %q (AWS_REGION): %w", what, region, set.region, containerizer.ErrFailedPrecondition)
			return &movedError{err, region}
		}
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return fmt.Errorf("%s: the server redirects (%s), which is not followed with credentials: %w", what, resp.Status, containerizer.ErrUnavailable)
	}
	err := web.StatusError(what, resp)
	if set.id == "" && errors.Is(err, containerizer.ErrPermission) {
		return fmt.Errorf("%w (the request was anonymous: no credentials are set)", err)
	}
	return err
}
