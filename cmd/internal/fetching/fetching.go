// Package fetching makes what brings images to this machine, for the programs that
// link it: the registry client alone costs a program more at each start than
// launching a container takes (decisions/0002 of cmd/berth).
package fetching

import (
	"path/filepath"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/cmd/internal/wiring"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher"
	"github.com/berth-dev/berth/fetcher/registry"
	"github.com/berth-dev/berth/fetcher/registry/credential"
)

// Unpacker is the command that unpacks one layer, confined. If it is missing, to
// start it fails and says so; only what has to unpack needs it.
func Unpacker() []string {
	const name = "berth-unpack"
	path, err := wiring.Program(name)
	if err != nil {
		path = name
	}
	return []string{path}
}

// New makes the fetcher that cfg describes. It does no I/O.
func New(cfg config.Config) containerizer.Fetcher {
	p, _ := cfg.Policy() // a mistake in it was found when the file was read
	return fetcher.New(fetcher.Options{
		Registry: options(cfg),
		Policy:   p,
		TempDir:  filepath.Join(wiring.ImageRoot(cfg), "stage"), // archives can be larger than /tmp
	})
}

// options say how registries are spoken to.
func options(cfg config.Config) registry.Options {
	r := &cfg.Registries
	o := registry.Options{Insecure: r.Insecure, Dirs: r.CertsDirs}
	if r.TLSVerify != nil {
		o.TLSVerify = registry.TLSUnverified
		if *r.TLSVerify {
			o.TLSVerify = registry.TLSVerified
		}
	}
	if r.AuthFile != "" {
		o.Credentials = credential.Files{Paths: []string{r.AuthFile}, Required: true}
	}
	return o
}
