package config

import (
	"fmt"
	"net"
	"path/filepath"
)

// CRI says how a kubelet reaches berthd.
type CRI struct {
	// Socket is the path at which the Container Runtime Interface is served; "" is not at
	// all. Who may use it is as good as root: it is for root only.
	Socket string `toml:"socket"`
	// Network is the name of the network that pods join; "" is the first one that is
	// configured in network.conf_dir, and berth's own if there is none.
	Network string `toml:"network"`
	// StreamAddress, as HOST:PORT, is where exec, attach and port forwarding are served to
	// the kubelet; "" is a free port of 127.0.0.1.
	StreamAddress string `toml:"stream_address"`
}

func (c *CRI) check() error {
	if c.Socket != "" && !filepath.IsAbs(c.Socket) {
		return fmt.Errorf("cri.socket = %q is not an absolute path", c.Socket)
	}
	if c.StreamAddress != "" {
		if _, _, err := net.SplitHostPort(c.StreamAddress); err != nil {
			return fmt.Errorf("cri.stream_address = %q: %w", c.StreamAddress, err)
		}
	}
	return nil
}
