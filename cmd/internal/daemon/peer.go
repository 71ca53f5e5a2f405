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
	unix.Ucred

	readOnly bool
}

// AuthType implements [credentials.AuthInfo].
func (caller) AuthType() string { return "peercred" }

// peerCredentials asks the kernel who connects to a socket (unix(7), SO_PEERCRED).
type peerCredentials struct{ sockets map[string]*socket }

// ClientHandshake implements [credentials.TransportCredentials].
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these are credentials of a server")
}

// ServerHandshake implements [credentials.TransportCredentials].
func (p peerCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	u, is := c.(*net.UnixConn)
	if !is {
		return nil, nil, fmt.Errorf("%s is no connection of this node", c.RemoteAddr())
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	info := caller{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, readOnly: true}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(cerr, err); err != nil {
		return nil, nil, fmt.Errorf("ask who connects: %w", err)
	}
	info.Ucred = *cred
	s := p.sockets[c.LocalAddr().String()]
	if s == nil { // made aside and renamed: the kernel knows the first name
		s = p.sockets[trimNew(c.LocalAddr().String())]
	}
	if s == nil {
		return nil, nil, fmt.Errorf("socket %s is not ours", c.LocalAddr())
	}
	info.readOnly = s.readOnly
	if info.Uid != 0 && s.group == "" { // the mode of the file says so, too
		return nil, nil, fmt.Errorf("process %d of user %d may not use socket %s", info.Pid, info.Uid, s.path)
	}
	return c, info, nil
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
