package containerizer

import "context"

// Tracer hears what an engine and its launcher do, and how long that takes.
type Tracer interface {
	// Span begins a part of what ctx is about: what is done for container id, of a kind
	// such as "launch", "isolator", "provision" or "program", and by or to whom, such as
	// the isolator's name, "" for nobody in particular. Parts of it get the context that
	// is returned; end is called once. It must return quickly, and never fails.
	Span(ctx context.Context, id ContainerID, kind, name string) (inner context.Context, end func(error))
}

// Span is t.Span; without a tracer it costs nothing.
func Span(ctx context.Context, t Tracer, id ContainerID, kind, name string) (inner context.Context, end func(error)) {
	if t == nil {
		return ctx, unheard
	}
	return t.Span(ctx, id, kind, name)
}

func unheard(error) {}
