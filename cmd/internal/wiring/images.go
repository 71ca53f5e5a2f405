package wiring

import (
	"context"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner"
)

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
	var err error
	n.images, err = provisioner.New(ImageRoot(n.cfg), n.parts.Fetcher(n.cfg), provisioner.Options{
		UnpackCommand: n.parts.Unpack,
		Log:           n.logger("provisioner"),
	})
	return n.images, err
}
