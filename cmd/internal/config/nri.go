package config

import (
	"fmt"
	"time"
)

// NRI says how berthd speaks with plug-ins of the Node Resource Interface. Keys and
// defaults are containerd's, but for Enable: berthd may run beside a containerd, whose
// socket it would be.
type NRI struct {
	Enable bool `toml:"enable"`
	// SocketPath is where plug-ins connect, unless DisableConnections; PluginPath holds
	// those to be started, PluginConfigPath their configurations.
	SocketPath         string `toml:"socket_path"`
	PluginPath         string `toml:"plugin_path"`
	PluginConfigPath   string `toml:"plugin_config_path"`
	DisableConnections bool   `toml:"disable_connections"`
	// How long plug-ins may take ("5s", "2s"); who is later is disconnected.
	PluginRegistrationTimeout string `toml:"plugin_registration_timeout"`
	PluginRequestTimeout      string `toml:"plugin_request_timeout"`
}

// Timeouts reads both; 0 is the default.
func (n *NRI) Timeouts() (registration, request time.Duration, err error) {
	for _, t := range []struct {
		key, text string
		to        *time.Duration
	}{
		{"plugin_registration_timeout", n.PluginRegistrationTimeout, &registration},
		{"plugin_request_timeout", n.PluginRequestTimeout, &request},
	} {
		if t.text == "" {
			continue
		}
		if *t.to, err = time.ParseDuration(t.text); err != nil || *t.to <= 0 {
			return 0, 0, fmt.Errorf("nri.%s = %q is not a time such as 2s", t.key, t.text)
		}
	}
	return registration, request, nil
}
