package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// caller is who is at the other end of a connection.
type caller struct {
	credentials.CommonAuthInfo
	unix.Ucred // of a process of this machine

	name     string // of a client with a certificate
	readOnly bool
}

// AuthType implements [credentials.AuthInfo].
func (c caller) AuthType() string {
	if c.SecurityLevel != credentials.PrivacyAndIntegrity || c.name != "" {
		return "tcp"
	}
	return "peercred"
}

// peerCredentials asks the kernel who connects to a socket (unix(7), SO_PEERCRED), and
// others for their certificate.
type peerCredentials struct {
	sockets     map[string]*socket
	remotes     *remotes // nil is none
	connections *connections
}

// ClientHandshake implements [credentials.TransportCredentials].
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these are credentials of a server")
}

// ServerHandshake implements [credentials.TransportCredentials].
func (p peerCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if u, is := c.(*net.UnixConn); is {
		info, err := p.local(u)
		if err != nil {
			return nil, nil, err
		}
		c, err = p.connections.take(fmt.Sprintf("user %d at %s", info.Uid, u.LocalAddr()), c)
		return c, info, err
	}
	if p.remotes == nil {
		return nil, nil, fmt.Errorf("%s is no connection of this node", c.RemoteAddr())
	}
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		return nil, nil, err
	}
	// It counts from now on: handshakes are work, too.
	held, err := p.connections.take(host, c)
	if err != nil {
		return nil, nil, err
	}
	conn, info, err := p.remotes.handshake(held)
	if err != nil {
		_ = held.Close() // it may be closed
		return nil, nil, fmt.Errorf("%s: %w", host, err)
	}
	return conn, info, nil
}

// local finds out which process of this machine connects.
func (p peerCredentials) local(c *net.UnixConn) (info caller, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return info, err
	}
	info = caller{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, readOnly: true}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(cerr, err); err != nil {
		return info, fmt.Errorf("ask who connects: %w", err)
	}
	info.Ucred = *cred
	s := p.sockets[c.LocalAddr().String()]
	if s == nil { // made aside and renamed: the kernel knows the first name
		s = p.sockets[trimNew(c.LocalAddr().String())]
	}
	if s == nil {
		return info, fmt.Errorf("socket %s is not ours", c.LocalAddr())
	}
	info.readOnly = s.readOnly
	if info.Uid != 0 && s.group == "" { // the mode of the file says so, too
		return info, fmt.Errorf("process %d of user %d may not use socket %s", info.Pid, info.Uid, s.path)
	}
	return info, nil
}

func trimNew(path string) string {
	if n := len(path) - len(".new"); n > 0 && path[n:] == ".new" {
		return path[:n]
	}
	return path
}

// Info implements [credentials.TransportCredentials].
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peercred"}
}

// Clone implements [credentials.TransportCredentials].
func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

// OverrideServerName implements [credentials.TransportCredentials].
func (peerCredentials) OverrideServerName(string) error { return nil }

// readOnlyMethods are those that change nothing and show no secret.
func readOnlyMethods() map[string]bool {
	return map[string]bool{
		"/berth.v1.ContainersService/Wait": true, "/berth.v1.ContainersService/List": true,
		"/berth.v1.ContainersService/Get": true, "/berth.v1.ContainersService/Resolve": true,
		"/berth.v1.ContainersService/Usage": true, "/berth.v1.ContainersService/Processes": true,
		"/berth.v1.ContainersService/Events":                             true,
		"/berth.v1.ImagesService/ListImages":                             true,
		"/berth.v1.ImagesService/InspectImage":                           true,
		"/berth.v1.ImagesService/StoreUsage":                             true,
		"/berth.v1.ArtifactsService/CacheUsage":                          true,
		"/berth.v1.SystemService/Info":                                   true,
		"/grpc.health.v1.Health/Check":                                   true,
		"/grpc.health.v1.Health/List":                                    true,
		"/grpc.health.v1.Health/Watch":                                   true,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      true,
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": true,
	}
}

// guard lets callers of read-only sockets read. It has the methods for that.
type guard struct{ reading map[string]bool }

func (g guard) check(ctx context.Context, method string) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return status.Error(codes.Unauthenticated, "nobody knows who calls")
	}
	c, is := p.AuthInfo.(caller)
	if !is {
		return status.Error(codes.Unauthenticated, "nobody knows who calls")
	}
	if c.readOnly && !g.reading[method] {
		return status.Errorf(codes.PermissionDenied, "%s changes something; this socket is for reading", method)
	}
	return nil
}

func (g guard) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if err := g.check(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

func (g guard) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if err := g.check(stream.Context(), info.FullMethod); err != nil {
		return err
	}
	return handle(server, stream)
}
