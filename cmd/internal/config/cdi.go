package config

import (
	"fmt"
	"path/filepath"
)

// CDI says where devices are specified that have names (Container Device Interface).
type CDI struct {
	// SpecDirs are folders of specification files, those of later ones before those of
	// earlier ones; nil is /etc/cdi and /var/run/cdi.
	SpecDirs []string `toml:"spec_dirs"`
}

func (c *CDI) check() error {
	for _, p := range c.SpecDirs {
		if !filepath.IsAbs(p) {
			return fmt.Errorf("cdi.spec_dirs: %q is not an absolute path", p)
		}
	}
	return nil
}
