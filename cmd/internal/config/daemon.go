package config

import (
	"fmt"
	"path/filepath"
)

// Daemon says how berthd is reached, and how it tells what it does.
type Daemon struct {
	// Socket is the path of the API; "" is berth.sock in State, which `berth` looks for.
	// ReadOnlySocket serves only what changes nothing; "" is none.
	Socket         string `toml:"socket"`
	ReadOnlySocket string `toml:"read_only_socket"`
	// Group may use the socket, ReadOnlyGroup the other one, besides root; "" is nobody.
	// Who may use the first one is as good as root.
	Group         string `toml:"group"`
	ReadOnlyGroup string `toml:"read_only_group"`
	// DebugSocket is the path at which metrics (/metrics) and profiles (/debug/pprof/)
	// are served over HTTP, for root; "" is none.
	DebugSocket string `toml:"debug_socket"`
	// LogLevel is "error", "warn", "info" or "debug"; "" is "info". LogFormat is "json"
	// or "text"; "" is "json".
	LogLevel  string `toml:"log_level"`
	LogFormat string `toml:"log_format"`
	// MemoryLimit ("256m") bounds the daemon's own memory, as far as it can do with less;
	// "" is no bound. MaxCalls bounds the calls in progress, over all connections; 0 is
	// 10000.
	MemoryLimit string `toml:"memory_limit"`
	MaxCalls    int    `toml:"max_calls"`
}

func (d *Daemon) check() error {
	for _, p := range []struct{ key, path string }{
		{"socket", d.Socket}, {"read_only_socket", d.ReadOnlySocket}, {"debug_socket", d.DebugSocket},
	} {
		if p.path != "" && !filepath.IsAbs(p.path) {
			return fmt.Errorf("daemon.%s = %q is not an absolute path", p.key, p.path)
		}
	}
	if _, _, err := d.Limits(); err != nil {
		return err
	}
	switch d.LogLevel {
	case "", "error", "warn", "info", "debug":
	default:
		return fmt.Errorf("daemon.log_level = %q: error, warn, info and debug exist", d.LogLevel)
	}
	switch d.LogFormat {
	case "", "json", "text":
	default:
		return fmt.Errorf("daemon.log_format = %q: json and text exist", d.LogFormat)
	}
	return nil
}

// Socket is where the daemon listens that serves state, whether or not it runs.
func (c *Config) Socket(state string) string {
	if c.Daemon.Socket != "" {
		return c.Daemon.Socket
	}
	return filepath.Join(state, "berth.sock")
}
