package containerizer_test

import (
	"testing"

	"github.com/berth-dev/berth/containerizer"
)

// TestSpanOfNobody: without a tracer a span costs nothing.
func TestSpanOfNobody(t *testing.T) {
	ctx := t.Context()
	allocs := testing.AllocsPerRun(100, func() {
		inner, end := containerizer.Span(ctx, nil, "c", "isolator", "cgroups")
		if inner != ctx {
			t.Fatal("another context")
		}
		end(nil)
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}
