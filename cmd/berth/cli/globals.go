package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
)

// globals are the flags that every command has.
type globals struct {
	root, state, config, logLevel string
	debug                         bool
}

func (g *globals) register(set *pflag.FlagSet) {
	set.StringVar(&g.root, "root", "", "`directory` of images and containers (BERTH_ROOT, "+config.DefaultRoot+")")
	set.StringVar(&g.state, "state", "", "`directory` of what does not outlive a reboot (BERTH_STATE, "+config.DefaultState+")")
	set.StringVar(&g.config, "config", "", "configuration `file` (BERTH_CONFIG, "+config.DefaultPath+")")
	set.StringVar(&g.logLevel, "log-level", "", "`level` of berth's own log: error, warn, info or debug (BERTH_LOG_LEVEL, warn)")
	set.BoolVarP(&g.debug, "debug", "D", false, "the same as --log-level debug")
}

// settings puts flags before the environment before the file before defaults.
func (g *globals) settings() (*Settings, error) {
	s := &Settings{ConfigPath: first(g.config, os.Getenv("BERTH_CONFIG"))}
	load := config.Load
	if s.ConfigPath == "" {
		s.ConfigPath, load = config.DefaultPath, config.LoadIfExists
	}
	c, err := load(s.ConfigPath)
	if err != nil {
		return nil, err
	}
	s.Config = *c
	s.Root = first(g.root, os.Getenv("BERTH_ROOT"), c.Root, config.DefaultRoot)
	s.State = first(g.state, os.Getenv("BERTH_STATE"), c.State, config.DefaultState)
	for _, p := range []*string{&s.Root, &s.State} {
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, err
		}
	}
	s.LogLevel = first(g.logLevel, os.Getenv("BERTH_LOG_LEVEL"), "warn")
	if g.debug {
		s.LogLevel = "debug"
	}
	switch s.LogLevel {
	case "error", "warn", "info", "debug":
		return s, nil
	}
	return nil, fmt.Errorf("log level %q: error, warn, info and debug exist: %w", s.LogLevel, containerizer.ErrInvalid)
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
