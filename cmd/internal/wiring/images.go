package wiring

import (
	"context"
	"fmt"

	"github.com/berth-dev/berth/cmd/internal/config"
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
	high, low, age, err := n.cfg.Images.Pressure()
	if err != nil {
		return nil, err
	}
	n.images, err = provisioner.New(ImageRoot(n.cfg), n.parts.Fetcher(n.cfg), provisioner.Options{
		UnpackCommand: n.parts.Unpack,
		Parallel:      n.cfg.Pull.Layers,
		Trust:         provisioner.Trust{Policy: n.cfg.Trust.Policy, Defaults: config.PolicyPaths(), Verifier: n.parts.Verifier},
		Pressure:      provisioner.Pressure{High: high, Low: low, MinAge: age, Relieved: n.parts.OnRelieved},
		Log:           n.logger("provisioner"),
	})
	return n.images, err
}

// Login keeps credentials for a registry.
func (n *Node) Login(ctx context.Context, registry string, auth containerizer.RegistryAuth) (where string, err error) {
	a, err := n.accounts()
	if err != nil {
		return "", err
	}
	return a.Login(ctx, registry, auth)
}

// Logout forgets them.
func (n *Node) Logout(ctx context.Context, registry string) (found bool, err error) {
	a, err := n.accounts()
	if err != nil {
		return false, err
	}
	return a.Logout(ctx, registry)
}

func (n *Node) accounts() (Accounts, error) {
	if n.parts.Accounts == nil {
		return nil, fmt.Errorf("this program speaks to no registry: %w", containerizer.ErrUnsupported)
	}
	return n.parts.Accounts(n.cfg), nil
}
