package credential

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/berth-dev/berth/containerizer"
)

// ForPull returns the credentials of a pull for a host. ok says whether they are
// for it: auth has to name it, or to name none while host is where the registry
// itself is.
func ForPull(auth *containerizer.RegistryAuth, registry, host string) (_ authn.AuthConfig, ok bool, err error) {
	if auth == nil {
		return authn.AuthConfig{}, false, nil
	}
	server := auth.ServerAddress
	if server == "" {
		server = registry
	}
	if Hostname(server) != Hostname(host) {
		return authn.AuthConfig{}, false, nil
	}
	c, err := convert(auth)
	return c, true, err
}

func convert(auth *containerizer.RegistryAuth) (authn.AuthConfig, error) {
	switch {
	case auth.RegistryToken != "":
		return authn.AuthConfig{RegistryToken: auth.RegistryToken}, nil
	case auth.Username != "":
		return authn.AuthConfig{Username: auth.Username, Password: auth.Password}, nil
	case auth.IdentityToken != "":
		return authn.AuthConfig{IdentityToken: auth.IdentityToken}, nil
	case auth.Auth != "":
		user, password, err := decode(auth.Auth)
		if err != nil {
			return authn.AuthConfig{}, fmt.Errorf("the credentials of the pull: auth: %w: %w", err, containerizer.ErrInvalid)
		}
		return authn.AuthConfig{Username: user, Password: password}, nil
	}
	return authn.AuthConfig{}, nil
}

// decode reads base64 of "user:password", padded or not. Docker once padded the
// password with zeros.
func decode(s string) (user, password string, err error) {
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(s), "="))
	if err != nil {
		return "", "", errors.New("it is not base64")
	}
	user, password, ok := strings.Cut(string(raw), ":")
	if !ok || user == "" {
		return "", "", errors.New("it is not of the form user:password")
	}
	return user, strings.Trim(password, "\x00"), nil
}

// Hostname brings what users and tools write for a registry, with or without
// scheme and path, into one form. Docker's registry has several names.
func Hostname(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	if _, rest, ok := strings.Cut(s, "://"); ok {
		s = rest
	}
	s, _, _ = strings.Cut(s, "/")
	switch s {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return "docker.io"
	}
	return s
}
