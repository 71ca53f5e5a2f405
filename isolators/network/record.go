package network

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/berth-dev/berth/containerizer"
)

// record is the attachment file of a container: all that leaving its networks
// takes. It is written before anything of it is acquired.
type record struct {
	ID       containerizer.ContainerID   `json:"id"`
	Ports    []containerizer.PortMapping `json:"ports,omitempty"`
	Networks []attachment                `json:"networks,omitempty"`
}

// attachment is one network of a container.
type attachment struct {
	Name   string `json:"name"`
	IfName string `json:"ifName"`
	// Config is the configuration list used, so that DEL sees the same as ADD.
	Config       json.RawMessage `json:"config"`
	Args         [][2]string     `json:"args,omitempty"`
	Capabilities map[string]any  `json:"capabilities,omitempty"`
	Aliases      []string        `json:"aliases,omitempty"`
	// Status and DNS are what ADD gave; empty before.
	Status containerizer.NetworkStatus `json:"status,omitzero"`
	DNS    types.DNS                   `json:"dns,omitzero"`
}

// gateway is the first address of a gateway, "" when there is none.
func (r *record) gateway() string {
	for _, a := range r.Networks {
		if len(a.Status.Gateways) > 0 {
			return a.Status.Gateways[0]
		}
	}
	return ""
}

// dns are the settings of the first network that has DNS servers.
func (r *record) dns() types.DNS {
	for _, a := range r.Networks {
		if len(a.DNS.Nameservers) > 0 {
			return a.DNS
		}
	}
	return types.DNS{}
}

func (i *Isolator) recordDir() string { return filepath.Join(i.opts.RootDir, "network", "attachments") }

func (i *Isolator) recordPath(id containerizer.ContainerID) string {
	return filepath.Join(i.recordDir(), fileName(id)+".json")
}

// load returns the record of id, an empty one when there is none.
func (i *Isolator) load(id containerizer.ContainerID) (*record, error) {
	r := &record{ID: id}
	b, err := os.ReadFile(i.recordPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("read attachments: %w", err)
	}
	if err := json.Unmarshal(b, r); err != nil {
		return &record{ID: id}, fmt.Errorf("read attachments %q: %w: %w", i.recordPath(id), err, containerizer.ErrDataCorrupt)
	}
	return r, nil
}

// save replaces the record in one step. It is not synced: after a power cut there
// is nothing to leave that a reboot has not ended, but for plug-ins with a store
// of their own on disk, which is as old then.
func (i *Isolator) save(r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode attachments: %w", err)
	}
	path := i.recordPath(r.ID)
	err = os.WriteFile(path+".new", b, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(i.recordDir(), 0o700); err != nil {
			return fmt.Errorf("make the folder of attachments: %w", err)
		}
		err = os.WriteFile(path+".new", b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write attachments: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write attachments: %w", err)
	}
	return nil
}

// forget removes the record of id.
func (i *Isolator) forget(id containerizer.ContainerID) error {
	for _, path := range []string{i.recordPath(id) + ".new", i.recordPath(id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove attachments: %w", err)
		}
	}
	return nil
}

// maxFileName leaves room for suffixes within NAME_MAX.
const maxFileName = 200

// fileName is id, or its hash where it is too long for a file's name.
func fileName(id containerizer.ContainerID) string {
	if len(id) <= maxFileName && id != "" && id[0] != '.' {
		return string(id)
	}
	return hashed(id)
}

func hashed(id containerizer.ContainerID) string {
	sum := sha256.Sum256([]byte(id))
	return "id-" + hex.EncodeToString(sum[:])
}

// cniID is id as CNI wants it (SPEC.md, "Parameters": CNI_CONTAINERID).
func cniID(id containerizer.ContainerID) string {
	if len(id) <= maxFileName && cniIDPattern(string(id)) {
		return string(id)
	}
	return hashed(id)
}

func cniIDPattern(s string) bool {
	for n, r := range s {
		letter := (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9')
		if !letter && (n == 0 || (r != '_' && r != '.' && r != '-')) {
			return false
		}
	}
	return s != ""
}
