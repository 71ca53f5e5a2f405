package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// maxPause bounds what a registry may ask us to wait at once.
const maxPause = 2 * time.Minute

// transient is an error that repeating may help against.
type transient struct {
	error
	after time.Duration // what the registry asked for
}

func (t *transient) Unwrap() error { return t.error }

func temporary(what string, err error) error {
	return &transient{error: fmt.Errorf("%s: %w: %w", what, err, containerizer.ErrUnavailable)}
}

// patience is what one request, with its repetitions, may wait.
type patience struct {
	client *Client
	n      int
	waited time.Duration
}

// more waits before the next repetition, at least for after. It returns cause when
// there have been enough, or when the registry asks for more than is left.
func (p *patience) more(ctx context.Context, cause error, after time.Duration) error {
	o := &p.client.o
	if p.n >= o.Retries {
		return cause
	}
	// Many clients that failed at once are not to come back at once.
	wait := min(o.Backoff<<min(p.n, 16), 30*time.Second)
	wait = wait/2 + rand.N(wait/2+1) //nolint:gosec // no secret
	wait = max(wait, min(after, maxPause))
	if p.waited+wait > o.Patience {
		if after > 0 {
			return fmt.Errorf("%w (the registry asks to come back in %v)", cause, after.Round(time.Second))
		}
		return cause
	}
	p.n++
	p.waited += wait
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), cause)
	}
}

// explain classes an error of the transport: refused by policy, by the
// registry's authentication, or a connection that failed. URLs are left out: those
// of a redirect may be signed, which is as good as a password.
func explain(ctx context.Context, what string, err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
		if u, perr := url.Parse(ue.URL); perr == nil && u.Host != "" {
			err = fmt.Errorf("%s: %w", u.Host, err)
		}
	}
	var t *transient
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case errors.As(err, &t):
		return &transient{error: fmt.Errorf("%s: %w", what, err), after: t.after}
	case classedAlready(err):
		return fmt.Errorf("%s: %w", what, err)
	case permanent(err):
		return fmt.Errorf("%s: %w: %w", what, err, containerizer.ErrUnavailable)
	}
	return temporary(what, err)
}

func classedAlready(err error) bool {
	return errors.Is(err, containerizer.ErrPermission) || errors.Is(err, containerizer.ErrUnavailable) || errors.Is(err, containerizer.ErrNotFound)
}

// permanent knows failures that will not pass while somebody waits.
func permanent(err error) bool {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var alert tls.AlertError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &dns) && dns.IsNotFound || errors.As(err, &cert) || errors.As(err, &alert) ||
		errors.Is(err, http.ErrSchemeMismatch) || strings.Contains(err.Error(), "stopped after") // net/http has no error value for a redirect loop
}

// statusError makes an error of a response, with the registry's own words.
func statusError(what string, resp *http.Response) error {
	var body struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what is missing is only words
	text := strings.TrimSpace(strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode))
	if json.Unmarshal(raw, &body) == nil && len(body.Errors) > 0 {
		text += fmt.Sprintf(" (%.50q: %.200q)", strings.ToLower(body.Errors[0].Code), body.Errors[0].Message)
	}
	return classify(what, resp.StatusCode, text, retryAfter(resp.Header.Get("Retry-After")))
}

func classify(what string, status int, text string, after time.Duration) error {
	switch {
	case status == http.StatusNotFound:
		return fmt.Errorf("%s: %s: %w", what, text, containerizer.ErrNotFound)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Errorf("%s: %s (it does not exist, or needs other credentials): %w", what, text, containerizer.ErrPermission)
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		return &transient{error: fmt.Errorf("%s: %s: %w", what, text, containerizer.ErrUnavailable), after: after}
	}
	return fmt.Errorf("%s: %s: %w", what, text, containerizer.ErrUnavailable)
}

// retryAfter reads seconds or a date.
func retryAfter(s string) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return time.Duration(min(n, 3600)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return min(max(0, time.Until(t)), time.Hour)
	}
	return 0
}
