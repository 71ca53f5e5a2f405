package nnp_test

import (
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/security/nnp"
)

func TestConformance(t *testing.T) {
	spec := func() *containerizer.Spec {
		return &containerizer.Spec{Security: containerizer.Security{NoNewPrivileges: true}}
	}
	isolatortest.Run(t, isolatortest.Config{
		New:       func(*testing.T) containerizer.Isolator { return nnp.New(nnp.Options{}) },
		Spec:      spec,
		ChildSpec: spec,
	})
}

func TestPrepare(t *testing.T) {
	for name, tc := range map[string]struct {
		options  nnp.Options
		security containerizer.Security
		want     bool
	}{
		"not asked for":            {},
		"asked for":                {security: containerizer.Security{NoNewPrivileges: true}, want: true},
		"always":                   {options: nnp.Options{Always: true}, want: true},
		"always, privileged":       {options: nnp.Options{Always: true}, security: containerizer.Security{Privileged: true}},
		"asked for and privileged": {security: containerizer.Security{Privileged: true, NoNewPrivileges: true}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := isolatortest.NewContainer(t, &containerizer.Spec{Security: tc.security})
			info, err := nnp.New(tc.options).Prepare(t.Context(), c.Container)
			if err != nil {
				t.Fatal(err)
			}
			if got := info != nil && info.NoNewPrivileges; got != tc.want {
				t.Errorf("no_new_privs %t, want %t", got, tc.want)
			}
		})
	}
}
