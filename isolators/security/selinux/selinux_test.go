package selinux_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/security/selinux"
)

// node is a made-up node with SELinux: its files, and a place for levels.
type node struct {
	t                      *testing.T
	selinuxfs, config, dir string
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := newPlainNode(t)
	n.write(filepath.Join(n.selinuxfs, "context"), "")
	return n
}

// newPlainNode returns one without SELinux.
func newPlainNode(t *testing.T) *node {
	t.Helper()
	root := t.TempDir()
	return &node{t, filepath.Join(root, "selinuxfs"), filepath.Join(root, "etc"), filepath.Join(root, "levels")}
}

func (n *node) write(path, text string) {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) isolator() *selinux.Isolator {
	return selinux.New(log.New(zaptest.NewLogger(n.t).Core()), n.dir, selinux.Options{Selinuxfs: n.selinuxfs, Config: n.config})
}

// reserved lists the levels that id holds.
func (n *node) reserved(t *testing.T, id containerizer.ContainerID) []string {
	t.Helper()
	links, err := filepath.Glob(filepath.Join(n.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var held []string
	for _, l := range links {
		if owner, err := os.Readlink(l); err == nil && owner == id.String() {
			held = append(held, filepath.Base(l))
		}
	}
	return held
}

func labels(parts ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(parts); i += 2 {
		m[parts[i]] = parts[i+1]
	}
	return m
}

func spec(parts ...string) func() *containerizer.Spec {
	return func() *containerizer.Spec {
		return &containerizer.Spec{Security: containerizer.Security{SELinux: labels(parts...)}}
	}
}

func TestConformance(t *testing.T) {
	refused := map[string]func() *containerizer.Spec{
		"unknown part":       spec("colour", "red"),
		"empty type":         spec("type", ""),
		"type with colon":    spec("type", "a:b"),
		"user with a space":  spec("user", "a b"),
		"role with newline":  spec("role", "a\n"),
		"level":              spec("level", "high"),
		"sensitivity":        spec("level", "s16"),
		"category":           spec("level", "s0:c1024"),
		"category range":     spec("level", "s0:c1.x"),
		"empty categories":   spec("level", "s0:"),
		"signed category":    spec("level", "s0:c+1"),
		"empty range":        spec("level", "s0-"),
		"disable and others": spec("disable", "", "type", "t"),
		"relabel word": func() *containerizer.Spec {
			return &containerizer.Spec{Mounts: []containerizer.Mount{{Type: containerizer.MountBind, Source: "/tmp/x", Destination: "/x", Relabel: "z"}}}
		},
	}
	t.Run("with SELinux", func(t *testing.T) {
		n := newNode(t)
		isolatortest.Run(t, isolatortest.Config{
			New:       func(*testing.T) containerizer.Isolator { return n.isolator() },
			Spec:      spec(),
			Refused:   refused,
			Leftovers: n.reserved,
			Acquires:  true,
		})
	})
	t.Run("without SELinux", func(t *testing.T) {
		n := newPlainNode(t)
		refused["label"] = spec("type", "container_t")
		isolatortest.Run(t, isolatortest.Config{
			New:       func(*testing.T) containerizer.Isolator { return n.isolator() },
			Spec:      spec("disable", ""),
			Refused:   refused,
			Leftovers: n.reserved,
		})
	})
}

func prepare(t *testing.T, i *selinux.Isolator, c *containerizer.Container) (process, mount string) {
	t.Helper()
	info, err := i.Prepare(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if info == nil {
		return "", ""
	}
	return info.SELinuxLabel, info.SELinuxMountLabel
}

var ownLevel = regexp.MustCompile(`s0:c\d{1,4},c\d{1,4}$`)

func TestLabels(t *testing.T) {
	lxc := "# comment\nprocess = \"u1:r1:t1:s0\"\nfile = \"u2:object_r:f2:s0\"\nro_file=\"x\"\n"
	for name, tc := range map[string]struct {
		contexts       string
		security       containerizer.Security
		process, mount string
	}{
		"default":          {"", containerizer.Security{}, "system_u:system_r:container_t:LEVEL", "system_u:object_r:container_file_t:LEVEL"},
		"of the policy":    {lxc, containerizer.Security{}, "u1:r1:t1:LEVEL", "u2:object_r:f2:LEVEL"},
		"level":            {"", containerizer.Security{SELinux: labels("level", "s0:c4,c5")}, "system_u:system_r:container_t:s0:c4,c5", "system_u:object_r:container_file_t:s0:c4,c5"},
		"level range":      {"", containerizer.Security{SELinux: labels("level", "s0-s15:c0.c1023")}, "system_u:system_r:container_t:s0-s15:c0.c1023", "system_u:object_r:container_file_t:s0-s15:c0.c1023"},
		"all parts":        {lxc, containerizer.Security{SELinux: labels("user", "u", "role", "r", "type", "t", "level", "s1")}, "u:r:t:s1", "u:object_r:f2:s1"},
		"type":             {lxc, containerizer.Security{SELinux: labels("type", "t")}, "u1:r1:t:LEVEL", "u2:object_r:f2:LEVEL"},
		"privileged":       {"", containerizer.Security{Privileged: true}, "system_u:system_r:spc_t:LEVEL", "system_u:object_r:container_file_t:LEVEL"},
		"privileged, type": {"", containerizer.Security{Privileged: true, SELinux: labels("type", "t")}, "system_u:system_r:t:LEVEL", "system_u:object_r:container_file_t:LEVEL"},
		"disabled":         {"", containerizer.Security{SELinux: labels("disable", "")}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.write(filepath.Join(n.config, "config"), "SELINUX=enforcing\nSELINUXTYPE=targeted\n")
			if tc.contexts != "" {
				n.write(filepath.Join(n.config, "targeted/contexts/lxc_contexts"), tc.contexts)
			}
			c := isolatortest.NewContainer(t, &containerizer.Spec{Security: tc.security})
			process, mount := prepare(t, n.isolator(), c.Container)
			if strings.HasSuffix(tc.process, "LEVEL") {
				level := ownLevel.FindString(process)
				if level == "" || ownLevel.FindString(mount) != level {
					t.Fatalf("levels of %q and %q; want one of its own for both", process, mount)
				}
				process, mount = strings.Replace(process, level, "LEVEL", 1), strings.Replace(mount, level, "LEVEL", 1)
			} else if held := n.reserved(t, c.ID); len(held) > 0 {
				t.Errorf("reserved %q for nothing", held)
			}
			if process != tc.process || mount != tc.mount {
				t.Errorf("labels %q and %q, want %q and %q", process, mount, tc.process, tc.mount)
			}
		})
	}
}

func TestBadPolicyFile(t *testing.T) {
	n := newNode(t)
	n.write(filepath.Join(n.config, "config"), "SELINUXTYPE=targeted\n")
	n.write(filepath.Join(n.config, "targeted/contexts/lxc_contexts"), "process = \"x\"\n")
	_, err := n.isolator().Prepare(t.Context(), isolatortest.NewContainer(t, &containerizer.Spec{}).Container)
	if err == nil || !strings.Contains(err.Error(), "lxc_contexts") {
		t.Errorf("got %v, want the file's name", err)
	}
}

// TestChildSharesLevel checks that the containers of a pod can use each other's
// files and those of different pods cannot.
func TestChildSharesLevel(t *testing.T) {
	n := newNode(t)
	parent := isolatortest.NewContainer(t, &containerizer.Spec{})
	process, mount := prepare(t, n.isolator(), parent.Container)
	parent.Launch = &containerizer.LaunchInfo{SELinuxLabel: process, SELinuxMountLabel: mount}
	child := isolatortest.NewChild(t, parent, &containerizer.Spec{})
	if got, _ := prepare(t, n.isolator(), child.Container); got != process {
		t.Errorf("the child has %q, its parent %q", got, process)
	}
	if held := n.reserved(t, child.ID); len(held) > 0 {
		t.Errorf("the child reserved %q", held)
	}
	other, _ := prepare(t, n.isolator(), isolatortest.NewContainer(t, &containerizer.Spec{}).Container)
	if other == process {
		t.Errorf("two roots have %q", other)
	}
}

func TestLevelsAreUnique(t *testing.T) {
	n := newNode(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]containerizer.ContainerID{}
	fixtures := make([]*isolatortest.Fixture, 64)
	for i := range fixtures {
		fixtures[i] = isolatortest.NewContainer(t, &containerizer.Spec{})
	}
	for _, f := range fixtures {
		wg.Go(func() {
			info, err := n.isolator().Prepare(context.WithoutCancel(t.Context()), f.Container)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			if first, taken := seen[info.SELinuxLabel]; taken {
				t.Errorf("%s and %s have %q", first, f.ID, info.SELinuxLabel)
			}
			seen[info.SELinuxLabel] = f.ID
		})
	}
	wg.Wait()
}

// TestCleanupLeavesOthers puts the pair of another container into a ledger, as a
// crash between a failed attempt and its release does.
func TestCleanupLeavesOthers(t *testing.T) {
	n := newNode(t)
	owner := isolatortest.NewContainer(t, &containerizer.Spec{})
	prepare(t, n.isolator(), owner.Container)
	pair := n.reserved(t, owner.ID)[0]
	other := isolatortest.NewContainer(t, &containerizer.Spec{})
	if err := other.Ledger.Acquire("selinux-level", pair); err != nil {
		t.Fatal(err)
	}
	if err := n.isolator().Cleanup(t.Context(), other.Container); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{pair}, n.reserved(t, owner.ID)); diff != "" {
		t.Errorf("the owner's level (-want +got):\n%s", diff)
	}
	if held := other.Ledger.All(); len(held) > 0 {
		t.Errorf("the ledger holds %q", held)
	}
}

func TestKernelRefusesLabel(t *testing.T) {
	n := newNode(t)
	if err := os.Remove(filepath.Join(n.selinuxfs, "context")); err != nil {
		t.Fatal(err)
	}
	// Writing to /dev/full fails, as writing an unknown label to selinuxfs does.
	if err := os.Symlink("/dev/full", filepath.Join(n.selinuxfs, "context")); err != nil {
		t.Fatal(err)
	}
	c := isolatortest.NewContainer(t, &containerizer.Spec{})
	if _, err := n.isolator().Prepare(t.Context(), c.Container); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}

const xattr = "security.selinux"

func labelOf(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, xattr, buf)
	if errors.Is(err, unix.ENODATA) {
		return ""
	}
	if err != nil {
		t.Fatalf("label of %q: %v", path, err)
	}
	return strings.TrimRight(string(buf[:n]), "\x00") // SELinux itself ends it with one
}

// needLabels ends the test where the filesystem of temporary files cannot hold
// labels or this process cannot set them.
func needLabels(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "probe")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(path, xattr, []byte("a:b:c:s0"), 0); err != nil {
		t.Skipf("setting labels here: %v", err)
	}
}

// newTree makes files to relabel, among them a symbolic link to outside.
func newTree(t *testing.T) (tree string, files []string, outside string) {
	t.Helper()
	outside = filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tree = t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, "a/b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "a/b/file"), nil, 0o000); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(tree, "a/link")); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{".", "a", "a/b", "a/b/file", "a/link"} {
		files = append(files, filepath.Join(tree, f))
	}
	return tree, files, outside
}

func TestRelabel(t *testing.T) {
	needLabels(t)
	const private, shared = "system_u:object_r:container_file_t:s0:c1,c2", "system_u:object_r:container_file_t:s0"
	for name, tc := range map[string]struct {
		relabel string
		volume  bool
		want    string
	}{
		"private":         {relabel: "private", want: private},
		"shared":          {relabel: "shared", want: shared},
		"resolved volume": {relabel: "private", volume: true, want: private},
		"not asked for":   {},
	} {
		t.Run(name, func(t *testing.T) {
			tree, files, outside := newTree(t)
			before := labelOf(t, outside)
			if tc.want == "" {
				tc.want = labelOf(t, tree)
			}
			mount := containerizer.Mount{Type: containerizer.MountBind, Source: tree, Destination: "/data/", Relabel: tc.relabel}
			if tc.volume {
				mount.Type, mount.Source = containerizer.MountVolume, "name"
			}
			s := spec("level", "s0:c1,c2")()
			s.Mounts = []containerizer.Mount{mount}
			c := isolatortest.NewContainer(t, s)
			c.Launch.Mounts = []specs.Mount{
				{Type: "tmpfs", Destination: "/data", Source: "tmpfs"},
				{Type: "bind", Destination: "/data", Source: tree},
			}
			prepare(t, newNode(t).isolator(), c.Container)
			for _, f := range files {
				if got := labelOf(t, f); got != tc.want {
					t.Errorf("%s has the label %q, want %q", f, got, tc.want)
				}
			}
			if got := labelOf(t, outside); got != before {
				t.Errorf("a file outside has the label %q, had %q", got, before)
			}
		})
	}
}

func TestRelabelRefuses(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/etc", link); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		kind   containerizer.MountType
		source string
		class  error
	}{
		"the system":            {containerizer.MountBind, "/usr", containerizer.ErrInvalid},
		"the system by a link":  {containerizer.MountBind, link, containerizer.ErrInvalid},
		"the system by dots":    {containerizer.MountBind, "/var/../etc/.", containerizer.ErrInvalid},
		"missing":               {containerizer.MountBind, "/nonexistent/x", os.ErrNotExist},
		"nothing on the host":   {containerizer.MountTmpfs, "", containerizer.ErrUnsupported},
		"a volume not resolved": {containerizer.MountVolume, "name", containerizer.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			before := labelOf(t, "/etc") + labelOf(t, "/usr")
			c := isolatortest.NewContainer(t, &containerizer.Spec{Mounts: []containerizer.Mount{
				{Type: tc.kind, Source: tc.source, Destination: "/data", Relabel: "private"},
			}})
			if _, err := newNode(t).isolator().Prepare(t.Context(), c.Container); !errors.Is(err, tc.class) {
				t.Errorf("got %v, want %v", err, tc.class)
			}
			if after := labelOf(t, "/etc") + labelOf(t, "/usr"); after != before {
				t.Errorf("labels of the system became %q", after)
			}
		})
	}
}

func TestRelabelStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tree := t.TempDir()
	before := labelOf(t, tree)
	c := isolatortest.NewContainer(t, &containerizer.Spec{Mounts: []containerizer.Mount{
		{Type: containerizer.MountBind, Source: tree, Destination: "/data", Relabel: "private"},
	}})
	if _, err := newNode(t).isolator().Prepare(ctx, c.Container); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if got := labelOf(t, tree); got != before {
		t.Errorf("label %q was set", got)
	}
}
