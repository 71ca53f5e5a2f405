package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/berth-dev/berth/containerizer"
)

// maxHosts is how many hosts one registry may redirect to with challenges of
// their own.
const maxHosts = 32

// authorizer answers challenges. A registry's credentials and configured headers
// go to that registry, by scheme, host and port; who it redirects to gets neither,
// and is asked without credentials if it has a challenge of its own.
type authorizer struct {
	next   http.RoundTripper
	own    func(*url.URL) bool // is it the registry's own
	plain  func(host string) bool
	header http.Header
	token  string // a registry token, sent without being asked for
	// find looks for the registry's credentials. It is called when they are wanted.
	find  func(context.Context) (_ authn.AuthConfig, trouble, err error)
	scope string // asked for where a challenge names none
	// memory is the client's, of this account without its origin; it is not asked
	// where there is no scope.
	memory  *memory
	account account

	mu      sync.Mutex
	hosts   map[string]*session
	trouble error // why there may be no credentials
}

// session is what is known about authenticating to one host.
type session struct {
	renewing chan struct{} // holds one while somebody asks for a token
	find     func(context.Context) (authn.AuthConfig, error)
	creds    *authn.AuthConfig // nil before they were looked for

	mu    sync.Mutex
	value string // of the Authorization header
	n     int    // how often value changed
	hint  hint   // what to begin with, once
}

// maxRenewals is how often one request is sent again with another token: the first
// new one may have been made bad by whoever asked for one at the same time.
const maxRenewals = 2

// RoundTrip sends r, and sends it again if the answer is a challenge that can be
// met. r has no body.
func (a *authorizer) RoundTrip(r *http.Request) (*http.Response, error) {
	s := a.session(r.URL)
	if s == nil {
		return a.next.RoundTrip(dress(r, nil, ""))
	}
	var header http.Header
	if a.own(r.URL) {
		header = a.header
	}
	value, n := a.begin(r.Context(), s)
	for renewals := 0; ; renewals++ {
		resp, err := a.next.RoundTrip(dress(r, header, value))
		if err != nil || resp.StatusCode != http.StatusUnauthorized || renewals == maxRenewals {
			return resp, err
		}
		c, ok := choose(challenges(resp.Header.Values("WWW-Authenticate")))
		if !ok {
			return resp, nil
		}
		old := value
		value, n, err = s.renew(r.Context(), n, func(ctx context.Context, creds authn.AuthConfig) (string, authn.AuthConfig, error) {
			return a.answer(ctx, c, creds)
		})
		if err != nil {
			_ = resp.Body.Close() // the error says more
			return nil, err
		}
		if value == "" || value == old {
			return resp, nil // there is nothing better to send
		}
		a.learn(r.URL, c, value)
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
		_ = resp.Body.Close()
	}
}

// begin says what to send first: what is known of this image, or of earlier ones from
// the same host. An answer that cannot be had is none: the host will say what it wants.
func (a *authorizer) begin(ctx context.Context, s *session) (value string, n int) {
	s.mu.Lock()
	h := s.hint
	s.hint = hint{}
	if h.value != "" {
		s.value = h.value
		s.n++
	}
	s.mu.Unlock()
	if h.challenge != nil {
		value, n, err := s.renew(ctx, 0, func(ctx context.Context, creds authn.AuthConfig) (string, authn.AuthConfig, error) {
			return a.answer(ctx, *h.challenge, creds)
		})
		if err == nil {
			return value, n
		}
	}
	return s.current()
}

// learn remembers an answer to a challenge of the registry's.
func (a *authorizer) learn(u *url.URL, c challenge, value string) {
	if a.memory != nil && a.scope != "" && a.own(u) {
		a.memory.learn(a.at(u), a.scope, c, value)
	}
}

// at is the account at a URL.
func (a *authorizer) at(u *url.URL) account {
	there := a.account
	there.origin = u.Scheme + "://" + u.Host
	return there
}

// dress gives a request headers, and value as its authorization.
func dress(r *http.Request, header http.Header, value string) *http.Request {
	r = r.Clone(r.Context())
	r.Header.Del("Referer") // tells where an image comes from to who has its blobs
	maps.Copy(r.Header, header)
	if value != "" {
		r.Header.Set("Authorization", value)
	}
	return r
}

func (a *authorizer) session(u *url.URL) *session {
	key := u.Scheme + "://" + u.Host
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.hosts[key]
	if s != nil || len(a.hosts) >= maxHosts {
		return s
	}
	s = &session{renewing: make(chan struct{}, 1), creds: &authn.AuthConfig{}}
	if a.own(u) {
		s.creds, s.find = nil, a.credentials
		switch {
		case a.token != "":
			s.value = "Bearer " + a.token
		case a.memory != nil && a.scope != "":
			s.hint = a.memory.recall(a.at(u), a.scope)
		}
	}
	if a.hosts == nil {
		a.hosts = map[string]*session{}
	}
	a.hosts[key] = s
	return s
}

func (s *session) current() (value string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.value, s.n
}

// renew makes another value than number n, once for all who want one.
func (s *session) renew(ctx context.Context, n int, answer func(context.Context, authn.AuthConfig) (string, authn.AuthConfig, error)) (string, int, error) {
	select {
	case s.renewing <- struct{}{}:
		defer func() { <-s.renewing }()
	case <-ctx.Done():
		return "", 0, context.Cause(ctx)
	}
	if value, now := s.current(); now != n {
		return value, now, nil
	}
	if s.creds == nil {
		creds, err := s.find(ctx)
		if err != nil {
			return "", 0, err
		}
		s.creds = &creds
	}
	value, creds, err := answer(ctx, *s.creds)
	if err != nil {
		return "", 0, err
	}
	s.creds = &creds
	s.mu.Lock()
	defer s.mu.Unlock()
	if value != s.value {
		s.value = value
		s.n++
	}
	return value, s.n, nil
}

// credentials looks for the registry's.
func (a *authorizer) credentials(ctx context.Context) (authn.AuthConfig, error) {
	creds, trouble, err := a.find(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trouble = trouble
	return creds, err
}

// denied adds to an error what may be the reason of it.
func (a *authorizer) denied(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.trouble == nil || !errors.Is(err, containerizer.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w (there may be credentials that could not be read: %v)", err, a.trouble) //nolint:errorlint // its class is not this error's
}

// choose takes the first challenge that can be met, a token's before a password's.
func choose(all []challenge) (challenge, bool) {
	for _, scheme := range []string{"bearer", "basic"} {
		for _, c := range all {
			if c.scheme == scheme {
				return c, true
			}
		}
	}
	return challenge{}, false
}

// answer returns what to authorize with, "" for nothing, and the credentials for
// the next time.
func (a *authorizer) answer(ctx context.Context, c challenge, creds authn.AuthConfig) (string, authn.AuthConfig, error) {
	switch {
	case c.scheme == "basic" && creds.Username != "":
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(creds.Username+":"+creds.Password)), creds, nil
	case c.scheme == "basic":
		return "", creds, nil
	case creds.RegistryToken != "":
		return "Bearer " + creds.RegistryToken, creds, nil
	}
	token, err := a.exchange(ctx, c, creds)
	if err != nil {
		return "", creds, err
	}
	if token.RefreshToken != "" {
		creds = authn.AuthConfig{IdentityToken: token.RefreshToken}
	}
	if token.AccessToken != "" { // some servers send this one
		token.Token = token.AccessToken
	}
	return "Bearer " + token.Token, creds, nil
}

// exchange asks the challenge's server for a token.
func (a *authorizer) exchange(ctx context.Context, c challenge, creds authn.AuthConfig) (*transport.Token, error) {
	realm, err := url.Parse(c.params["realm"])
	if err != nil || realm.Host == "" {
		return nil, fmt.Errorf("the registry names no server for tokens: %w", containerizer.ErrUnavailable)
	}
	// The library refuses realms at private addresses other than the registry's own,
	// as they are usual inside of companies. What must not be reached is refused by the
	// transport.
	reg, err := name.NewRegistry(realm.Host)
	if err != nil {
		return nil, fmt.Errorf("the registry names %q as the server for tokens: %w", realm.Host, containerizer.ErrUnavailable)
	}
	auth := authn.Anonymous
	if creds != (authn.AuthConfig{}) {
		auth = authn.FromConfig(creds)
	}
	var scopes []string
	if scope := c.params["scope"]; scope != "" {
		scopes = []string{scope}
	} else if a.scope != "" {
		scopes = []string{a.scope}
	}
	rt := &tokenTransport{next: a.next}
	token, err := transport.Exchange(ctx, reg, auth, rt, scopes, &transport.Challenge{
		Scheme: "Bearer", Parameters: map[string]string{"realm": realm.String(), "service": c.params["service"]}, Insecure: a.plain(realm.Host),
	})
	if err == nil {
		return token, nil
	}
	return nil, tokenError(ctx, realm, creds, rt, err)
}

// tokenError tells why there is no token, without words of the server: they may
// hold one.
func tokenError(ctx context.Context, realm *url.URL, creds authn.AuthConfig, rt *tokenTransport, err error) error {
	what := fmt.Sprintf("get a token from %q", realm.Scheme+"://"+realm.Host)
	var te *transport.Error
	var ue *url.Error
	switch {
	case errors.As(err, &te):
		text := fmt.Sprintf("%d %s", te.StatusCode, http.StatusText(te.StatusCode))
		if te.StatusCode >= http.StatusBadRequest && te.StatusCode < http.StatusNotFound { // 400 to 403
			return fmt.Errorf("%s: %s (%s): %w", what, text, who(creds), containerizer.ErrPermission)
		}
		if te.StatusCode == http.StatusNotFound {
			return fmt.Errorf("%s: %s: %w", what, text, containerizer.ErrUnavailable)
		}
		return classify(what, te.StatusCode, text, rt.after)
	case errors.As(err, &ue):
		return explain(ctx, what, ue.Err)
	case strings.Contains(err.Error(), "realm"):
		return fmt.Errorf("%s: the registry may not send us there: %w", what, containerizer.ErrPermission)
	}
	return fmt.Errorf("%s: its answer holds none: %w", what, containerizer.ErrUnavailable)
}

func who(creds authn.AuthConfig) string {
	switch {
	case creds.Username != "":
		return fmt.Sprintf("for the user %q", creds.Username)
	case creds != (authn.AuthConfig{}):
		return "for the token that is configured"
	}
	return "without credentials"
}

// tokenTransport notes how long a server of tokens wants to be left alone.
type tokenTransport struct {
	next  http.RoundTripper
	after time.Duration
}

// RoundTrip passes on.
func (t *tokenTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(r)
	if err == nil {
		t.after = retryAfter(resp.Header.Get("Retry-After"))
	}
	return resp, err
}
