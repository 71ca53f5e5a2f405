// Package remote makes the node that commands work on out of a daemon's socket.
package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/berth-dev/berth/cmd/berth/cli"
	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/client"
)

// Node is a node behind a daemon. It implements [cli.Node].
type Node struct{ client *client.Client }

var (
	_ cli.Node   = (*Node)(nil)
	_ cli.Remote = (*Node)(nil)
)

// New returns the node of the daemon at target: "unix:///PATH" or "tcp://HOST:PORT", the
// latter over files unless there are none.
func New(target string, files cli.TLS) (*Node, error) {
	var secure credentials.TransportCredentials
	if address, is := strings.CutPrefix(target, "tcp://"); is {
		target = "dns:///" + address
		if files.CA != "" {
			var err error
			if secure, err = load(files); err != nil {
				return nil, err
			}
		}
	}
	c, err := client.New(target, secure)
	if err != nil {
		return nil, err
	}
	return &Node{c}, nil
}

// load reads the files with which both ends say who they are.
func load(files cli.TLS) (credentials.TransportCredentials, error) {
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %q with key %q: %w: %w", files.Cert, files.Key, err, containerizer.ErrInvalid)
	}
	pem, err := os.ReadFile(files.CA)
	if err != nil {
		return nil, fmt.Errorf("authorities of berthd: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate is in %q: %w", files.CA, containerizer.ErrInvalid)
	}
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: authorities}), nil
}

// Daemon implements [cli.Remote].
func (n *Node) Daemon(ctx context.Context) (*cli.Daemon, error) {
	info, err := n.client.Info(ctx)
	if err != nil {
		return nil, err
	}
	d := &cli.Daemon{
		About: fmt.Sprintf("berthd %s (process %d, since %s)", info.GetVersion(), info.GetPid(), info.GetStartedAt().AsTime().Format(time.RFC3339)),
	}
	for _, c := range info.GetConditions() {
		d.Conditions = append(d.Conditions, cli.Condition{Name: c.GetName(), Active: c.GetActive(), Since: c.GetSince().AsTime(), Message: c.GetMessage()})
	}
	return d, nil
}

// Expect is nothing to a daemon, whose monitors start faster than we could say so.
func (*Node) Expect(containerizer.ContainerID) {}

// Engine returns the daemon's engine.
func (n *Node) Engine(context.Context) (containerizer.Engine, error) {
	return engine{n.client.Containers}, nil
}

// Images returns the daemon's store.
func (n *Node) Images(context.Context) (containerizer.Images, error) {
	return images{n.client.Images}, nil
}

// Artifacts returns the daemon's fetcher.
func (n *Node) Artifacts(context.Context) (containerizer.Artifacts, error) {
	return n.client.Artifacts, nil
}

// Program returns what a launch of spec would do.
func (n *Node) Program(ctx context.Context, id containerizer.ContainerID, spec *containerizer.Spec) (string, error) {
	return n.client.Containers.Program(ctx, id, spec)
}

// Login is not a daemon's to do: commands that log in have themselves done here.
func (*Node) Login(context.Context, string, containerizer.RegistryAuth) (string, error) {
	return "", errHere()
}

// Logout is not a daemon's to do.
func (*Node) Logout(context.Context, string) (bool, error) { return false, errHere() }

func errHere() error {
	return fmt.Errorf("credentials are the user's, not the daemon's: %w", containerizer.ErrUnsupported)
}

// Sweep leaves it to the daemon, which does it by itself.
func (*Node) Sweep(context.Context) error { return nil }

// SweepBriefly leaves it to the daemon, too.
func (*Node) SweepBriefly(context.Context) error { return nil }

// Close gives up the connection.
func (n *Node) Close() error { return n.client.Close() }
