package wiring

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher"
	"github.com/berth-dev/berth/fetcher/registry"
	"github.com/berth-dev/berth/provisioner"
)

// UnpackChild is the first argument of a berth that unpacks one layer, confined.
// Such a process does nothing else.
const UnpackChild = "unpack-child"

// Images returns the image store.
func (n *Node) Images(context.Context) (containerizer.Images, error) {
	p, err := n.provisioner()
	if err != nil { // a nil *Provisioner must not become a non-nil interface
		return nil, err
	}
	return p, nil
}

// provisioner makes the image store with its fetcher. Neither does any I/O yet.
func (n *Node) provisioner() (*provisioner.Provisioner, error) {
	if n.images != nil {
		return n.images, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the path of berth: %w", err)
	}
	root := filepath.Join(n.cfg.Root, "images")
	f := fetcher.New(fetcher.Options{
		Registry: registry.Options{Insecure: n.cfg.Registries.Insecure},
		TempDir:  filepath.Join(root, "stage"), // archives can be larger than /tmp
	})
	n.images, err = provisioner.New(root, f, provisioner.Options{
		UnpackCommand: []string{self, UnpackChild},
		Log:           n.logger("provisioner"),
	})
	return n.images, err
}
