// Package tracing sends what a daemon does to a collector, as OpenTelemetry traces over
// OTLP (gRPC). It is linked into berthd only: the engine and the launcher know no more
// than [containerizer.Tracer].
//
// Spans are handed over in the background and dropped when the collector does not take
// them: one that is dead, or hangs, delays nothing but, by a second at most, the end of
// the daemon.
package tracing
