package isolatortest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
)

// callTimeout bounds each call of the isolator; one that needs longer hangs.
const callTimeout = 2 * time.Minute

// Run checks the isolator of cfg against the contract.
func Run(t *testing.T, cfg Config) {
	t.Helper()
	s := &suite{cfg: cfg}
	for _, c := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"name", s.testName},
		{"prepare and cleanup", s.testRoundTrip},
		{"prepare leaves its arguments alone", s.testReadOnly},
		{"cleanup after damage by another process", s.testDamaged},
		{"cleanup of a stranger", s.testStranger},
		{"cleanup after a failing prepare", s.testFailing},
		{"cleanup after a cancelled prepare", s.testCancelled},
		{"refused specs", s.testRefused},
		{"child", s.testChild},
		{"parallel containers", s.testParallel},
		{"recover", s.testRecover},
		{"optional interfaces", s.testOptional},
		{"no growth", s.testNoGrowth},
	} {
		t.Run(c.name, c.run)
	}
}

type suite struct{ cfg Config }

func (s *suite) container(t *testing.T) *Fixture {
	t.Helper()
	return s.fill(t, NewContainer(t, s.cfg.Spec()))
}

func (s *suite) fill(t *testing.T, f *Fixture) *Fixture {
	t.Helper()
	if s.cfg.Fill != nil {
		s.cfg.Fill(t, f.Container)
	}
	iso := s.cfg.New(t)
	t.Cleanup(func() { // whatever the test found, the node stays clean
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), callTimeout)
		defer cancel()
		_ = iso.Cleanup(ctx, f.Container) // the tests themselves check Cleanup
	})
	return f
}

func (s *suite) leftovers(t *testing.T, id containerizer.ContainerID) []string {
	t.Helper()
	if s.cfg.Leftovers == nil {
		return nil
	}
	return s.cfg.Leftovers(t, id)
}

// mustPrepare prepares f and checks what a LaunchInfo promises.
func (s *suite) mustPrepare(t *testing.T, iso containerizer.Isolator, f *Fixture) *containerizer.LaunchInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	info, err := iso.Prepare(ctx, f.Container)
	if err != nil {
		t.Fatalf("Prepare(%s) = %v", f.ID, err)
	}
	if _, err := containerizer.MergeLaunchInfo([]containerizer.Contribution{{Isolator: iso.Name(), Info: info}}); err != nil {
		t.Fatalf("the launch information of %s conflicts with itself: %v", f.ID, err)
	}
	if s.cfg.Acquires && len(s.leftovers(t, f.ID)) == 0 {
		t.Fatalf("Prepare(%s) made nothing that Leftovers sees", f.ID)
	}
	return info
}

// mustClean cleans c up and checks that nothing of it is left.
func (s *suite) mustClean(t *testing.T, iso containerizer.Isolator, c *containerizer.Container) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	if err := iso.Cleanup(ctx, c); err != nil {
		t.Fatalf("Cleanup(%s) = %v", c.ID, err)
	}
	s.mustBeGone(t, c)
}

func (s *suite) mustBeGone(t *testing.T, c *containerizer.Container) {
	t.Helper()
	if got := s.leftovers(t, c.ID); len(got) > 0 {
		t.Fatalf("left of %s after Cleanup: %q", c.ID, got)
	}
	if got := c.Ledger.(*Ledger).All(); len(got) > 0 {
		t.Fatalf("ledger of %s after Cleanup holds %q", c.ID, got)
	}
}

func (s *suite) testName(t *testing.T) {
	t.Helper()
	a, b := s.cfg.New(t).Name(), s.cfg.New(t).Name()
	if a == "" || a != b {
		t.Fatalf("Name() = %q, then %q; want one constant name", a, b)
	}
}

func (s *suite) testRoundTrip(t *testing.T) {
	t.Helper()
	mounts := mountTable(t)
	iso, f := s.cfg.New(t), s.container(t)
	for range 2 { // the second round is a restart of the container
		s.mustPrepare(t, iso, f)
		s.mustClean(t, iso, f.Container)
		s.mustClean(t, iso, f.Container)
	}
	if diff := cmp.Diff(mounts, mountTable(t)); diff != "" {
		t.Errorf("the mount table of the host changed (-before +after):\n%s", diff)
	}
}

func (s *suite) testReadOnly(t *testing.T) {
	t.Helper()
	iso, f := s.cfg.New(t), s.container(t)
	spec, launch := mustJSON(t, f.Spec), mustJSON(t, f.Launch)
	info := s.mustPrepare(t, iso, f)
	if diff := cmp.Diff(spec, mustJSON(t, f.Spec)); diff != "" {
		t.Errorf("Prepare changed Container.Spec (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(launch, mustJSON(t, f.Launch)); diff != "" {
		t.Errorf("Prepare changed Container.Launch (-before +after):\n%s", diff)
	}
	var again containerizer.LaunchInfo // it is persisted for exec
	fromJSON(t, mustJSON(t, info), &again)
	if info != nil {
		if diff := cmp.Diff(mustJSON(t, info), mustJSON(t, &again)); diff != "" {
			t.Errorf("the launch information does not survive JSON (-before +after):\n%s", diff)
		}
	}
	s.mustClean(t, iso, f.Container)
}

func (s *suite) testDamaged(t *testing.T) {
	t.Helper()
	f := s.container(t)
	s.mustPrepare(t, s.cfg.New(t), f)
	s.mustClean(t, s.cfg.New(t), f.Damaged())
	s.mustClean(t, s.cfg.New(t), f.Container)
}

func (s *suite) testStranger(t *testing.T) {
	t.Helper()
	iso, known := s.cfg.New(t), s.container(t)
	s.mustPrepare(t, iso, known)
	before := s.leftovers(t, known.ID)

	stranger := NewContainer(t, nil).Damaged()
	stranger.Dir += "-missing"
	s.mustClean(t, iso, stranger)
	s.mustClean(t, s.cfg.New(t), stranger)

	if diff := cmp.Diff(before, s.leftovers(t, known.ID)); diff != "" {
		t.Errorf("Cleanup of a stranger changed container %s (-before +after):\n%s", known.ID, diff)
	}
	s.mustClean(t, iso, known.Container)
}

// testFailing spoils each acquisition of Prepare in turn, in every way.
func (s *suite) testFailing(t *testing.T) {
	t.Helper()
	probe := s.container(t)
	s.mustPrepare(t, s.cfg.New(t), probe)
	n := probe.Ledger.Acquisitions()
	s.mustClean(t, s.cfg.New(t), probe.Container)
	if s.cfg.Acquires && n == 0 {
		t.Fatal("Prepare made something and recorded no acquisition")
	}

	for name, fault := range map[string]Fault{"refused": FaultRefuse, "after the record": FaultAfterRecord, "crash": FaultCrash} {
		for at := 1; at <= n; at++ {
			t.Run(fmt.Sprintf("%s at %d of %d", name, at, n), func(t *testing.T) {
				f := s.container(t)
				f.Ledger.FailAt(at, fault)
				if err := prepareCrashing(t, s.cfg.New(t), f); err == nil {
					t.Errorf("Prepare succeeded although the ledger failed")
				}
				f.Ledger.FailAt(0, 0)
				next := s.cfg.New(t)
				s.mustClean(t, next, f.Damaged())
				s.mustPrepare(t, next, f)
				s.mustClean(t, next, f.Container)
			})
		}
	}
}

// prepareCrashing is Prepare with the panic of FaultCrash as an error.
func prepareCrashing(t *testing.T, iso containerizer.Isolator, f *Fixture) (err error) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			if e, is := r.(error); !is || !errors.Is(e, ErrCrash) {
				panic(r)
			}
			err = ErrCrash
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	_, err = iso.Prepare(ctx, f.Container)
	return err
}

func (s *suite) testCancelled(t *testing.T) {
	t.Helper()
	iso, f := s.cfg.New(t), s.container(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = iso.Prepare(ctx, f.Container) // quick ones may succeed
	_ = iso.Cleanup(ctx, f.Container)    // and so may this
	s.mustClean(t, iso, f.Container)
}

func (s *suite) testRefused(t *testing.T) {
	t.Helper()
	for name, spec := range s.cfg.Refused {
		t.Run(name, func(t *testing.T) {
			iso, f := s.cfg.New(t), s.fill(t, NewContainer(t, spec()))
			_, err := iso.Prepare(t.Context(), f.Container)
			if !errors.Is(err, containerizer.ErrInvalid) && !errors.Is(err, containerizer.ErrUnsupported) {
				t.Errorf("Prepare() = %v, want ErrInvalid or ErrUnsupported", err)
			}
			s.mustClean(t, iso, f.Container)
		})
	}
}

func (s *suite) testChild(t *testing.T) {
	t.Helper()
	if s.cfg.ChildSpec == nil {
		return
	}
	iso, parent := s.cfg.New(t), s.container(t)
	parent.Launch = s.mustPrepare(t, iso, parent)
	before := s.leftovers(t, parent.ID)
	child := s.fill(t, NewChild(t, parent, s.cfg.ChildSpec()))
	for range 2 {
		s.mustPrepare(t, iso, child)
		s.mustClean(t, iso, child.Container)
		s.mustClean(t, s.cfg.New(t), child.Damaged())
	}
	if diff := cmp.Diff(before, s.leftovers(t, parent.ID)); diff != "" {
		t.Errorf("Cleanup of the child changed the parent (-before +after):\n%s", diff)
	}
	s.mustClean(t, iso, parent.Container)
}

func (s *suite) testParallel(t *testing.T) {
	t.Helper()
	const containers = 8
	iso := s.cfg.New(t)
	fixtures := make([]*Fixture, containers)
	for i := range fixtures {
		fixtures[i] = s.container(t)
	}
	errs := make([]error, containers)
	var wg sync.WaitGroup
	for i, f := range fixtures {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
			defer cancel()
			for range 3 {
				_, err := iso.Prepare(ctx, f.Container)
				errs[i] = errors.Join(errs[i], err, iso.Cleanup(ctx, f.Container))
			}
		})
	}
	wg.Wait()
	for i, f := range fixtures {
		if errs[i] != nil {
			t.Errorf("container %d: %v", i, errs[i])
		}
		s.mustBeGone(t, f.Container)
	}
}

func (s *suite) testRecover(t *testing.T) {
	t.Helper()
	if _, is := s.cfg.New(t).(containerizer.Recoverer); !is {
		return
	}
	live, orphan := s.container(t), s.container(t)
	s.mustPrepare(t, s.cfg.New(t), live)
	s.mustPrepare(t, s.cfg.New(t), orphan)
	before := s.leftovers(t, live.ID)

	next := s.cfg.New(t).(containerizer.Recoverer)
	found, err := next.Recover(t.Context(), []*containerizer.Container{live.Container})
	if err != nil {
		t.Fatalf("Recover() = %v", err)
	}
	if s.cfg.Acquires && !slices.Contains(found, orphan.ID) {
		t.Errorf("Recover() found orphans %q, want %q among them", found, orphan.ID)
	}
	if slices.Contains(found, live.ID) {
		t.Errorf("Recover() took the live container %q for an orphan", live.ID)
	}
	if got := s.leftovers(t, orphan.ID); len(got) > 0 {
		t.Errorf("left of orphan %s after Recover: %q", orphan.ID, got)
	}
	if diff := cmp.Diff(before, s.leftovers(t, live.ID)); diff != "" {
		t.Errorf("Recover changed a live container (-before +after):\n%s", diff)
	}
	s.mustClean(t, s.cfg.New(t), orphan.Damaged())
	s.mustClean(t, s.cfg.New(t), live.Container)
}
