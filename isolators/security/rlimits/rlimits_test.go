package rlimits_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/security/internal/hostcap"
	"github.com/berth-dev/berth/isolators/security/rlimits"
)

func newIsolator(t *testing.T, initial ...specs.POSIXRlimit) *rlimits.Isolator {
	t.Helper()
	i, err := rlimits.New(rlimits.Options{Default: initial})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func spec(limits ...specs.POSIXRlimit) *containerizer.Spec {
	return &containerizer.Spec{Process: containerizer.Process{Rlimits: limits}}
}

var (
	core   = specs.POSIXRlimit{Type: "RLIMIT_CORE", Soft: 0, Hard: 0}
	nofile = specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 64, Hard: 128}
)

func TestConformance(t *testing.T) {
	isolatortest.Run(t, isolatortest.Config{
		New: func(t *testing.T) containerizer.Isolator {
			t.Helper()
			return newIsolator(t, core)
		},
		Spec:      func() *containerizer.Spec { return spec(nofile) },
		ChildSpec: func() *containerizer.Spec { return spec() },
		Refused: map[string]func() *containerizer.Spec{
			"unknown": func() *containerizer.Spec { return spec(specs.POSIXRlimit{Type: "NOFILE"}) },
			"twice":   func() *containerizer.Spec { return spec(nofile, nofile) },
			"unlimited files": func() *containerizer.Spec {
				return spec(specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 1, Hard: math.MaxUint64})
			},
			"soft above hard": func() *containerizer.Spec { return spec(specs.POSIXRlimit{Type: "RLIMIT_AS", Soft: 2, Hard: 1}) },
		},
	})
}

func TestDefaultsAreOverridden(t *testing.T) {
	initial := specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 2}
	c := isolatortest.NewContainer(t, spec(nofile))
	info, err := newIsolator(t, initial, core).Prepare(t.Context(), c.Container)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]specs.POSIXRlimit{nofile, core}, info.Rlimits); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	info, err = newIsolator(t).Prepare(t.Context(), isolatortest.NewContainer(t, spec()).Container)
	if info != nil || err != nil {
		t.Errorf("without limits: %v, %v; want nothing", info, err)
	}
	if _, err := rlimits.New(rlimits.Options{Default: []specs.POSIXRlimit{{Type: "x"}}}); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("New with an unknown limit: %v, want ErrInvalid", err)
	}
}

// TestHardLimitAboveOwn asks for more than berth has; only CAP_SYS_RESOURCE gives it.
func TestHardLimitAboveOwn(t *testing.T) {
	var own unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_MSGQUEUE, nil, &own); err != nil {
		t.Fatal(err)
	}
	if own.Max == unix.RLIM_INFINITY {
		t.Skip("RLIMIT_MSGQUEUE is unlimited here, nothing is above it")
	}
	permitted, err := hostcap.Permitted()
	if err != nil {
		t.Fatal(err)
	}
	c := isolatortest.NewContainer(t, spec(specs.POSIXRlimit{Type: "RLIMIT_MSGQUEUE", Soft: 0, Hard: math.MaxUint64}))
	_, err = newIsolator(t).Prepare(t.Context(), c.Container)
	if hostcap.Has(permitted, unix.CAP_SYS_RESOURCE) {
		if err != nil {
			t.Errorf("with CAP_SYS_RESOURCE: %v", err)
		}
		return
	}
	if !errors.Is(err, containerizer.ErrPermission) || !strings.Contains(err.Error(), "unlimited is above") {
		t.Errorf("without CAP_SYS_RESOURCE: %v, want ErrPermission", err)
	}
}
