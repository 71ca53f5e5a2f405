package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

const (
	fileName   = "hosts.toml"
	defaultDir = "_default"
	// maxFile bounds a hosts.toml.
	maxFile = 1 << 20
)

// DefaultDirs are where configurations are looked for, the first one first.
func DefaultDirs() []string {
	return []string{"/etc/berth/certs.d", "/etc/containerd/certs.d", "/etc/docker/certs.d"}
}

// Load returns the hosts of a registry ("host" or "host:port") in the order in
// which they are tried; the last one is the registry's server. A directory of the
// registry's own, in any of dirs, comes before a _default one. Without either the
// result is one host without a URL.
func Load(dirs []string, registry string) ([]Host, error) {
	if strings.ContainsAny(registry, "/\x00") || strings.Trim(registry, ".") == "" {
		return nil, fmt.Errorf("registry %q: %w", registry, containerizer.ErrInvalid)
	}
	for _, names := range [][]string{directories(registry), {defaultDir}} {
		for _, dir := range dirs {
			for _, name := range names {
				hosts, err := loadDir(filepath.Join(dir, name))
				if err != nil || hosts != nil {
					return hosts, err
				}
			}
		}
	}
	return []Host{{Can: all}}, nil
}

// directories are the names of a registry's directory. The one without a colon is
// for tools and file systems that cannot have one.
func directories(registry string) []string {
	host, port := registry, ""
	if i := strings.LastIndexByte(registry, ':'); i > 0 && !strings.HasSuffix(registry, "]") {
		host, port = registry[:i], registry[i+1:]
	}
	if port == "" {
		return []string{registry}
	}
	return []string{host + "_" + port + "_", registry}
}

// loadDir reads one directory; nil is none, or one with nothing of ours in it.
func loadDir(dir string) ([]Host, error) {
	path := filepath.Join(dir, fileName)
	data, err := readFile(path)
	switch {
	case err == nil && len(data) > 0:
		return Parse(path, data)
	case err == nil, missing(err):
		return certificateFiles(dir)
	}
	return nil, fmt.Errorf("configuration of a registry: %w", classed(err))
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%q is not a regular file of at most %d bytes: %w", path, maxFile, containerizer.ErrInvalid)
	}
	return os.ReadFile(path)
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// classed gives an error about a configured file a class.
func classed(err error) error {
	if errors.Is(err, containerizer.ErrInvalid) {
		return err
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", err, containerizer.ErrPermission)
	}
	return fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
}

// certificateFiles reads Docker's form: *.crt to be trusted, *.cert and *.key to
// show.
func certificateFiles(dir string) ([]Host, error) {
	entries, err := os.ReadDir(dir)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration of a registry: %w", classed(err))
	}
	h := Host{Can: all, From: dir}
	keys := map[string]bool{}
	for _, e := range entries {
		keys[e.Name()] = true
	}
	for _, e := range entries {
		name := e.Name()
		switch filepath.Ext(name) {
		case ".crt":
			h.CA = append(h.CA, filepath.Join(dir, name))
		case ".cert":
			pair := [2]string{filepath.Join(dir, name)}
			if key := strings.TrimSuffix(name, ".cert") + ".key"; keys[key] {
				pair[1] = filepath.Join(dir, key)
			}
			h.Client = append(h.Client, pair)
		case ".key": // an orphan is a mistake that Docker reports, too
			if cert := strings.TrimSuffix(name, ".key") + ".cert"; !keys[cert] {
				return nil, fmt.Errorf("configuration of a registry: %q has no certificate %q beside it: %w", filepath.Join(dir, name), cert, containerizer.ErrInvalid)
			}
		}
	}
	if !h.TLS() {
		return nil, nil
	}
	return []Host{h}, nil
}
