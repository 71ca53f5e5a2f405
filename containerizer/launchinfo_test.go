package containerizer_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

type info = containerizer.LaunchInfo

// merge merges infos as those of the isolators "one", "two", "three".
func merge(infos ...*info) (*info, error) {
	var list []containerizer.Contribution
	for i, in := range infos {
		list = append(list, containerizer.Contribution{Isolator: []string{"one", "two", "three"}[i], Info: in})
	}
	return containerizer.MergeLaunchInfo(list)
}

// full has every field set, with one element in every list and map. Whatever the
// LaunchInfo of the future has is set, too.
func full() *info {
	var in info
	fill(reflect.ValueOf(&in).Elem())
	return &in
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for _, field := range v.Fields() {
			fill(field)
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	default:
		if v.CanInt() {
			v.SetInt(7)
		} else {
			v.SetUint(7)
		}
	}
}

// only returns a LaunchInfo that has the one field of full.
func only(field string) *info {
	var in info
	reflect.ValueOf(&in).Elem().FieldByName(field).Set(reflect.ValueOf(full()).Elem().FieldByName(field))
	return &in
}

// What each field of LaunchInfo does when two isolators set it: it is or-ed, it is
// appended, or it is a conflict about what is named here.
func TestMergeOfEachField(t *testing.T) {
	const ored, appended = "or-ed", "appended"
	rules := map[string]string{
		"Rootfs":            "the root filesystem",
		"ReadonlyRootfs":    ored,
		"RootfsPropagation": "the propagation of the root filesystem",
		"Namespaces":        "the namespace x",
		"UIDMappings":       "the uid mappings",
		"GIDMappings":       "the gid mappings",
		"TimeOffsets":       "the time offset of x",
		"Cgroup":            "the cgroup",
		"Mounts":            "the mount on x",
		"LayerMounts":       "the mount on x",
		"MaskedPaths":       appended,
		"ReadonlyPaths":     appended,
		"Devices":           "the device x",
		"DeviceRules":       appended,
		"Hostname":          "the hostname",
		"Domainname":        "the domain name",
		"Sysctl":            "the sysctl x",
		"LoopbackUp":        ored,
		"Barrier":           ored,
		"Env":               appended,
		"Rlimits":           "the limit x",
		"OOMScoreAdj":       "the OOM score adjustment",
		"Capabilities":      "the capabilities",
		"NoNewPrivileges":   ored,
		"Seccomp":           "the seccomp profile",
		"AppArmorProfile":   "the AppArmor profile",
		"SELinuxLabel":      "the SELinux label",
		"SELinuxMountLabel": "the SELinux mount label",
		"AdditionalGIDs":    appended,
		"Hooks":             appended,
	}
	for f := range reflect.TypeFor[info]().Fields() {
		t.Run(f.Name, func(t *testing.T) {
			rule, known := rules[f.Name]
			if !known {
				t.Fatal("a field without a rule in this test")
			}
			alone, err := merge(&info{}, only(f.Name), &info{}) // nobody else sets it
			if diff := cmp.Diff(only(f.Name), alone); err != nil || diff != "" {
				t.Fatalf("alone: %v (-want +got):\n%s", err, diff)
			}
			got, err := merge(only(f.Name), &info{}, only(f.Name))
			switch rule {
			case ored:
				if diff := cmp.Diff(only(f.Name), got); err != nil || diff != "" {
					t.Fatalf("%v (-want +got):\n%s", err, diff)
				}
			case appended:
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(twice(f.Name), got); diff != "" {
					t.Fatalf("(-want +got):\n%s", diff)
				}
			default:
				want := fmt.Sprintf("isolators %q and %q both set %s: invalid", "one", "three", rule)
				if got != nil || !errors.Is(err, containerizer.ErrInvalid) || err.Error() != want {
					t.Fatalf("got %v, %v, want the error %q", got, err, want)
				}
			}
		})
	}
}

// twice is only with every list, of the field or within it, doubled.
func twice(field string) *info {
	in := only(field)
	v := reflect.ValueOf(in).Elem().FieldByName(field)
	if v.Kind() == reflect.Pointer {
		for _, list := range v.Elem().Fields() {
			list.Set(reflect.AppendSlice(list, list))
		}
		return in
	}
	v.Set(reflect.AppendSlice(v, v))
	return in
}

func TestMergeOfNothing(t *testing.T) {
	for name, infos := range map[string][]*info{"no contribution": nil, "nil": {nil, nil}, "empty": {{}, nil, {}}} {
		t.Run(name, func(t *testing.T) {
			got, err := merge(infos...)
			if diff := cmp.Diff(&info{}, got); err != nil || diff != "" {
				t.Fatalf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestMergeKeepsTheOrder(t *testing.T) {
	got, err := merge(
		&info{
			Env: []string{"A=1", "B=1"}, MaskedPaths: []string{"/z"}, AdditionalGIDs: []uint32{9, 3},
			Namespaces: []specs.LinuxNamespace{{Type: "pid"}}, Sysctl: map[string]string{"a": "1"},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NPROC"}},
			Hooks:   &specs.Hooks{Poststop: []specs.Hook{{Path: "/one"}}},
		},
		&info{
			Env: []string{"A=2"}, MaskedPaths: []string{"/a", "/z"}, AdditionalGIDs: []uint32{3},
			Namespaces: []specs.LinuxNamespace{{Type: "network"}}, Sysctl: map[string]string{"b": "2"},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}},
			Hooks:   &specs.Hooks{Poststop: []specs.Hook{{Path: "/two"}}, Poststart: []specs.Hook{{Path: "/two"}}},
		},
	)
	want := &info{
		Env: []string{"A=1", "B=1", "A=2"}, MaskedPaths: []string{"/z", "/a", "/z"}, AdditionalGIDs: []uint32{9, 3, 3},
		Namespaces: []specs.LinuxNamespace{{Type: "pid"}, {Type: "network"}}, Sysctl: map[string]string{"a": "1", "b": "2"},
		Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_NPROC"}, {Type: "RLIMIT_CORE"}},
		Hooks:   &specs.Hooks{Poststop: []specs.Hook{{Path: "/one"}, {Path: "/two"}}, Poststart: []specs.Hook{{Path: "/two"}}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
}

func TestConflicts(t *testing.T) {
	mount := func(to string) *info { return &info{Mounts: []specs.Mount{{Destination: to}}} }
	layer := func(to string) *info {
		return &info{LayerMounts: []containerizer.LayerMount{{Destination: to}}}
	}
	for name, c := range map[string]struct {
		infos []*info
		want  string
	}{
		"mount by another spelling":  {[]*info{mount("/a/b"), mount("/a//x/../b/")}, `isolators "one" and "two" both set the mount on /a/b`},
		"mount and layer mount":      {[]*info{layer("/a/"), nil, mount("/a")}, `isolators "one" and "three" both set the mount on /a`},
		"device by another spelling": {[]*info{{Devices: []specs.LinuxDevice{{Path: "/dev/x"}}}, {Devices: []specs.LinuxDevice{{Path: "/dev/./x"}}}}, "the device /dev/x"},
		"one isolator": {
			[]*info{nil, {Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}, {Type: "RLIMIT_CORE", Hard: 1}}}},
			`isolator "two" sets the limit RLIMIT_CORE twice`,
		},
		"three isolators": {
			[]*info{{Hostname: "a"}, {Hostname: "b"}, {Hostname: "c"}},
			"isolators \"one\" and \"two\" both set the hostname: invalid\nisolators \"one\" and \"three\" both set the hostname: invalid",
		},
		"two conflicts": {
			[]*info{{Hostname: "a", Sysctl: map[string]string{"z": "", "y": ""}}, {Hostname: "b", Sysctl: map[string]string{"y": "", "z": ""}}},
			"the hostname: invalid\nisolators \"one\" and \"two\" both set the sysctl y: invalid\nisolators \"one\" and \"two\" both set the sysctl z",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := merge(c.infos...)
			if got != nil || !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, %v, want the error %q", got, err, c.want)
			}
		})
	}
}

func TestMountsAreSortedByDepth(t *testing.T) {
	mounts := func(destinations ...string) *info {
		var in info
		for _, d := range destinations {
			in.Mounts = append(in.Mounts, specs.Mount{Destination: d})
		}
		return &in
	}
	first := mounts("/z/y/x", "/b", "/a/", "/dev/pts")
	got, err := merge(first, mounts("/a/b/c/d", "//c", "/", "/dev/./shm"), mounts("/a/b"))
	if err != nil {
		t.Fatal(err)
	}
	want := mounts("/", "/b", "/a/", "//c", "/dev/pts", "/dev/./shm", "/a/b", "/z/y/x", "/a/b/c/d")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(mounts("/z/y/x", "/b", "/a/", "/dev/pts"), first); diff != "" {
		t.Errorf("the contribution itself was changed (-want +got):\n%s", diff)
	}
}

// What Merged returned stays as it was, and so do the contributions.
func TestMergedIsASnapshot(t *testing.T) {
	contribution := func(n int) *info {
		id := fmt.Sprint(n)
		return &info{
			Namespaces:  []specs.LinuxNamespace{{Type: specs.LinuxNamespaceType(id)}},
			TimeOffsets: map[string]specs.LinuxTimeOffset{id: {Secs: int64(n)}},
			Mounts:      []specs.Mount{{Destination: strings.Repeat("/d", 10-n)}},
			LayerMounts: []containerizer.LayerMount{{Destination: "/layer" + id}},
			MaskedPaths: []string{id}, ReadonlyPaths: []string{id},
			Devices: []specs.LinuxDevice{{Path: id}}, DeviceRules: []specs.LinuxDeviceCgroup{{Type: id}},
			Sysctl: map[string]string{id: id}, Env: []string{id},
			Rlimits: []specs.POSIXRlimit{{Type: id}}, AdditionalGIDs: []uint32{uint32(n)},
			Hooks: &specs.Hooks{
				CreateRuntime: []specs.Hook{{Path: id}}, CreateContainer: []specs.Hook{{Path: id}}, StartContainer: []specs.Hook{{Path: id}},
				Poststart: []specs.Hook{{Path: id}}, Poststop: []specs.Hook{{Path: id}},
			},
		}
	}
	var m containerizer.Merger
	var added, merged []*info
	for n := range 8 {
		added = append(added, contribution(n))
		m.Add(containerizer.Contribution{Isolator: "an isolator", Info: added[n]})
		now, err := m.Merged()
		if err != nil {
			t.Fatal(err)
		}
		merged = append(merged, now)
	}
	for n, got := range merged {
		want, err := containerizer.MergeLaunchInfo(slices.Collect(func(yield func(containerizer.Contribution) bool) {
			for i := range n + 1 {
				if !yield(containerizer.Contribution{Isolator: "an isolator", Info: contribution(i)}) {
					return
				}
			}
		}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("merged after %d contributions has changed since (-want +got):\n%s", n+1, diff)
		}
		if diff := cmp.Diff(contribution(n), added[n]); diff != "" {
			t.Errorf("contribution %d was changed (-want +got):\n%s", n, diff)
		}
	}
}

// A conflict stays, whatever is added.
func TestConflictStays(t *testing.T) {
	var m containerizer.Merger
	for _, host := range []string{"a", "b"} {
		m.Add(containerizer.Contribution{Isolator: "isolator " + host, Info: &info{Hostname: host}})
	}
	m.Add(containerizer.Contribution{Isolator: "another", Info: &info{Domainname: "d"}})
	for range 2 {
		if got, err := m.Merged(); got != nil || !errors.Is(err, containerizer.ErrInvalid) {
			t.Fatalf("got %v, %v, want the conflict", got, err)
		}
	}
}
