package http

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
)

// Scheme reads over HTTP.
type Scheme struct{ client *Client }

var _ uri.Scheme = (*Scheme)(nil)

// New returns the scheme. It does no I/O.
func New(o Options) *Scheme { return &Scheme{NewClient(o)} }

// Names implements [uri.Scheme].
func (*Scheme) Names() []string { return []string{"http", "https"} }

// Open implements [uri.Scheme].
func (s *Scheme) Open(ctx context.Context, r uri.Request) (*uri.Response, error) {
	return GetWith(ctx, s.client, r, Hooks{Make: func(ctx context.Context) (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, r.URL.String(), http.NoBody)
	}})
}

// Hooks are what schemes over HTTP differ in.
type Hooks struct {
	// Make makes the request; conditions and range are put in afterwards.
	Make func(context.Context) (*http.Request, error)
	// Finish, when set, sees the request last, to sign it.
	Finish func(*http.Request)
	// Status, when set, makes an error of an answer that is no success, in place of
	// StatusError.
	Status func(what string, resp *http.Response) error
}

// GetWith opens r.
func GetWith(ctx context.Context, c *Client, r uri.Request, h Hooks) (*uri.Response, error) {
	what := fmt.Sprintf("fetch %q", r.Reference)
	req, err := h.Make(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: the URI makes no request: %w", what, containerizer.ErrInvalid)
	}
	if r.Offset = condition(req.Header, r); r.Offset == 0 && req.Header.Get("If-None-Match")+req.Header.Get("If-Modified-Since") == "" {
		r.Version = ""
	}
	if h.Finish != nil {
		h.Finish(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, Explain(ctx, what, err)
	}
	if h.Status == nil {
		h.Status = StatusError
	}
	answer, err := read(what, r, resp, h.Status)
	if err != nil || answer.NotModified {
		_ = resp.Body.Close() // nothing of it is wanted
	}
	if errors.Is(err, errRange) {
		r.Offset, r.Version = 0, ""
		return GetWith(ctx, c, r, h)
	}
	return answer, err
}

// errRange says that there is nothing at the offset.
var errRange = errors.New("range not satisfiable")

// Versions are an ETag or a date behind one of these.
const (
	byTag  = "etag "
	byDate = "modified "
)

// version finds what the answer says of itself. A weak ETag promises no equal bytes
// (RFC 9110, 8.8.1).
func version(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return byTag + tag
	}
	if date := h.Get("Last-Modified"); date != "" {
		return byDate + date
	}
	return ""
}

// condition sets what the server is to compare, and returns the offset asked for.
func condition(h http.Header, r uri.Request) (offset int64) {
	tag, isTag := strings.CutPrefix(r.Version, byTag)
	date, isDate := strings.CutPrefix(r.Version, byDate)
	switch {
	case !isTag && !isDate:
		return 0
	case r.Offset == 0 && isTag:
		h.Set("If-None-Match", tag)
	case r.Offset == 0:
		h.Set("If-Modified-Since", date)
	case isTag:
		h.Set("If-Range", tag)
	default:
		h.Set("If-Range", date)
	}
	if r.Offset > 0 {
		h.Set("Range", "bytes="+strconv.FormatInt(r.Offset, 10)+"-")
	}
	return r.Offset
}

func read(what string, r uri.Request, resp *http.Response, status func(string, *http.Response) error) (*uri.Response, error) {
	switch resp.StatusCode {
	case http.StatusOK:
		return &uri.Response{Body: resp.Body, Size: resp.ContentLength, Version: version(resp.Header)}, nil
	case http.StatusNotModified:
		if r.Offset == 0 && r.Version != "" {
			return &uri.Response{NotModified: true}, nil
		}
	case http.StatusPartialContent:
		return partial(what, r, resp)
	case http.StatusRequestedRangeNotSatisfiable:
		if r.Offset > 0 {
			return nil, errRange
		}
	}
	return nil, status(what, resp)
}

func partial(what string, r uri.Request, resp *http.Response) (*uri.Response, error) {
	text := resp.Header.Get("Content-Range")
	first, total, ok := contentRange(text)
	if !ok || r.Offset == 0 || first != r.Offset {
		return nil, fmt.Errorf("%s: a request from byte %d on is answered with the range %.100q: %w", what, r.Offset, text, containerizer.ErrUnavailable)
	}
	v := version(resp.Header)
	if v == "" {
		v = r.Version // If-Range has compared it
	}
	return &uri.Response{Body: resp.Body, Offset: first, Size: total, Version: v}, nil
}

// contentRange reads "bytes FIRST-LAST/TOTAL"; an unknown total is -1.
func contentRange(s string) (first, total int64, ok bool) {
	rest, ok1 := strings.CutPrefix(s, "bytes ")
	span, size, ok2 := strings.Cut(rest, "/")
	from, to, ok3 := strings.Cut(span, "-")
	first, err1 := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	if !ok1 || !ok2 || !ok3 || err1 != nil || err2 != nil || first < 0 || last < first {
		return 0, 0, false
	}
	if size == "*" {
		return first, -1, true
	}
	total, err := strconv.ParseInt(size, 10, 64)
	return first, total, err == nil && total > last
}
