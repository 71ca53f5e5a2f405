package http

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
)

// Explain classes an error of Do.
func Explain(ctx context.Context, what string, err error) error {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case errors.Is(err, containerizer.ErrPermission), errors.Is(err, containerizer.ErrUnavailable):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &dns) && dns.IsNotFound, errors.As(err, &cert):
		// This will not pass while somebody waits.
		return fmt.Errorf("%s: %w: %w", what, err, containerizer.ErrUnavailable)
	}
	return uri.Broken(what, err)
}

// StatusError makes an error of an answer, with a line of the server's own words.
func StatusError(what string, resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // what is missing is only words
	text := "the server answers " + resp.Status
	if words := strings.Join(strings.Fields(string(raw)), " "); words != "" && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		text += fmt.Sprintf(" (%.200q)", words)
	}
	switch s := resp.StatusCode; {
	case s == http.StatusNotFound, s == http.StatusGone:
		return fmt.Errorf("%s: %s: %w", what, text, containerizer.ErrNotFound)
	case s == http.StatusUnauthorized, s == http.StatusForbidden, s == http.StatusProxyAuthRequired:
		return fmt.Errorf("%s: %s: %w", what, text, containerizer.ErrPermission)
	case s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s >= 500:
		return &uri.Temporary{
			Err:   fmt.Errorf("%s: %s: %w", what, text, containerizer.ErrUnavailable),
			After: retryAfter(resp.Header.Get("Retry-After")),
		}
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
