package registry_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/registry"
	"github.com/berth-dev/berth/fetcher/registry/registrytest"
)

// TestTLSVerify overrides what is configured.
func TestTLSVerify(t *testing.T) {
	secure, plain := registrytest.NewTLS(t), registrytest.New(t)
	for _, s := range []*registrytest.Server{secure, plain} {
		s.Image(t, "org/app", "1")
	}
	unavailable, refused := containerizer.ErrUnavailable, containerizer.ErrPermission
	for name, c := range map[string]struct {
		toml     string // "" is to ask the server by its own name
		server   *registrytest.Server
		insecure bool
		want     [3]error // as configured, unverified, verified
	}{
		"unknown certificate":             {"", secure, false, [3]error{unavailable, nil, unavailable}},
		"unknown certificate, listed":     {"", secure, true, [3]error{nil, nil, unavailable}},
		"unknown certificate, configured": {"server = %q", secure, false, [3]error{unavailable, nil, unavailable}},
		"skip_verify":                     {"server = %q\nskip_verify = true", secure, false, [3]error{nil, nil, unavailable}},
		"known certificate":               {"server = %q\nca = \"our.crt\"", secure, false, [3]error{nil, nil, nil}},
		"no TLS on loopback":              {"", plain, false, [3]error{nil, nil, unavailable}},
		"no TLS, configured":              {"server = %q", plain, false, [3]error{nil, nil, refused}},
		"a mirror without TLS":            {"server = \"https://127.0.0.1:1\"\n[host.%q]\n", plain, false, [3]error{nil, nil, refused}},
	} {
		for v, want := range c.want {
			o := registry.Options{TLSVerify: registry.TLSVerify(v), Retries: 1}
			ref := c.server.Host() + "/org/app:1"
			if c.toml != "" {
				o.Dirs, ref = []string{certs(t, fmt.Sprintf(c.toml, c.server.URL), "our.crt", string(secure.CA()))}, upstream+"/org/app:1"
			}
			if c.insecure {
				o.Insecure = []string{c.server.Host()}
			}
			origin, err := client(o).Connect(t.Context(), parse(t, ref), nil)
			if err == nil {
				_, _, err = origin.Resolve(t.Context())
			}
			if !errors.Is(err, want) {
				t.Errorf("%s, %d: got %v, want %v", name, v, err, want)
			}
			if name == "a mirror without TLS" {
				continue // is not pushed to
			}
			err = push(t, client(o), ref)
			if !errors.Is(err, want) || want != nil && c.server == secure && !strings.Contains(err.Error(), "certificate") {
				t.Errorf("push, %s, %d: got %v, want %v", name, v, err, want)
			}
		}
	}
}

// push sends what is there already: the double is read only.
func push(t *testing.T, c *registry.Client, ref string) error {
	t.Helper()
	d, err := c.Push(t.Context(), parse(t, ref))
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // was only asked
	image := registrytest.New(t).Image(t, "org/app", "1")
	return d.PutManifest(t.Context(), image.Manifest, image.Raw)
}

// TestUnverifiedWithoutTLS has a registry that is not on loopback.
func TestUnverifiedWithoutTLS(t *testing.T) {
	s := registrytest.New(t)
	s.Image(t, "org/app", "1")
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, s.Host())
	}}
	defer transport.CloseIdleConnections()
	for v, want := range []error{containerizer.ErrUnavailable, nil, containerizer.ErrUnavailable} {
		c := client(registry.Options{TLSVerify: registry.TLSVerify(v), Transport: transport, Retries: 1})
		if _, _, err := connect(t, c, parse(t, upstream+"/org/app:1")).Resolve(t.Context()); !errors.Is(err, want) {
			t.Errorf("%d: got %v, want %v", v, err, want)
		}
	}
	// A scheme that is configured stays.
	c := client(registry.Options{TLSVerify: registry.TLSUnverified, Transport: transport, Retries: 1, Dirs: []string{certs(t, "server = \"https://"+upstream+"\"")}})
	if _, _, err := connect(t, c, parse(t, upstream+"/org/app:1")).Resolve(t.Context()); !errors.Is(err, containerizer.ErrUnavailable) {
		t.Errorf("https://: got %v", err)
	}
	if err := push(t, c, upstream+"/org/app:1"); !errors.Is(err, containerizer.ErrUnavailable) {
		t.Errorf("push to https://: got %v", err)
	}
}
