package fetching

import (
	"context"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/policy"
	"github.com/berth-dev/berth/fetcher/registry"
	"github.com/berth-dev/berth/fetcher/registry/credential"
)

// accounts are the user's at registries.
type accounts struct{ cfg config.Config }

// NewAccounts returns what logs in to registries, and out.
func NewAccounts(cfg config.Config) wiring.Accounts { return &accounts{cfg} }

// Login checks credentials with a registry, and keeps them.
func (a *accounts) Login(ctx context.Context, host string, auth containerizer.RegistryAuth) (where string, err error) {
	host = credential.Hostname(host)
	if err := policy.CheckRegistry(host); err != nil {
		return "", err
	}
	path, err := a.file()
	if err != nil {
		return "", err
	}
	if err := registry.New(options(a.cfg)).Login(ctx, host, auth); err != nil {
		return "", err
	}
	return credential.Store(path, host, auth.Username, auth.Password)
}

// Logout forgets the credentials for a registry.
func (a *accounts) Logout(ctx context.Context, host string) (found bool, err error) {
	path, err := a.file()
	if err != nil {
		return false, err
	}
	return credential.Erase(ctx, path, credential.Hostname(host))
}

// file is where credentials are kept.
func (a *accounts) file() (string, error) {
	if path := a.cfg.Registries.AuthFile; path != "" {
		return path, nil
	}
	return credential.LoginPath()
}
