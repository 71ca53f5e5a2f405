package isolatortest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// testOptional checks what the optional interfaces promise of a container that
// has no process, prepared and unknown.
func (s *suite) testOptional(t *testing.T) {
	t.Helper()
	iso, f := s.cfg.New(t), s.container(t)
	f.Launch = s.mustPrepare(t, iso, f)
	stranger := NewContainer(t, s.cfg.Spec()).Container

	if r, is := iso.(containerizer.UsageReporter); is {
		var u containerizer.Usage
		if err := r.Usage(t.Context(), f.Container, &u); err != nil {
			t.Errorf("Usage of a prepared container = %v", err)
		}
		_ = r.Usage(t.Context(), stranger, &u) // an error or nothing, but no panic
	}
	if r, is := iso.(containerizer.StatusReporter); is {
		var st containerizer.Status
		if err := r.Status(t.Context(), f.Container, &st); err != nil {
			t.Errorf("Status of a prepared container = %v", err)
		}
		_ = r.Status(t.Context(), stranger, &st) // an error or nothing, but no panic
	}
	if fr, is := iso.(containerizer.Freezer); is {
		testFreezer(t, fr, f.Container, stranger)
	}
	if w, is := iso.(containerizer.Watcher); is {
		testWatcher(t, w, f.Container)
	}
	if u, is := iso.(containerizer.Updater); is {
		if err := u.Update(t.Context(), f.Container, &containerizer.Resources{}); err != nil {
			t.Errorf("Update that changes nothing = %v", err)
		}
	}
	s.mustClean(t, iso, f.Container)
}

func testFreezer(t *testing.T, fr containerizer.Freezer, c, stranger *containerizer.Container) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	for _, c := range []*containerizer.Container{c, stranger} {
		if err := fr.KillAll(ctx, c); err != nil {
			t.Errorf("KillAll(%s) without processes = %v", c.ID, err)
		}
	}
	if pids, err := fr.Processes(ctx, c); err != nil || len(pids) > 0 {
		t.Errorf("Processes() = %v, %v; want none", pids, err)
	}
	if err := errors.Join(fr.Freeze(ctx, c), fr.Thaw(ctx, c), fr.Thaw(ctx, c)); err != nil {
		t.Errorf("Freeze, Thaw, Thaw without processes = %v", err)
	}
}

func testWatcher(t *testing.T, w containerizer.Watcher, c *containerizer.Container) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	type result struct {
		limitation *containerizer.Limitation
		err        error
	}
	done := make(chan result, 1)
	go func() {
		l, err := w.Watch(ctx, c)
		done <- result{l, err}
	}()
	cancel()
	select {
	case r := <-done:
		if r.limitation != nil || r.err != nil && !errors.Is(r.err, context.Canceled) {
			t.Errorf("Watch() after cancel = %v, %v; want nil, and nil or context.Canceled", r.limitation, r.err)
		}
	case <-time.After(callTimeout):
		t.Error("Watch does not return when its context ends")
	}
}
