package fetching

import (
	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/cdi"
)

// CDI makes what resolves names of devices. It brings nothing from elsewhere, and is here
// because the programs that link a reader of YAML are those that fetch.
func CDI(cfg config.Config) containerizer.Isolator { return cdi.New(cfg.CDI.SpecDirs) }
