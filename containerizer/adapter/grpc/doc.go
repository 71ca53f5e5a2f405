// Package grpc serves the native API of berth, berth.v1 (proto/berth/v1), over the
// contracts of package containerizer: it translates and holds no state of its own.
//
// Engine, image store and artifacts are given; [Server.Register] adds the services to
// a server whose interceptors are [UnaryErrors] and [StreamErrors]. Package client is
// the other side.
package grpc
