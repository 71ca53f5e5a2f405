package cli

import (
	"cmp"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
)

// globals are the flags that every command has.
type globals struct {
	root, state, config, host, logLevel string
	tlsCA, tlsCert, tlsKey              string
	debug                               bool
}

func (g *globals) register(set *pflag.FlagSet) {
	set.StringVar(&g.root, "root", "", "`directory` of images and containers (BERTH_ROOT, "+config.DefaultRoot+")")
	set.StringVar(&g.state, "state", "", "`directory` of what does not outlive a reboot (BERTH_STATE, "+config.DefaultState+")")
	set.StringVar(&g.config, "config", "", "configuration `file` (BERTH_CONFIG, "+config.DefaultPath+")")
	set.StringVarP(&g.host, "host", "H", "", "berthd to `use`: unix:///PATH, tcp://HOST:PORT, or none to do without (BERTH_HOST, the one that listens in the state directory)")
	set.StringVar(&g.tlsCA, "tls-ca", "", "PEM `file` of the authorities that berthd's certificate has to be from, for tcp (BERTH_TLS_CA)")
	set.StringVar(&g.tlsCert, "tls-cert", "", "PEM `file` of the certificate to show to berthd (BERTH_TLS_CERT)")
	set.StringVar(&g.tlsKey, "tls-key", "", "PEM `file` of its key (BERTH_TLS_KEY)")
	set.StringVar(&g.logLevel, "log-level", "", "`level` of berth's own log: error, warn, info or debug (BERTH_LOG_LEVEL, warn)")
	set.BoolVarP(&g.debug, "debug", "D", false, "the same as --log-level debug")
}

// settings puts flags before the environment before the file before defaults.
func (g *globals) settings() (*Settings, error) {
	c, path, err := config.Settings{Path: g.config, Root: g.root, State: g.state}.Load()
	if err != nil {
		return nil, err
	}
	s := &Settings{Config: *c, ConfigPath: path, Host: cmp.Or(g.host, os.Getenv("BERTH_HOST"), c.Client.Host)}
	s.TLS = g.tls(s)
	s.LogLevel = cmp.Or(g.logLevel, os.Getenv("BERTH_LOG_LEVEL"), "warn")
	if g.debug {
		s.LogLevel = "debug"
	}
	switch s.LogLevel {
	case "error", "warn", "info", "debug":
		return s, nil
	}
	return nil, fmt.Errorf("log level %q: error, warn, info and debug exist: %w", s.LogLevel, containerizer.ErrInvalid)
}
