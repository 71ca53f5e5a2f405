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
)

// UnpackChild is the first argument of a program that unpacks one layer, confined.
// Such a process does nothing else.
const UnpackChild = "unpack-child"

// New makes the fetcher that cfg describes. It does no I/O.
func New(cfg config.Config) containerizer.Fetcher {
	return fetcher.New(fetcher.Options{
		Registry: registry.Options{Insecure: cfg.Registries.Insecure},
		TempDir:  filepath.Join(wiring.ImageRoot(cfg), "stage"), // archives can be larger than /tmp
	})
}
