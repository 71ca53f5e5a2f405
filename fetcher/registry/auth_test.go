package registry_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/registry"
	"github.com/berth-dev/berth/fetcher/registry/registrytest"
)

const secret = "s3cr3t-p4ss"

// TestPullAuth has credentials that come with a pull, in every form.
func TestPullAuth(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte("user:" + secret))
	for name, c := range map[string]struct {
		auth *containerizer.RegistryAuth
		want error
	}{
		"user and password":   {&containerizer.RegistryAuth{Username: "user", Password: secret}, nil},
		"auth":                {&containerizer.RegistryAuth{Auth: basic}, nil},
		"auth, unpadded":      {&containerizer.RegistryAuth{Auth: strings.TrimRight(basic, "=")}, nil},
		"auth, zeros":         {&containerizer.RegistryAuth{Auth: base64.StdEncoding.EncodeToString([]byte("user:" + secret + "\x00\x00"))}, nil},
		"identity token":      {&containerizer.RegistryAuth{IdentityToken: "identity"}, nil},
		"registry token":      {&containerizer.RegistryAuth{RegistryToken: "ready"}, nil},
		"server":              {&containerizer.RegistryAuth{Username: "user", Password: secret, ServerAddress: "https://HOST/v1/"}, nil},
		"server without path": {&containerizer.RegistryAuth{Username: "user", Password: secret, ServerAddress: "HOST"}, nil},
		"another server":      {&containerizer.RegistryAuth{Username: "user", Password: secret, ServerAddress: "https://quay.io"}, containerizer.ErrPermission},
		"wrong password":      {&containerizer.RegistryAuth{Username: "user", Password: "wrong" + secret}, containerizer.ErrPermission},
		"wrong identity":      {&containerizer.RegistryAuth{IdentityToken: "wrong" + secret}, containerizer.ErrPermission},
		"wrong token":         {&containerizer.RegistryAuth{RegistryToken: "wrong" + secret}, containerizer.ErrPermission},
		"not base64":          {&containerizer.RegistryAuth{Auth: "!" + secret}, containerizer.ErrInvalid},
		"no colon":            {&containerizer.RegistryAuth{Auth: base64.StdEncoding.EncodeToString([]byte(secret))}, containerizer.ErrInvalid},
		"empty":               {&containerizer.RegistryAuth{}, containerizer.ErrPermission},
		"none":                {nil, containerizer.ErrPermission},
	} {
		t.Run(name, func(t *testing.T) {
			s := registrytest.New(t)
			s.Image(t, "org/app", "1")
			s.Tokens("user", secret, "identity")
			s.Accept("ready")
			if c.auth != nil {
				a := *c.auth
				a.ServerAddress = strings.Replace(a.ServerAddress, "HOST", s.Host(), 1)
				c.auth = &a
			}
			o, err := client(registry.Options{}).Connect(t.Context(), parse(t, s.Host()+"/org/app:1"), c.auth)
			if err == nil {
				_, _, err = o.Resolve(t.Context())
			}
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("error %v, want class %v", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

// TestPullAuthAndMirror has a pull's credentials, which no mirror gets.
func TestPullAuthAndMirror(t *testing.T) {
	m := newMirrored(t, 10, "")
	m.mirror.Password("mirror", "other")
	m.server.Password("user", secret)
	auth := &containerizer.RegistryAuth{Username: "user", Password: secret, ServerAddress: m.server.Host()}
	nodes := credentials{hosts: map[string]authn.AuthConfig{m.mirror.Host(): {Username: "mirror", Password: "other"}}}
	for _, c := range []struct {
		nodes credentials
		at    *registrytest.Server
	}{{credentials{}, m.server}, {nodes, m.mirror}} {
		before := c.at.Count(registrytest.Blobs)
		o, err := client(registry.Options{Dirs: []string{m.dir}, Credentials: c.nodes}).Connect(t.Context(), parse(t, upstream+"/org/app:1"), auth)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.pull(t.Context(), o); err != nil {
			t.Error(err)
		}
		if c.at.Count(registrytest.Blobs) == before {
			t.Error("the other host was asked")
		}
	}
	for _, r := range m.mirror.Requests() {
		if user, password, ok := parseBasic(r.Authorization); ok && (user != "mirror" || password != "other") {
			t.Errorf("the mirror got the credentials of %q", user)
		}
	}
}

func parseBasic(header string) (user, password string, ok bool) {
	r := http.Request{Header: http.Header{"Authorization": {header}}}
	return r.BasicAuth()
}

// TestTokenExpires has tokens that become bad between and within blobs.
func TestTokenExpires(t *testing.T) {
	s := registrytest.New(t)
	s.Tokens("user", secret, "")
	var layers [][]byte
	for range 4 {
		layers = append(layers, registrytest.Random(large))
	}
	image := s.Image(t, "org/app", "1", layers...)
	o, err := client(registry.Options{}).Connect(t.Context(), parse(t, s.Host()+"/org/app:1"), &containerizer.RegistryAuth{Username: "user", Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := o.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The first connections break after half a layer, and with them all tokens.
	s.On(registrytest.Blobs, registrytest.First(2, func(s *registrytest.Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		defer s.Expire()
		registrytest.Cut(large/2)(s, w, r, serve)
	}))
	var wg sync.WaitGroup
	for i, d := range image.Layers {
		wg.Go(func() {
			if got, err := read(t.Context(), o, d); err != nil || !bytes.Equal(got, layers[i]) {
				t.Errorf("layer %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
	if n := s.Count(registrytest.Tokens); n < 2 {
		t.Errorf("%d tokens were asked for, want several", n)
	}
}

// TestOneTokenForAll has many requests that want a token at once.
func TestOneTokenForAll(t *testing.T) {
	s := registrytest.New(t)
	s.Tokens("", "", "")
	s.On(registrytest.Tokens, registrytest.Late(100*time.Millisecond))
	image := s.Image(t, "org/app", "1", []byte("a"))
	o := connect(t, client(registry.Options{}), parse(t, s.Host()+"/org/app:1"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := read(t.Context(), o, image.Layers[0]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.Count(registrytest.Tokens); n != 1 {
		t.Errorf("%d tokens were asked for, want one", n)
	}
}

func TestTokenServerFails(t *testing.T) {
	for name, c := range map[string]struct {
		fault registrytest.Fault
		want  error
		text  string
	}{
		"recovers":        {registrytest.First(2, registrytest.Status(503)), nil, ""},
		"stays down":      {registrytest.Status(503), containerizer.ErrUnavailable, "503"},
		"asks to wait":    {registrytest.Status(429, "Retry-After", "3600"), containerizer.ErrUnavailable, "come back in 1h"},
		"is not there":    {registrytest.Status(404), containerizer.ErrUnavailable, "404"},
		"no token":        {registrytest.Raw("HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n{\"refresh_token\":\"s3cr3t-p4ss\"}"), containerizer.ErrUnavailable, "holds none"},
		"no JSON":         {registrytest.Raw("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\ns3cr3t-p4ss"), containerizer.ErrUnavailable, "holds none"},
		"endless":         {registrytest.Raw("HTTP/1.1 200 OK\r\n\r\n" + registrytest.Padding(1<<20)), containerizer.ErrUnavailable, "holds none"},
		"goes in circles": {registrytest.Redirect(""), containerizer.ErrUnavailable, "stopped after 10"},
	} {
		t.Run(name, func(t *testing.T) {
			s := registrytest.New(t)
			s.Image(t, "org/app", "1")
			s.Tokens("", "", "")
			s.On(registrytest.Tokens, c.fault)
			o := connect(t, client(registry.Options{Patience: time.Second}), parse(t, s.Host()+"/org/app:1"))
			_, _, err := o.Resolve(t.Context())
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v, want class %v and %q", err, c.want, c.text)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

// TestNothingLeaks has a registry that redirects to another host, by name, by
// port, and below its own name; neither credentials nor configured headers go there.
func TestNothingLeaks(t *testing.T) {
	for _, mode := range []string{"password", "token", "registry token"} {
		t.Run(mode, func(t *testing.T) {
			s, elsewhere := registrytest.New(t), registrytest.New(t)
			content := registrytest.Random(100)
			d := s.Image(t, "org/app", "1", content).Layers[0]
			elsewhere.Image(t, "org/app", "1", content)
			auth := &containerizer.RegistryAuth{Username: "user", Password: secret, ServerAddress: s.Host()}
			switch mode {
			case "password":
				s.Password("user", secret)
			case "token":
				s.Tokens("user", secret, "")
			default:
				s.Accept(secret)
				auth = &containerizer.RegistryAuth{RegistryToken: secret, ServerAddress: s.Host()}
			}
			dir := certs(t, fmt.Sprintf("server = %q\n[header]\nx-api-key = %q\n", s.URL, secret))
			o, err := client(registry.Options{Dirs: []string{dir}}).Connect(t.Context(), parse(t, upstream+"/org/app:1"), auth)
			if err != nil {
				t.Fatal(err)
			}
			port := elsewhere.Host()[strings.LastIndexByte(elsewhere.Host(), ':'):]
			for _, host := range []string{"127.0.0.1" + port, "localhost" + port, "127.0.0.1.localhost" + port} {
				// With its own challenge, too: the other host gets a token that nobody's
				// credentials were given for.
				elsewhere.Tokens("", "", "")
				s.On(registrytest.Blobs, func(s *registrytest.Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
					if r.Header.Get("Authorization") == "" {
						serve(w, r) // the challenge
						return
					}
					registrytest.Redirect("http://"+host+r.URL.Path)(s, w, r, serve)
				})
				got, err := read(t.Context(), o, d)
				if err != nil && strings.Contains(err.Error(), "no such host") {
					continue // the resolver here does not know names below localhost
				}
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("by way of %s: %v", host, err)
				}
			}
			sent := false
			for _, r := range s.Requests() {
				sent = sent || r.Header.Get("X-Api-Key") == secret
			}
			if !sent {
				t.Error("the configured header was not sent to the registry")
			}
			if len(elsewhere.Requests()) == 0 {
				t.Fatal("nobody was redirected")
			}
			for _, r := range elsewhere.Requests() {
				_, password, _ := parseBasic(r.Authorization)
				if password != "" || strings.Contains(r.Authorization, secret) || r.Header.Get("X-Api-Key") != "" || r.Header.Get("Referer") != "" {
					t.Errorf("%s %s got %v", r.Method, r.Path, r.Header)
				}
			}
		})
	}
}

// TestNoSecretsInErrors has a redirect with a signature in its URL.
func TestNoSecretsInErrors(t *testing.T) {
	s := registrytest.New(t)
	d := s.Image(t, "org/app", "1", registrytest.Random(10)).Layers[0]
	s.On(registrytest.Blobs, registrytest.Redirect("http://127.0.0.1:1/x?X-Amz-Signature="+secret))
	o := connect(t, client(registry.Options{}), parse(t, s.Host()+"/org/app:1"))
	_, err := read(t.Context(), o, d)
	if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("error %v, want the host and not the signature", err)
	}
	s.On(registrytest.Manifests, registrytest.Raw("HTTP/1.1 503 \x1b[31mred\r\nContent-Length: 62\r\n\r\n{\"errors\":[{\"code\":\"\\u001b[2J\",\"message\":\"\\u001b[2Jclear\"}]}  "))
	if _, _, err := o.Resolve(t.Context()); err == nil || strings.ContainsRune(err.Error(), 0x1b) {
		t.Errorf("error %q, want one that leaves the terminal alone", err)
	}
}

// TestTLS has certificates of which only the configuration knows.
func TestTLS(t *testing.T) {
	s := registrytest.NewTLS(t)
	s.Image(t, "org/app", "1")
	cert, key := clientPair(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(cert))
	for name, c := range map[string]struct {
		toml  string
		files []string
		mtls  bool
		want  error
	}{
		"unknown":     {"server = %q", nil, false, containerizer.ErrUnavailable},
		"ca":          {"server = %q\nca = \"our.crt\"", []string{"our.crt", string(s.CA())}, false, nil},
		"another ca":  {"server = %q\nca = [\"our.crt\"]", []string{"our.crt", cert}, false, containerizer.ErrUnavailable},
		"skip_verify": {"server = %q\nskip_verify = true", nil, false, nil},
		"client":      {"server = %q\nca = \"our.crt\"\nclient = [[\"c.cert\", \"c.key\"]]", []string{"our.crt", string(s.CA()), "c.cert", cert, "c.key", key}, true, nil},
		"client, one": {"server = %q\nskip_verify = true\nclient = \"c.pem\"", []string{"c.pem", cert + key}, true, nil},
		"no client":   {"server = %q\nskip_verify = true", nil, true, containerizer.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s := s
			if c.mtls {
				s = registrytest.NewTLS(t)
				s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, pool
				s.Image(t, "org/app", "1")
			}
			dir := certs(t, fmt.Sprintf(c.toml, s.URL), c.files...)
			_, _, err := connect(t, client(registry.Options{Dirs: []string{dir}}), parse(t, upstream+"/org/app:1")).Resolve(t.Context())
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("error %v, want class %v", err, c.want)
			}
		})
	}
	t.Run("insecure", func(t *testing.T) {
		o := connect(t, client(registry.Options{Insecure: []string{s.Host()}}), parse(t, s.Host()+"/org/app:1"))
		if _, _, err := o.Resolve(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("loopback is verified", func(t *testing.T) {
		o := connect(t, client(registry.Options{}), parse(t, s.Host()+"/org/app:1"))
		if _, _, err := o.Resolve(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("client certificates stay here", func(t *testing.T) {
		elsewhere := registrytest.NewTLS(t)
		elsewhere.TLS.ClientAuth = tls.RequestClientCert
		content := registrytest.Random(10)
		d := elsewhere.Blob("x", content)
		shown := false
		elsewhere.On(registrytest.Blobs, func(_ *registrytest.Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
			shown = shown || len(r.TLS.PeerCertificates) > 0
			serve(w, r)
		})
		s := registrytest.NewTLS(t)
		s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, pool
		s.On(registrytest.Blobs, registrytest.Redirect(elsewhere.URL+"/v2/org/app/blobs/"+string(d.Digest)))
		dir := certs(t, fmt.Sprintf("server = %q\nskip_verify = true\nclient = \"c.pem\"", s.URL), "c.pem", cert+key)
		got, err := read(t.Context(), connect(t, client(registry.Options{Dirs: []string{dir}}), parse(t, upstream+"/org/app:1")), d)
		if err != nil || !bytes.Equal(got, content) || shown {
			t.Errorf("error %v, certificate shown elsewhere: %v", err, shown)
		}
	})
}

// clientPair makes a certificate and its key.
func clientPair(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

func TestLogin(t *testing.T) {
	s := registrytest.New(t)
	for _, tokens := range []bool{false, true} {
		s.Password("user", secret)
		if tokens {
			s.Tokens("user", secret, "")
		}
		c := client(registry.Options{})
		if err := c.Login(t.Context(), s.Host(), containerizer.RegistryAuth{Username: "user", Password: secret}); err != nil {
			t.Errorf("tokens %v: %v", tokens, err)
		}
		err := c.Login(t.Context(), s.Host(), containerizer.RegistryAuth{Username: "user", Password: "x" + secret})
		if !errors.Is(err, containerizer.ErrPermission) || strings.Contains(err.Error(), secret) {
			t.Errorf("tokens %v, wrong password: %v", tokens, err)
		}
	}
	if err := client(registry.Options{}).Login(t.Context(), "127.0.0.1:1", containerizer.RegistryAuth{Username: "user"}); !errors.Is(err, containerizer.ErrUnavailable) {
		t.Errorf("nobody there: %v", err)
	}
}

// TestHelperTrouble has credentials that cannot be read, which matters only if
// they are wanted.
func TestHelperTrouble(t *testing.T) {
	s := registrytest.New(t)
	s.Image(t, "org/app", "1")
	c := client(registry.Options{Credentials: credentials{trouble: errors.New("the helper is broken")}})
	ref := parse(t, s.Host()+"/org/app:1")
	if _, _, err := connect(t, c, ref).Resolve(t.Context()); err != nil {
		t.Errorf("without need of credentials: %v", err)
	}
	s.Password("user", secret)
	if _, _, err := connect(t, c, ref).Resolve(t.Context()); !errors.Is(err, containerizer.ErrPermission) || !strings.Contains(err.Error(), "the helper is broken") {
		t.Errorf("in need of credentials: %v", err)
	}
}

// credentials are the same for every host, or those of hosts.
type credentials struct {
	user, password string
	hosts          map[string]authn.AuthConfig
	trouble        error
}

func (c credentials) Find(_ context.Context, host, _ string) (_ authn.AuthConfig, trouble, err error) {
	if c.hosts != nil {
		return c.hosts[host], nil, nil
	}
	return authn.AuthConfig{Username: c.user, Password: c.password}, c.trouble, nil
}
