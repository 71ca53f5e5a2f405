package store

import (
	"os"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestFlushOfAnother has a layer replaced while a flush writes to disk: what was
// written was the other one, so the new one is not durable, and waits for the next.
func TestFlushOfAnother(t *testing.T) {
	s := New(t.TempDir())
	if err := s.Init(); err != nil {
		t.Fatal(err)
	}
	name := digest.FromString("x").Encoded()
	commit := func() {
		t.Helper()
		lease, err := s.NewLease(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		stage, err := lease.Stage()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(stage+"/fs", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := s.CommitLayer(stage, &Layer{Name: name}); err != nil {
			t.Fatal(err)
		}
		if err := lease.Release(); err != nil {
			t.Fatal(err)
		}
	}
	commit()
	before := s.pendingRecord("layer-" + name)
	if err := s.RemoveLayer(name); err != nil {
		t.Fatal(err)
	}
	commit()
	if err := s.flushOne(t.Context(), "layer-", name, before); err != nil {
		t.Fatal(err)
	}
	l, err := s.Layer(name)
	if err != nil || l.Durable || !s.AwaitsList(name) {
		t.Errorf("after the flush of another layer: %+v, %v", l, err)
	}
	// A marker of nothing goes, unless there is something after all.
	if err := s.flushOne(t.Context(), "layer-", digest.FromString("y").Encoded(), identity{}); err != nil {
		t.Error(err)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l, err = s.Layer(name); err != nil || !l.Durable || !s.AwaitsList(name) {
		t.Errorf("after a flush: %+v, %v", l, err)
	}
}
