package registry

import (
	"net/http"
	"net/url"
	"strings"
)

// usualBase is where a registry's API begins, unless it is configured otherwise
// (override_path).
const usualBase = "/v2"

// rebased speaks to a registry whose API begins at another path with the requests of
// a client that knows the usual one only. Uploads go on at locations that the registry
// names, so these are translated back.
type rebased struct {
	next http.RoundTripper
	own  func(*url.URL) bool
	base string // without a slash at its end
}

// RoundTrip translates.
func (t *rebased) RoundTrip(r *http.Request) (*http.Response, error) {
	if !t.own(r.URL) {
		return t.next.RoundTrip(r)
	}
	sent := r
	if rest, ok := below(usualBase, r.URL.Path); ok {
		sent = r.Clone(r.Context())
		sent.URL.Path, sent.URL.RawPath = t.base+rest, ""
	}
	resp, err := t.next.RoundTrip(sent)
	if err != nil {
		return nil, err
	}
	resp.Request = r // what a relative location begins at
	if to, err := sent.URL.Parse(resp.Header.Get("Location")); err == nil && resp.Header.Get("Location") != "" && t.own(to) {
		if rest, ok := below(t.base, to.Path); ok {
			to.Path, to.RawPath = usualBase+rest, ""
			resp.Header.Set("Location", to.String())
		}
	}
	return resp, nil
}

// below returns what follows base in a path.
func below(base, path string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, base)
	return rest, ok && strings.HasPrefix(rest, "/")
}
