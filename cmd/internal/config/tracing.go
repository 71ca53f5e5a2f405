package config

import (
	"fmt"
	"net"
)

// Tracing says where berthd sends traces of what it does.
type Tracing struct {
	// Endpoint is the "HOST:PORT" of a collector that takes OTLP over gRPC; "" sends
	// nothing.
	Endpoint string `toml:"endpoint"`
	// Insecure does without TLS.
	Insecure bool `toml:"insecure"`
	// SampleRatio is the share of calls that are traced, from 0 to 1; nil is all. What a
	// client traces is traced here, too.
	SampleRatio *float64 `toml:"sample_ratio"`
	// ServiceName is what the traces call us; "" is berthd.
	ServiceName string `toml:"service_name"`
}

func (t *Tracing) check() error {
	if t.Endpoint != "" {
		if host, port, err := net.SplitHostPort(t.Endpoint); err != nil || host == "" || port == "" {
			return fmt.Errorf("tracing.endpoint = %q is not HOST:PORT", t.Endpoint)
		}
	}
	if r := t.SampleRatio; r != nil && (*r < 0 || *r > 1) {
		return fmt.Errorf("tracing.sample_ratio = %v is not between 0 and 1", *r)
	}
	return nil
}
