package paths_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/security/paths"
)

func TestConformance(t *testing.T) {
	masked := func(list ...string) func() *containerizer.Spec {
		return func() *containerizer.Spec {
			return &containerizer.Spec{Security: containerizer.Security{MaskedPaths: &list}}
		}
	}
	readonly := func(list ...string) func() *containerizer.Spec {
		return func() *containerizer.Spec {
			return &containerizer.Spec{Security: containerizer.Security{ReadonlyPaths: &list}}
		}
	}
	isolatortest.Run(t, isolatortest.Config{
		New:       func(*testing.T) containerizer.Isolator { return paths.New(paths.Options{}) },
		Spec:      masked("/proc/kcore"),
		ChildSpec: func() *containerizer.Spec { return &containerizer.Spec{} },
		Refused: map[string]func() *containerizer.Spec{
			"relative":      masked("proc/kcore"),
			"empty":         readonly(""),
			"upwards":       masked("/proc/../etc"),
			"trailing":      readonly("/proc/"),
			"everything":    masked("/"),
			"NUL":           readonly("/proc/\x00x"),
			"too many":      masked(slices.Repeat([]string{"/proc/x"}, 8193)...),
			"second is bad": masked("/proc/x", "./y"),
		},
	})
}

// sysfs makes a tree with processors, and in the first one dir.
func sysfs(t *testing.T, possible, dir string) string {
	t.Helper()
	root := t.TempDir()
	cpus := filepath.Join(root, "devices/system/cpu")
	if err := os.MkdirAll(filepath.Join(cpus, "cpu0", dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if possible != "" {
		if err := os.WriteFile(filepath.Join(cpus, "possible"), []byte(possible), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func throttle(cpus ...string) []string {
	var list []string
	for _, c := range cpus {
		list = append(list, "/sys/devices/system/cpu/cpu"+c+"/thermal_throttle")
	}
	return list
}

func TestPrepare(t *testing.T) {
	empty, own := []string{}, []string{"/proc/kcore"}
	cool := sysfs(t, "0-3\n", "cache")
	for name, tc := range map[string]struct {
		sysfs            string
		security         containerizer.Security
		masked, readonly []string
	}{
		"default":             {cool, containerizer.Security{}, paths.Masked(), paths.Readonly()},
		"processors":          {sysfs(t, "0-2,5\n", "thermal_throttle"), containerizer.Security{}, append(paths.Masked(), throttle("0", "1", "2", "5")...), paths.Readonly()},
		"processors, damaged": {sysfs(t, "x,0-99999999999,1-,7\n", "thermal_throttle"), containerizer.Security{}, append(paths.Masked(), throttle("7")...), paths.Readonly()},
		"processors, unknown": {sysfs(t, "", "thermal_throttle"), containerizer.Security{}, append(paths.Masked(), throttle("0")...), paths.Readonly()},
		"nothing":             {cool, containerizer.Security{MaskedPaths: &empty, ReadonlyPaths: &empty}, nil, nil},
		"masked replaced":     {cool, containerizer.Security{MaskedPaths: &own}, own, paths.Readonly()},
		"read-only replaced":  {cool, containerizer.Security{ReadonlyPaths: &own}, paths.Masked(), own},
		"privileged":          {cool, containerizer.Security{Privileged: true, MaskedPaths: &own}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := isolatortest.NewContainer(t, &containerizer.Spec{Security: tc.security})
			info, err := paths.New(paths.Options{Sysfs: tc.sysfs}).Prepare(t.Context(), c.Container)
			if err != nil {
				t.Fatal(err)
			}
			if info == nil {
				info = &containerizer.LaunchInfo{}
			}
			nilled := func(l []string) []string { return append([]string(nil), l...) }
			if diff := cmp.Diff(tc.masked, nilled(info.MaskedPaths)); diff != "" {
				t.Errorf("masked (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.readonly, nilled(info.ReadonlyPaths)); diff != "" {
				t.Errorf("read-only (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPrivilegedListIsStillChecked(t *testing.T) {
	bad := []string{"x"}
	c := isolatortest.NewContainer(t, &containerizer.Spec{Security: containerizer.Security{Privileged: true, MaskedPaths: &bad}})
	if _, err := paths.New(paths.Options{}).Prepare(t.Context(), c.Container); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

func TestListsAreTheCallers(t *testing.T) {
	paths.Masked()[0], paths.Readonly()[0] = "", ""
	if paths.Masked()[0] == "" || paths.Readonly()[0] == "" {
		t.Error("a caller changed the lists of the others")
	}
}
