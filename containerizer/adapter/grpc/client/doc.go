// Package client is berth's engine, image store and artifacts on the other side of a
// socket: it implements the contracts of package containerizer over berth.v1.
//
// A call's context bounds the waiting; what the call has begun goes on in the daemon,
// as the contracts say. Errors have the classes that the daemon gave them.
package client
