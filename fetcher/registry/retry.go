package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/berth-dev/berth/containerizer"
)

// maxPause bounds what a registry may ask us to wait.
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

// retry repeats f while its error is transient.
func (c *Client) retry(ctx context.Context, f func() error) error {
	for attempt := 0; ; attempt++ {
		err := f()
		var t *transient
		if err == nil || !errors.As(err, &t) {
			return err
		}
		if attempt >= c.o.Retries {
			return t.error
		}
		if perr := c.pause(ctx, attempt, t.after); perr != nil {
			return errors.Join(perr, t.error)
		}
	}
}

// pause waits before repetition number attempt, at least for after.
func (c *Client) pause(ctx context.Context, attempt int, after time.Duration) error {
	wait := max(min(c.o.Backoff<<max(attempt, 0), 30*time.Second), min(after, maxPause))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// explain classes an error of the transport: refused by policy, by the
// registry's authentication, or a connection that failed.
func (c *Client) explain(ctx context.Context, what string, err error) error {
	var te *transport.Error
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case errors.Is(err, containerizer.ErrPermission):
		return fmt.Errorf("%s: %w", what, err)
	case errors.As(err, &te):
		return classify(what, te.StatusCode, te.Error(), 0)
	case strings.Contains(err.Error(), "stopped after"): // net/http has no error value for a redirect loop
		return fmt.Errorf("%s: %w: %w", what, err, containerizer.ErrUnavailable)
	}
	if permanent(err) {
		return fmt.Errorf("%s: %w: %w", what, err, containerizer.ErrUnavailable)
	}
	return temporary(what, err)
}

// permanent knows failures that will not pass while somebody waits.
func permanent(err error) bool {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &dns) && dns.IsNotFound || errors.As(err, &cert)
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
	text := resp.Status
	if json.Unmarshal(raw, &body) == nil && len(body.Errors) > 0 {
		text += fmt.Sprintf(" (%s: %.200q)", strings.ToLower(body.Errors[0].Code), body.Errors[0].Message)
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
		return max(0, time.Until(t))
	}
	return 0
}
