package capabilities_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/security/capabilities"
	"github.com/berth-dev/berth/isolators/security/internal/hostcap"
)

// docker are the capabilities of Docker's documentation, by number.
var docker = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_AUDIT_WRITE", "CAP_SETFCAP",
}

const allCount = 41 // CAP_CHECKPOINT_RESTORE is 40

func newIsolator(t *testing.T, o capabilities.Options) *capabilities.Isolator {
	t.Helper()
	i, err := capabilities.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// prepare returns the sets of a container in a user namespace of its own, where
// all capabilities can be had whatever the test has.
func prepare(t *testing.T, i *capabilities.Isolator, s containerizer.Security) (*specs.LinuxCapabilities, error) {
	t.Helper()
	c := isolatortest.NewContainer(t, &containerizer.Spec{Security: s})
	c.Launch.Namespaces = []specs.LinuxNamespace{{Type: specs.UserNamespace}}
	info, err := i.Prepare(t.Context(), c.Container)
	if err != nil {
		return nil, err
	}
	return info.Capabilities, nil
}

func TestConformance(t *testing.T) {
	isolatortest.Run(t, isolatortest.Config{
		New: func(t *testing.T) containerizer.Isolator {
			t.Helper()
			return newIsolator(t, capabilities.Options{})
		},
		Spec: func() *containerizer.Spec {
			return &containerizer.Spec{Security: containerizer.Security{CapDrop: []string{"chown"}}}
		},
		ChildSpec: func() *containerizer.Spec { return &containerizer.Spec{} },
		Refused: map[string]func() *containerizer.Spec{
			"unknown added": func() *containerizer.Spec {
				return &containerizer.Spec{Security: containerizer.Security{CapAdd: []string{"SYS_GOD"}}}
			},
			"unknown dropped": func() *containerizer.Spec {
				return &containerizer.Spec{Security: containerizer.Security{CapDrop: []string{"CAP_CAP_KILL"}}}
			},
			"unknown ambient": func() *containerizer.Spec {
				return &containerizer.Spec{Security: containerizer.Security{CapAmbient: []string{""}}}
			},
			"unknown in a privileged container": func() *containerizer.Spec {
				return &containerizer.Spec{Security: containerizer.Security{Privileged: true, CapAdd: []string{"x"}}}
			},
		},
	})
}

func TestRule(t *testing.T) {
	without := func(list []string, drop ...string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(c string) bool { return slices.Contains(drop, c) })
	}
	for name, tc := range map[string]struct {
		security containerizer.Security
		want     []string
		ambient  []string
		count    int
	}{
		"nothing asked for":          {want: docker},
		"add in any form":            {security: containerizer.Security{CapAdd: []string{"sys_boot", "CAP_SYS_BOOT", "Cap_Chown"}}, want: slices.Insert(slices.Clone(docker), 11, "CAP_SYS_BOOT")},
		"drop":                       {security: containerizer.Security{CapDrop: []string{"NET_RAW"}}, want: without(docker, "CAP_NET_RAW")},
		"drop beats add":             {security: containerizer.Security{CapAdd: []string{"NET_RAW", "BPF"}, CapDrop: []string{"BPF"}}, want: docker},
		"drop all":                   {security: containerizer.Security{CapDrop: []string{"ALL"}}},
		"drop all, add one":          {security: containerizer.Security{CapAdd: []string{"KILL"}, CapDrop: []string{"all"}}, want: []string{"CAP_KILL"}},
		"add all":                    {security: containerizer.Security{CapAdd: []string{"all"}}, count: allCount},
		"add all, drop one":          {security: containerizer.Security{CapAdd: []string{"ALL"}, CapDrop: []string{"SYS_ADMIN"}}, count: allCount - 1},
		"add all beats drop all":     {security: containerizer.Security{CapAdd: []string{"ALL"}, CapDrop: []string{"ALL"}}, count: allCount},
		"privileged":                 {security: containerizer.Security{Privileged: true}, count: allCount},
		"privileged, drop one":       {security: containerizer.Security{Privileged: true, CapDrop: []string{"SYS_ADMIN"}}, count: allCount - 1},
		"ambient":                    {security: containerizer.Security{CapDrop: []string{"ALL"}, CapAmbient: []string{"NET_BIND_SERVICE"}}, want: []string{"CAP_NET_BIND_SERVICE"}, ambient: []string{"CAP_NET_BIND_SERVICE"}},
		"drop beats ambient":         {security: containerizer.Security{CapDrop: []string{"KILL"}, CapAmbient: []string{"KILL"}}, want: without(docker, "CAP_KILL")},
		"all that it has as ambient": {security: containerizer.Security{CapDrop: []string{"ALL"}, CapAdd: []string{"KILL"}, CapAmbient: []string{"ALL"}}, want: []string{"CAP_KILL"}, ambient: []string{"CAP_KILL"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := prepare(t, newIsolator(t, capabilities.Options{}), tc.security)
			if err != nil {
				t.Fatal(err)
			}
			if tc.count > 0 {
				if len(got.Bounding) != tc.count {
					t.Errorf("%d capabilities, want %d: %q", len(got.Bounding), tc.count, got.Bounding)
				}
				tc.want = got.Bounding
			}
			// The inheritable set is empty but for ambient ones (CVE-2022-24769).
			want := &specs.LinuxCapabilities{
				Bounding: tc.want, Permitted: tc.want, Effective: tc.want, Inheritable: tc.ambient, Ambient: tc.ambient,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("capabilities (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDefaultOption(t *testing.T) {
	got, err := prepare(t, newIsolator(t, capabilities.Options{Default: []string{}}), containerizer.Security{})
	if err != nil || got.Bounding != nil {
		t.Errorf("got %v, %v; want none", got, err)
	}
	got, err = prepare(t, newIsolator(t, capabilities.Options{Default: []string{"all"}}), containerizer.Security{})
	if err != nil || len(got.Bounding) != allCount {
		t.Errorf("got %v, %v; want all", got, err)
	}
	if _, err := capabilities.New(capabilities.Options{Default: []string{"fly"}}); !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), `"fly"`) {
		t.Errorf("got %v, want ErrInvalid with the name", err)
	}
}

// TestHostNamespace checks that a container in the host's user namespace gets no
// more than berth has: what it did not name is left out, what it did is refused.
func TestHostNamespace(t *testing.T) {
	own, err := hostcap.Permitted()
	if err != nil {
		t.Fatal(err)
	}
	i := newIsolator(t, capabilities.Options{})
	c := isolatortest.NewContainer(t, &containerizer.Spec{Security: containerizer.Security{CapAdd: []string{"ALL"}}})
	info, err := i.Prepare(t.Context(), c.Container)
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for n := range allCount {
		if hostcap.Has(own, n) {
			want++
		}
	}
	if got := info.Capabilities.Bounding; len(got) != want {
		t.Errorf("%d capabilities, want the %d of this process: %q", len(got), want, got)
	}
	_, err = i.Prepare(t.Context(), isolatortest.NewContainer(t, &containerizer.Spec{
		Security: containerizer.Security{CapAdd: []string{"SYS_TIME"}},
	}).Container)
	if has := hostcap.Has(own, unix.CAP_SYS_TIME); has && err != nil || !has && !errors.Is(err, containerizer.ErrPermission) {
		t.Errorf("add SYS_TIME: %v; this process has it: %t", err, has)
	}
}
