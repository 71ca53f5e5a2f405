package credential

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"

	"github.com/berth-dev/berth/containerizer"
)

// LoginPath is the file that login and logout change when none is named.
func LoginPath() (string, error) {
	if path := os.Getenv("REGISTRY_AUTH_FILE"); path != "" {
		return path, nil
	}
	home, _ := os.UserHomeDir()
	if path := dockerPath(home); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("where to keep credentials is not known: HOME and DOCKER_CONFIG are not set: %w", containerizer.ErrFailedPrecondition)
}

// Store keeps credentials for a registry in the file, or with the helper that the
// file names. where says which.
func Store(path, registry, user, password string) (where string, err error) {
	c, err := loadOrNew(path)
	if err != nil {
		return "", err
	}
	k := key(registry)
	where = path
	if name := helperName(c, k); name != "" {
		where = "docker-credential-" + name
	}
	err = c.GetCredentialsStore(k).Store(types.AuthConfig{Username: user, Password: password, ServerAddress: k})
	if err != nil {
		return "", fmt.Errorf("keep credentials for %q in %s: %w", registry, where, err)
	}
	return where, nil
}

// Erase forgets the credentials for a registry. found says whether there were any.
func Erase(ctx context.Context, path, registry string) (found bool, err error) {
	c, err := loadOrNew(path)
	if err != nil {
		return false, err
	}
	a, err := find(ctx, c, registry, "")
	if err != nil {
		return false, err
	}
	for _, name := range names(c, registry) {
		if err := c.GetCredentialsStore(name).Erase(name); err != nil {
			return false, fmt.Errorf("forget the credentials for %q: %w", registry, err)
		}
	}
	return a.Username != "" || a.IdentityToken != "" || a.RegistryToken != "", nil
}

// names are all keys by which the file may know a registry.
func names(c *configfile.ConfigFile, registry string) []string {
	out := []string{key(registry)}
	for name := range c.AuthConfigs {
		if Hostname(name) == Hostname(registry) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func helperName(c *configfile.ConfigFile, key string) string {
	if name := c.CredentialHelpers[key]; name != "" {
		return name
	}
	return c.CredentialsStore
}

func loadOrNew(path string) (*configfile.ConfigFile, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("make the directory for credentials: %w", err)
		}
		return configfile.New(path), nil
	}
	return load(path)
}
