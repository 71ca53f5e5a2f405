package launch_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch"
)

const (
	atimeField = unix.MOUNT_ATTR__ATIME
	ro         = unix.MOUNT_ATTR_RDONLY
	noexec     = unix.MOUNT_ATTR_NOEXEC
	noatime    = unix.MOUNT_ATTR_NOATIME
	strict     = unix.MOUNT_ATTR_STRICTATIME
)

func TestParseMountOptions(t *testing.T) {
	type parsed = launch.MountOptions
	set := func(bits uint64) launch.Attributes { return launch.Attributes{Set: bits} }
	clearing := func(bits uint64) launch.Attributes { return launch.Attributes{Clear: bits} }
	atime := func(value uint64) launch.Attributes { return launch.Attributes{Set: value, Clear: atimeField} }
	for options, want := range map[string]parsed{
		"":         {},
		"defaults": {},

		"ro":          {Attributes: set(ro), Flags: unix.MS_RDONLY},
		"rw":          {Attributes: clearing(ro)},
		"nosuid":      {Attributes: set(unix.MOUNT_ATTR_NOSUID), Flags: unix.MS_NOSUID},
		"suid":        {Attributes: clearing(unix.MOUNT_ATTR_NOSUID)},
		"nodev":       {Attributes: set(unix.MOUNT_ATTR_NODEV), Flags: unix.MS_NODEV},
		"dev":         {Attributes: clearing(unix.MOUNT_ATTR_NODEV)},
		"noexec":      {Attributes: set(noexec), Flags: unix.MS_NOEXEC},
		"exec":        {Attributes: clearing(noexec)},
		"nodiratime":  {Attributes: set(unix.MOUNT_ATTR_NODIRATIME), Flags: unix.MS_NODIRATIME},
		"diratime":    {Attributes: clearing(unix.MOUNT_ATTR_NODIRATIME)},
		"nosymfollow": {Attributes: set(unix.MOUNT_ATTR_NOSYMFOLLOW), Flags: unix.MS_NOSYMFOLLOW},
		"symfollow":   {Attributes: clearing(unix.MOUNT_ATTR_NOSYMFOLLOW)},
		"nosuid nodev noexec ro": {
			Attributes: set(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | noexec | ro),
			Flags:      unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY,
		},

		// The last one wins.
		"ro rw":         {Attributes: clearing(ro)},
		"rw ro":         {Attributes: set(ro), Flags: unix.MS_RDONLY},
		"ro rw ro":      {Attributes: set(ro), Flags: unix.MS_RDONLY},
		"ro noexec rw":  {Attributes: launch.Attributes{Set: noexec, Clear: ro}, Flags: unix.MS_NOEXEC},
		"noexec exec":   {Attributes: clearing(noexec)},
		"exec noexec":   {Attributes: set(noexec), Flags: unix.MS_NOEXEC},
		"nosuid suid":   {Attributes: clearing(unix.MOUNT_ATTR_NOSUID)},
		"dev nodev":     {Attributes: set(unix.MOUNT_ATTR_NODEV), Flags: unix.MS_NODEV},
		"sync async":    {},
		"async sync":    {Flags: unix.MS_SYNCHRONOUS},
		"mand nomand":   {},
		"silent loud":   {},
		"shared rslave": {Propagation: unix.MS_SLAVE | unix.MS_REC},

		// The modes of access times share a field, of which relatime is the zero.
		"noatime":                      {Attributes: atime(noatime), Flags: unix.MS_NOATIME},
		"strictatime":                  {Attributes: atime(strict), Flags: unix.MS_STRICTATIME},
		"relatime":                     {Attributes: atime(0), Flags: unix.MS_RELATIME},
		"atime":                        {Attributes: atime(0)},
		"norelatime":                   {},
		"nostrictatime":                {Attributes: atime(0)},
		"noatime atime":                {Attributes: atime(0)},
		"noatime relatime":             {Attributes: atime(0), Flags: unix.MS_RELATIME},
		"relatime noatime":             {Attributes: atime(noatime), Flags: unix.MS_NOATIME},
		"relatime strictatime":         {Attributes: atime(strict), Flags: unix.MS_STRICTATIME},
		"noatime strictatime":          {Attributes: atime(strict), Flags: unix.MS_STRICTATIME},
		"strictatime noatime":          {Attributes: atime(noatime), Flags: unix.MS_NOATIME},
		"strictatime nostrictatime":    {Attributes: atime(0)},
		"noatime nostrictatime":        {Attributes: atime(noatime), Flags: unix.MS_NOATIME},
		"nodiratime noatime":           {Attributes: launch.Attributes{Set: noatime | unix.MOUNT_ATTR_NODIRATIME, Clear: atimeField}, Flags: unix.MS_NOATIME | unix.MS_NODIRATIME},
		"noatime nodiratime diratime":  {Attributes: launch.Attributes{Set: noatime, Clear: atimeField | unix.MOUNT_ATTR_NODIRATIME}, Flags: unix.MS_NOATIME},
		"rnoatime":                     {RecursiveAttributes: atime(noatime)},
		"rrelatime":                    {RecursiveAttributes: atime(0)},
		"rstrictatime rnostrictatime":  {RecursiveAttributes: atime(0)},
		"rnorelatime":                  {},
		"rstrictatime relatime":        {Attributes: atime(0), RecursiveAttributes: atime(strict), Flags: unix.MS_RELATIME},
		"rro":                          {RecursiveAttributes: set(ro)},
		"rrw":                          {RecursiveAttributes: clearing(ro)},
		"rro rrw":                      {RecursiveAttributes: clearing(ro)},
		"rnosuid rnodev rnoexec":       {RecursiveAttributes: set(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | noexec)},
		"rsuid rdev rexec":             {RecursiveAttributes: clearing(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | noexec)},
		"rnosymfollow rnodiratime":     {RecursiveAttributes: set(unix.MOUNT_ATTR_NOSYMFOLLOW | unix.MOUNT_ATTR_NODIRATIME)},
		"rsymfollow rdiratime":         {RecursiveAttributes: clearing(unix.MOUNT_ATTR_NOSYMFOLLOW | unix.MOUNT_ATTR_NODIRATIME)},
		"ro rnoexec":                   {Attributes: set(ro), RecursiveAttributes: set(noexec), Flags: unix.MS_RDONLY},
		"bind":                         {Bind: true},
		"rbind":                        {Bind: true, Recursive: true},
		"rbind bind":                   {Bind: true, Recursive: true},
		"idmap":                        {IDMap: true},
		"ridmap":                       {IDMap: true, IDMapRecursive: true},
		"private":                      {Propagation: unix.MS_PRIVATE},
		"rprivate":                     {Propagation: unix.MS_PRIVATE | unix.MS_REC},
		"shared":                       {Propagation: unix.MS_SHARED},
		"rshared":                      {Propagation: unix.MS_SHARED | unix.MS_REC},
		"slave":                        {Propagation: unix.MS_SLAVE},
		"unbindable":                   {Propagation: unix.MS_UNBINDABLE},
		"runbindable":                  {Propagation: unix.MS_UNBINDABLE | unix.MS_REC},
		"sync dirsync mand silent":     {Flags: unix.MS_SYNCHRONOUS | unix.MS_DIRSYNC | unix.MS_MANDLOCK | unix.MS_SILENT},
		"lazytime iversion":            {Flags: unix.MS_LAZYTIME | unix.MS_I_VERSION},
		"lazytime nolazytime":          {},
		"iversion noiversion":          {},
		"size=65536k mode=755":         {Data: []string{"size=65536k", "mode=755"}},
		"mode=755 ro mode=700":         {Attributes: set(ro), Flags: unix.MS_RDONLY, Data: []string{"mode=755", "mode=700"}},
		"context=\"a:b:c:s0:c1,c2\"":   {Data: []string{`context="a:b:c:s0:c1,c2"`}},
		"RO":                           {Data: []string{"RO"}},
		"rsync":                        {Data: []string{"rsync"}},
		"rbind rprivate ro nosuid rro": {Bind: true, Recursive: true, Propagation: unix.MS_PRIVATE | unix.MS_REC, Attributes: set(ro | unix.MOUNT_ATTR_NOSUID), RecursiveAttributes: set(ro), Flags: unix.MS_RDONLY | unix.MS_NOSUID},
	} {
		t.Run("options "+options, func(t *testing.T) {
			got, err := launch.ParseMountOptions(strings.Fields(options))
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Fatalf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestParseMountOptionsRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		options []string
		class   error
		want    string
	}{
		"empty":     {[]string{"ro", ""}, containerizer.ErrInvalid, "empty mount option"},
		"NUL":       {[]string{"size=1m\x00,size=2m"}, containerizer.ErrInvalid, "contains NUL"},
		"tmpcopyup": {[]string{"tmpcopyup"}, containerizer.ErrUnsupported, `"tmpcopyup" copies image content`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := launch.ParseMountOptions(c.options)
			if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %v: %q", err, c.class, c.want)
			}
		})
	}
}

// A bind mount has no use for options of a filesystem, and they are not ignored.
func TestBindMountWithData(t *testing.T) {
	info := func() *containerizer.LaunchInfo {
		return &containerizer.LaunchInfo{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}}
	}
	mount, layer := info(), info()
	mount.Mounts = []specs.Mount{{Type: "bind", Source: "/a", Destination: "/b", Options: []string{"ro", "noexce"}}}
	layer.LayerMounts = []containerizer.LayerMount{{Rootfs: containerizer.Rootfs{Path: "/a"}, Destination: "/b", Options: []string{"noexce"}}}
	for name, with := range map[string]*containerizer.LaunchInfo{"mount": mount, "layer mount": layer} {
		t.Run(name, func(t *testing.T) {
			_, err := launch.Compile(&launch.Config{Info: with, Process: launch.Process{Args: []string{"a"}}})
			if !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), `on "/b": mount option "noexce"`) {
				t.Fatalf("got %v, want an invalid option", err)
			}
		})
	}
}

// Whatever an image or a bundle has a NUL in is refused, not cut short.
func TestNULIsRefused(t *testing.T) {
	for name, with := range map[string]func(c *launch.Config){
		"argument":          func(c *launch.Config) { c.Process.Args = append(c.Process.Args, "b\x00c") },
		"command":           func(c *launch.Config) { c.Process.Args[0] = "/bin/sh\x00" },
		"environment":       func(c *launch.Config) { c.Process.Env = []string{"A=b\x00c"} },
		"working directory": func(c *launch.Config) { c.Process.WorkingDir = "/a\x00b" },
		"mount source": func(c *launch.Config) {
			c.Info.Mounts = []specs.Mount{{Type: "tmpfs", Source: "a\x00b", Destination: "/c"}}
		},
		"masked path": func(c *launch.Config) { c.Info.MaskedPaths = []string{"/a\x00b"} },
	} {
		t.Run(name, func(t *testing.T) {
			c := &launch.Config{
				Info:    &containerizer.LaunchInfo{Rootfs: &containerizer.Rootfs{Path: "/"}, Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}}},
				Process: launch.Process{Args: []string{"a"}},
			}
			if _, err := launch.Compile(c); err != nil {
				t.Fatal(err)
			}
			with(c)
			if _, err := launch.Compile(c); !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), "NUL byte") {
				t.Fatalf("got %v, want it refused", err)
			}
		})
	}
}

// The invariants that the kernel checks (mount_setattr(2)), and that nothing gets
// lost: an option is a flag, or data.
func FuzzParseMountOptions(f *testing.F) {
	for _, s := range []string{"", "ro rw", "noatime relatime strictatime nostrictatime", "rbind rprivate rro", "idmap size=1m", "a\x00", "tmpcopyup"} {
		f.Add(s)
	}
	words := strings.Fields("ro rw nosuid suid nodev dev noexec exec nodiratime diratime nosymfollow symfollow " +
		"noatime relatime strictatime atime norelatime nostrictatime sync async dirsync mand nomand silent loud lazytime nolazytime iversion noiversion defaults")
	f.Fuzz(func(t *testing.T, s string) {
		var options []string
		for o := range strings.SplitSeq(s, " ") {
			if len(o) == 1 { // makes sequences of real options likely
				o = words[int(o[0])%len(words)]
			}
			options = append(options, o)
		}
		m, err := launch.ParseMountOptions(options)
		if err != nil {
			if !errors.Is(err, containerizer.ErrInvalid) && !errors.Is(err, containerizer.ErrUnsupported) {
				t.Fatalf("%q: an error without class: %v", options, err)
			}
			return
		}
		for _, a := range []launch.Attributes{m.Attributes, m.RecursiveAttributes} {
			if both := a.Set & a.Clear &^ atimeField; both != 0 {
				t.Errorf("%q: %#x is set and cleared", options, both)
			}
			if field := a.Clear & atimeField; field != 0 && field != atimeField || a.Set&atimeField != 0 && field == 0 {
				t.Errorf("%q: the access time field is set to %#x and cleared by %#x", options, a.Set&atimeField, field)
			}
			if v := a.Set & atimeField; v != 0 && v != noatime && v != strict {
				t.Errorf("%q: %#x is no mode of access times", options, v)
			}
		}
		for flag, bit := range map[uint64]uint64{
			unix.MS_RDONLY: ro, unix.MS_NOEXEC: noexec, unix.MS_NOSUID: unix.MOUNT_ATTR_NOSUID, unix.MS_NODEV: unix.MOUNT_ATTR_NODEV,
			unix.MS_NODIRATIME: unix.MOUNT_ATTR_NODIRATIME, unix.MS_NOSYMFOLLOW: unix.MOUNT_ATTR_NOSYMFOLLOW,
			unix.MS_NOATIME: noatime, unix.MS_STRICTATIME: strict,
		} {
			if (m.Flags&flag != 0) != (m.Attributes.Set&bit != 0) {
				t.Errorf("%q: flag %#x and attribute %#x do not agree: %#x, %+v", options, flag, bit, m.Flags, m.Attributes)
			}
		}
		for _, d := range m.Data {
			if !slices.Contains(options, d) || strings.ContainsRune(d, 0) {
				t.Errorf("%q: data %q", options, d)
			}
		}
	})
}

// The kernel takes every sequence of options, for a filesystem and for a bind mount,
// and the last one is what a container sees.
func TestMountOptionsInContainer(t *testing.T) {
	for options, want := range map[string]string{
		"ro rw":                             "rw,relatime",
		"rw ro noexec nosuid nodev":         "ro,nosuid,nodev,noexec,relatime",
		"noexec nosuid exec":                "rw,nosuid,relatime",
		"noatime":                           "rw,noatime",
		"strictatime noatime":               "rw,noatime",
		"relatime strictatime":              "rw",
		"noatime strictatime nostrictatime": "rw,relatime",
		"noatime nodiratime atime":          "rw,nodiratime,relatime",
		"nosymfollow strictatime":           "rw,nosymfollow",
	} {
		for kind, mount := range map[string]specs.Mount{
			"tmpfs": {Type: "tmpfs", Source: "tmpfs", Destination: "/at"},
			"bind":  {Type: "bind", Destination: "/at"},
		} {
			t.Run(kind+" "+options, func(t *testing.T) {
				c := config(t, "busybox", "awk", `$5 == "/at" { print $6 }`, "/proc/self/mountinfo")
				mount.Options = strings.Fields(options)
				if kind == "bind" {
					mount.Source = t.TempDir()
				}
				c.Info.Mounts = append(c.Info.Mounts, mount)
				expect(t, c, want)
			})
		}
	}
}
