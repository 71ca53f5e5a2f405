package config

import (
	"cmp"
	"os"
	"path/filepath"
)

// Settings are what flags say of the configuration; "" is nothing.
type Settings struct{ Path, Root, State string }

// Load puts flags before the environment before the file before defaults. path is the
// file that was read, or would have been. Only the default one may be missing.
func (s Settings) Load() (c *Config, path string, err error) {
	path = cmp.Or(s.Path, os.Getenv("BERTH_CONFIG"))
	if path == "" {
		path = DefaultPath
		c, err = LoadIfExists(path)
	} else {
		c, err = Load(path)
	}
	if err != nil {
		return nil, "", err
	}
	c.Root = cmp.Or(s.Root, os.Getenv("BERTH_ROOT"), c.Root, DefaultRoot)
	c.State = cmp.Or(s.State, os.Getenv("BERTH_STATE"), c.State, DefaultState)
	for _, p := range []*string{&c.Root, &c.State} {
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, "", err
		}
	}
	return c, path, nil
}
