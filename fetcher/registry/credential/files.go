package credential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/berth-dev/berth/containerizer"
)

// maxFile bounds a configuration file.
const maxFile = 8 << 20

// Files finds credentials in configuration files, which it reads each time.
type Files struct {
	// Paths are tried in order; the first file that knows the registry wins.
	Paths []string
	// Required makes a missing file an error.
	Required bool
}

// DefaultPaths are REGISTRY_AUTH_FILE alone if it is set, else Docker's
// configuration, then Podman's.
func DefaultPaths() []string {
	if path := os.Getenv("REGISTRY_AUTH_FILE"); path != "" {
		return []string{path}
	}
	var paths []string
	home, _ := os.UserHomeDir() // "" where there is none, as for a service
	if path := dockerPath(home); path != "" {
		paths = append(paths, path)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		paths = append(paths, filepath.Join(dir, "containers", "auth.json"))
	} else {
		paths = append(paths, filepath.Join("/run/containers", strconv.Itoa(os.Getuid()), "auth.json"))
	}
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		paths = append(paths, filepath.Join(dir, "containers", "auth.json"))
	} else if home != "" {
		paths = append(paths, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	return paths
}

func dockerPath(home string) string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json")
	}
	if home == "" {
		return ""
	}
	return filepath.Join(home, ".docker", "config.json")
}

// Find returns the credentials for a repository of a registry, empty ones if
// there are none. trouble is a helper that could not be asked: it is told if the
// registry wants credentials.
func (f Files) Find(ctx context.Context, registry, repository string) (_ authn.AuthConfig, trouble, err error) {
	for _, path := range f.Paths {
		c, err := load(path)
		if err != nil && !f.Required && errors.Is(err, containerizer.ErrNotFound) {
			continue
		}
		if err != nil {
			return authn.AuthConfig{}, nil, err
		}
		a, err := find(ctx, c, registry, repository)
		if err != nil {
			trouble = fmt.Errorf("%q: %w", path, err)
			continue
		}
		if a != (authn.AuthConfig{}) {
			return a, nil, nil
		}
	}
	return authn.AuthConfig{}, trouble, nil
}

// load reads a file.
func load(path string) (*configfile.ConfigFile, error) {
	c, err := read(path)
	if err == nil {
		return c, nil
	}
	class := containerizer.ErrInvalid
	switch {
	case errors.Is(err, fs.ErrNotExist):
		class = containerizer.ErrNotFound
	case errors.Is(err, fs.ErrPermission):
		class = containerizer.ErrPermission
	}
	return nil, fmt.Errorf("credentials in %q: %w: %w", path, err, class)
}

func read(path string) (*configfile.ConfigFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("it is not a regular file of at most %d bytes", maxFile)
	}
	f, err := os.Open(path) //nolint:gosec // the user's own path
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // was only read
	c, err := config.LoadFromReader(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, err
	}
	c.Filename = path
	return c, nil
}

// find looks into one file: a helper for the registry, an entry for the longest
// part of the repository's name, the helper for all registries.
func find(ctx context.Context, c *configfile.ConfigFile, registry, repository string) (authn.AuthConfig, error) {
	for _, name := range slices.Sorted(maps.Keys(c.CredentialHelpers)) {
		if Hostname(name) == Hostname(registry) {
			return askHelper(ctx, c.CredentialHelpers[name], name)
		}
	}
	if a, ok := entry(c, registry, repository); ok {
		return authn.AuthConfig{
			Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
		}, nil
	}
	if c.CredentialsStore != "" {
		return askHelper(ctx, c.CredentialsStore, key(registry))
	}
	return authn.AuthConfig{}, nil
}

// entry finds "registry/a/b", then "registry/a", then "registry" among the
// entries, and that in the forms in which tools wrote it.
func entry(c *configfile.ConfigFile, registry, repository string) (types.AuthConfig, bool) {
	registry = Hostname(registry)
	for part := repository; part != ""; {
		if a, ok := c.AuthConfigs[registry+"/"+part]; ok && filled(a) {
			return a, true
		}
		i := strings.LastIndexByte(part, '/')
		part = part[:max(i, 0)]
	}
	if a, ok := c.AuthConfigs[key(registry)]; ok && filled(a) {
		return a, true
	}
	for _, name := range slices.Sorted(maps.Keys(c.AuthConfigs)) {
		whole := strings.Contains(name, "://") || !strings.Contains(name, "/")
		if a := c.AuthConfigs[name]; whole && Hostname(name) == registry && filled(a) {
			return a, true
		}
	}
	return types.AuthConfig{}, false
}

func filled(a types.AuthConfig) bool {
	return a.Username != "" || a.IdentityToken != "" || a.RegistryToken != ""
}

// key is the name of a registry in the files.
func key(registry string) string {
	if registry = Hostname(registry); registry != "docker.io" {
		return registry
	}
	return authn.DefaultAuthKey
}
