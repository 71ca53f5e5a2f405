package manifest

import (
	"encoding/json"
	"fmt"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Config verifies raw against the manifest's configuration descriptor and reads
// it. Its diffIDs are as many as the manifest's layers.
func Config(m *v1.Manifest, raw []byte) (*v1.Image, error) {
	c, err := config(m, raw)
	if err != nil {
		return nil, fmt.Errorf("image configuration %s: %w", m.Config.Digest, err)
	}
	return c, nil
}

func config(m *v1.Manifest, raw []byte) (*v1.Image, error) {
	if len(raw) > MaxConfigBytes {
		return nil, invalid("it has more than %d bytes", MaxConfigBytes)
	}
	if err := Verify(m.Config, raw); err != nil {
		return nil, err
	}
	var c v1.Image
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, invalid("parse: %v", err)
	}
	if c.RootFS.Type != "layers" {
		return nil, unsupported("it describes no image to run (its rootfs has the type %q)", c.RootFS.Type)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, invalid("it has %d diffIDs for %d layers", len(c.RootFS.DiffIDs), len(m.Layers))
	}
	for _, d := range c.RootFS.DiffIDs {
		if err := CheckDigest(d); err != nil {
			return nil, err
		}
		if d.Algorithm() != "sha256" {
			return nil, unsupported("diffID %s: only sha256 is supported there", d)
		}
	}
	return &c, nil
}
