package registry_test

import (
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/registry"
	"github.com/berth-dev/berth/fetcher/registry/registrytest"
)

// TestRemembers pulls several images with one client.
func TestRemembers(t *testing.T) {
	s := registrytest.New(t)
	s.Tokens("user", secret, "")
	for _, tag := range []string{"1", "2"} {
		s.Image(t, "org/app", tag)
		s.Image(t, "org/other", tag)
	}
	c := client(registry.Options{Credentials: credentials{user: "user", password: secret}})
	denied := 0
	pull := func(ref string, auth *containerizer.RegistryAuth) (tokens, challenges int, err error) {
		t.Helper()
		before, was := s.Count(registrytest.Tokens), denied
		o, err := c.Connect(t.Context(), parse(t, s.Host()+"/"+ref), auth)
		if err == nil {
			_, _, err = o.Resolve(t.Context())
		}
		return s.Count(registrytest.Tokens) - before, denied - was, err
	}
	s.On(registrytest.Manifests, func(_ *registrytest.Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		serve(&counting{w, &denied}, r)
	})
	user := &containerizer.RegistryAuth{Username: "user", Password: secret}
	for _, step := range []struct {
		what, ref          string
		auth               *containerizer.RegistryAuth
		tokens, challenges int
		want               error
	}{
		{"the first", "org/app:1", nil, 1, 1, nil},
		{"another tag", "org/app:2", nil, 0, 0, nil},
		{"another repository", "org/other:1", nil, 1, 0, nil},
		{"credentials of its own", "org/other:1", user, 1, 1, nil},
		{"the same ones", "org/other:2", &containerizer.RegistryAuth{Username: "user", Password: secret}, 0, 0, nil},
		{"wrong ones", "org/other:2", &containerizer.RegistryAuth{Username: "user", Password: "wrong"}, 1, 1, containerizer.ErrPermission},
		{"none", "org/other:2", &containerizer.RegistryAuth{}, 1, 1, containerizer.ErrPermission},
	} {
		tokens, challenges, err := pull(step.ref, step.auth)
		if tokens != step.tokens || challenges != step.challenges || !errors.Is(err, step.want) {
			t.Errorf("%s: %d tokens, %d challenges, %v; want %d, %d, %v", step.what, tokens, challenges, err, step.tokens, step.challenges, step.want)
		}
	}
	s.Expire()
	if tokens, challenges, err := pull("org/app:1", nil); tokens != 1 || challenges != 1 || err != nil {
		t.Errorf("after the token expired: %d tokens, %d challenges, %v", tokens, challenges, err)
	}
	s.Password("user", secret) // tokens are not wanted any more
	if _, _, err := pull("org/app:1", nil); err != nil {
		t.Errorf("after the registry changed: %v", err)
	}
	if tokens, challenges, err := pull("org/other:1", nil); tokens != 0 || challenges != 0 || err != nil {
		t.Errorf("with a password: %d tokens, %d challenges, %v", tokens, challenges, err)
	}
	if err := c.Login(t.Context(), s.Host(), containerizer.RegistryAuth{Username: "user", Password: "wrong"}); !errors.Is(err, containerizer.ErrPermission) {
		t.Errorf("log in with a wrong password: %v", err)
	}
}

// counting counts refusals.
type counting struct {
	http.ResponseWriter
	n *int
}

func (c *counting) WriteHeader(status int) {
	if status == http.StatusUnauthorized {
		*c.n++
	}
	c.ResponseWriter.WriteHeader(status)
}

// TestRemembersApart has two registries and a mirror, of which none sees what is
// another's.
func TestRemembersApart(t *testing.T) {
	m := newMirrored(t, 10, "")
	other := registrytest.New(t)
	other.Image(t, "org/app", "1")
	m.server.Tokens("user", secret, "")
	m.mirror.Tokens("", "", "")
	c := client(registry.Options{Dirs: []string{m.dir}})
	auth := &containerizer.RegistryAuth{Username: "user", Password: secret, ServerAddress: m.server.Host()}
	for range 2 {
		for _, ref := range []string{upstream + "/org/app:1", m.server.Host() + "/org/app:1", other.Host() + "/org/app:1"} {
			o, err := c.Connect(t.Context(), parse(t, ref), auth)
			if err == nil {
				_, _, err = o.Resolve(t.Context())
			}
			if err != nil {
				t.Fatalf("%s: %v", ref, err)
			}
		}
	}
	seen := func(s *registrytest.Server) (out []string) {
		for _, r := range s.Requests() {
			if r.Authorization != "" {
				out = append(out, r.Authorization)
			}
		}
		return out
	}
	if got := seen(other); len(got) > 0 {
		t.Errorf("another registry has seen %q", got)
	}
	mirror := seen(m.mirror)
	for _, v := range seen(m.server) {
		if slices.Contains(mirror, v) {
			t.Errorf("the mirror has seen %q, which is the server's", v)
		}
	}
	if len(mirror) == 0 || len(seen(m.server)) == 0 {
		t.Error("nobody was shown anything")
	}
}
