package launcher

import (
	"slices"
	"testing"
)

func TestOverride(t *testing.T) {
	t.Parallel()
	got := override([]string{"A=1", "AB=2", "C=3"}, []string{"A=secret", "D="})
	if want := []string{"AB=2", "C=3", "A=secret", "D="}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
