package agent

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// realm is that of Mesos's agents.
const realm = "mesos-agent-readwrite"

// Authenticator says who calls. A nil one lets everybody in as nobody.
type Authenticator struct {
	secrets map[string]string // by principal
	key     []byte            // of tokens; nil is none
}

// principal is who calls. The zero value is nobody in particular.
type principal struct {
	name string
	// container is the root that the caller's token is for: an executor may do what
	// concerns its own containers, and nothing else.
	container containerizer.ContainerID
}

// NewAuthenticator takes the file of Mesos's --credentials, {"credentials":
// [{"principal", "secret"}]}, and the key with which bearer tokens are signed
// (--jwt_secret_key). Either may be empty. Errors: ErrInvalid.
func NewAuthenticator(credentials, key []byte) (*Authenticator, error) {
	a := &Authenticator{secrets: map[string]string{}, key: bytes.TrimSpace(key)}
	if len(credentials) == 0 && len(a.key) == 0 {
		return nil, invalid("neither credentials nor a key is given")
	}
	if len(credentials) == 0 {
		return a, nil
	}
	var file struct {
		Credentials []struct {
			Principal string `json:"principal"`
			Secret    string `json:"secret"`
		} `json:"credentials"`
	}
	if err := json.Unmarshal(credentials, &file); err != nil {
		return nil, fmt.Errorf("credentials: %w: %w", err, containerizer.ErrInvalid)
	}
	for i, c := range file.Credentials {
		if c.Principal == "" || c.Secret == "" {
			return nil, invalid("credentials: the entry %d lacks a principal or a secret", i)
		}
		a.secrets[c.Principal] = c.Secret
	}
	return a, nil
}

func (a *Authenticator) challenge(h http.Header) {
	if len(a.secrets) > 0 {
		h.Add("WWW-Authenticate", fmt.Sprintf("Basic realm=%q", realm))
	}
	if len(a.key) > 0 {
		h.Add("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q", realm))
	}
}

// authenticate says who sends r.
func (a *Authenticator) authenticate(r *http.Request) (*principal, error) {
	if a == nil {
		return &principal{}, nil
	}
	if name, secret, is := r.BasicAuth(); is {
		want, known := a.secrets[name]
		// Compared by their digests: the time taken tells neither length nor content.
		x, y := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(want))
		if subtle.ConstantTimeCompare(x[:], y[:]) != 1 || !known {
			return nil, errors.New("the credentials are not right")
		}
		return &principal{name: name}, nil
	}
	if token, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); is && len(a.key) > 0 {
		return a.token(token, time.Now())
	}
	return nil, errors.New("who calls has to say who that is")
}

// token checks a JSON web token (RFC 7519) signed with HMAC and SHA-256, the only way
// in which Mesos signs.
func (a *Authenticator) token(token string, now time.Time) (*principal, error) {
	signed, signature, _ := cutLast(token, ".")
	head, body, _ := strings.Cut(signed, ".")
	var header struct {
		Algorithm string `json:"alg"`
		Type      string `json:"typ"`
	}
	if err := decodePart(head, &header); err != nil || header.Algorithm != "HS256" || header.Type != "JWT" {
		return nil, errors.New("the token is not a JWT signed with HS256")
	}
	got, err := base64.RawURLEncoding.DecodeString(signature)
	mac := hmac.New(sha256.New, a.key)
	mac.Write([]byte(signed))
	if err != nil || !hmac.Equal(got, mac.Sum(nil)) {
		return nil, errors.New("the token is not signed with our key")
	}
	var claims struct {
		Expires   *float64 `json:"exp"`
		NotBefore *float64 `json:"nbf"`
		Subject   string   `json:"sub"`
		Container string   `json:"cid"`
	}
	if err := decodePart(body, &claims); err != nil {
		return nil, errors.New("the token's claims cannot be read")
	}
	seconds := float64(now.UnixNano()) / 1e9
	if claims.Expires != nil && seconds >= *claims.Expires || claims.NotBefore != nil && seconds < *claims.NotBefore {
		return nil, errors.New("the token is not valid now")
	}
	p := &principal{name: claims.Subject}
	if claims.Container != "" {
		if p.container, err = containerizer.ParseContainerID(claims.Container); err != nil {
			return nil, errors.New("the token is for no possible container")
		}
	}
	if p.name == "" && p.container == "" {
		return nil, errors.New("the token says neither who calls (sub) nor for which container (cid)")
	}
	return p, nil
}

func decodePart(part string, v any) error {
	data, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
