package apparmor_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/security/apparmor"
)

// node is a made-up node with AppArmor: files of the kernel, and a parser that
// "loads" what it reads.
type node struct {
	t            *testing.T
	root, parser string
	// input is what the parser read last.
	input string
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func newNode(t *testing.T, enabled string) *node {
	t.Helper()
	n := &node{t: t, root: t.TempDir()}
	n.parser, n.input = filepath.Join(n.root, "parser"), filepath.Join(n.root, "input")
	if enabled != "" {
		write(t, filepath.Join(n.root, "/sys/module/apparmor/parameters/enabled"), enabled+"\n", 0o600)
	}
	write(t, n.profiles(), "/usr/bin/man (enforce)\nMongoDB Compass (unconfined)\nweb (complain)\n", 0o600)
	write(t, filepath.Join(n.root, "/proc/self/attr/apparmor/current"), "/usr/bin/berth (enforce)\n", 0o600)
	write(t, n.parser, `#!/bin/sh
[ "$1" = -Kr ] || { echo "bad arguments: $*" >&2; exit 1; }
cat > "`+n.input+`"
name=$(sed -n 's/^profile "\(.*\)" flags.*/\1/p' "`+n.input+`")
echo "$name (enforce)" >> "`+n.profiles()+`"
`, 0o700)
	return n
}

func (n *node) profiles() string {
	return filepath.Join(n.root, "/sys/kernel/security/apparmor/profiles")
}

func (n *node) isolator(o apparmor.Options) *apparmor.Isolator {
	n.t.Helper()
	o.Root = n.root
	if o.Parser == "" {
		o.Parser = n.parser
	}
	i, err := apparmor.New(log.New(zaptest.NewLogger(n.t).Core()), o)
	if err != nil {
		n.t.Fatal(err)
	}
	return i
}

func prepare(t *testing.T, i *apparmor.Isolator, s containerizer.Security) (string, error) {
	t.Helper()
	info, err := i.Prepare(t.Context(), isolatortest.NewContainer(t, &containerizer.Spec{Security: s}).Container)
	if info == nil || err != nil {
		return "", err
	}
	return info.AppArmorProfile, nil
}

func spec(profile string) func() *containerizer.Spec {
	return func() *containerizer.Spec {
		return &containerizer.Spec{Security: containerizer.Security{AppArmor: profile}}
	}
}

func TestConformance(t *testing.T) {
	t.Run("with AppArmor", func(t *testing.T) {
		n := newNode(t, "Y")
		isolatortest.Run(t, isolatortest.Config{
			New:       func(*testing.T) containerizer.Isolator { return n.isolator(apparmor.Options{}) },
			Spec:      spec(""),
			ChildSpec: spec("web"),
			Refused: map[string]func() *containerizer.Spec{
				"newline": spec("web\nunconfined"),
				"NUL":     spec("web\x00"),
				"space":   spec(" web"),
				"long":    spec(strings.Repeat("x", 2000)),
			},
		})
	})
	t.Run("without AppArmor", func(t *testing.T) {
		n := newNode(t, "")
		isolatortest.Run(t, isolatortest.Config{
			New:     func(*testing.T) containerizer.Isolator { return n.isolator(apparmor.Options{}) },
			Spec:    spec(""),
			Refused: map[string]func() *containerizer.Spec{"named": spec("web"), "newline": spec("a\nb")},
		})
	})
}

func TestPrepare(t *testing.T) {
	for name, tc := range map[string]struct {
		enabled  string
		security containerizer.Security
		want     string
		class    error
	}{
		"default":                    {"Y", containerizer.Security{}, "berth-default", nil},
		"default by name":            {"Y", containerizer.Security{AppArmor: "berth-default"}, "berth-default", nil},
		"unconfined":                 {"Y", containerizer.Security{AppArmor: "unconfined"}, "unconfined", nil},
		"privileged":                 {"Y", containerizer.Security{Privileged: true}, "unconfined", nil},
		"privileged beats a name":    {"Y", containerizer.Security{Privileged: true, AppArmor: "web"}, "unconfined", nil},
		"loaded":                     {"Y", containerizer.Security{AppArmor: "web"}, "web", nil},
		"loaded, a path":             {"Y", containerizer.Security{AppArmor: "/usr/bin/man"}, "/usr/bin/man", nil},
		"loaded, with a space":       {"Y", containerizer.Security{AppArmor: "MongoDB Compass"}, "MongoDB Compass", nil},
		"not loaded":                 {"Y", containerizer.Security{AppArmor: "we"}, "", containerizer.ErrNotFound},
		"first word of a name":       {"Y", containerizer.Security{AppArmor: "MongoDB"}, "", containerizer.ErrNotFound},
		"off: default":               {"N", containerizer.Security{}, "", nil},
		"off: default by name":       {"N", containerizer.Security{AppArmor: "berth-default"}, "", nil},
		"off: unconfined":            {"N", containerizer.Security{AppArmor: "unconfined"}, "", nil},
		"off: named":                 {"N", containerizer.Security{AppArmor: "web"}, "", containerizer.ErrUnsupported},
		"absent: default":            {"", containerizer.Security{}, "", nil},
		"absent: named":              {"", containerizer.Security{AppArmor: "web"}, "", containerizer.ErrUnsupported},
		"absent: named, privileged":  {"", containerizer.Security{AppArmor: "web", Privileged: true}, "", nil},
		"absent: broken, privileged": {"", containerizer.Security{AppArmor: "a\nb", Privileged: true}, "", containerizer.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := prepare(t, newNode(t, tc.enabled).isolator(apparmor.Options{}), tc.security)
			if got != tc.want || !errors.Is(err, tc.class) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tc.want, tc.class)
			}
		})
	}
}

// TestDefaultProfileIsLoadedOnce checks what the parser is given, and that it is
// not asked again.
func TestDefaultProfileIsLoadedOnce(t *testing.T) {
	n := newNode(t, "Y")
	i := n.isolator(apparmor.Options{Profile: `my "own"`})
	if got, err := prepare(t, i, containerizer.Security{}); err != nil || got != `my "own"` {
		t.Fatalf("got %q, %v", got, err)
	}
	text, err := os.ReadFile(n.input)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"@{PROC}=/proc/\n",
		`profile "my \"own\"" flags=(attach_disconnected,mediate_deleted) {`,
		`signal (receive) peer="/usr/bin/berth",`,
		`ptrace (trace,read,tracedby,readby) peer="my \"own\"",`,
		"deny mount,", "deny @{PROC}/sysrq-trigger rwklx,", "deny /sys/firmware/** rwklx,",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the profile lacks %q:\n%s", want, text)
		}
	}
	for _, left := range []string{"NAME", "OWN", "PREAMBLE", "BASE"} {
		if strings.Contains(string(text), left) {
			t.Errorf("the profile still has %q:\n%s", left, text)
		}
	}
}

func TestProfileUsesPolicyFiles(t *testing.T) {
	n := newNode(t, "Y")
	for _, f := range []string{"tunables/global", "abstractions/base"} {
		write(t, filepath.Join(n.root, "etc/apparmor.d", f), "", 0o600)
	}
	if _, err := prepare(t, n.isolator(apparmor.Options{}), containerizer.Security{}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(n.input)
	if err != nil || !strings.Contains(string(text), "#include <tunables/global>") || !strings.Contains(string(text), "#include <abstractions/base>") {
		t.Errorf("profile without the includes, %v:\n%s", err, text)
	}
}

func TestAlreadyLoadedProfileNeedsNoParser(t *testing.T) {
	n := newNode(t, "Y")
	write(t, n.profiles(), "berth-default (enforce)\n", 0o600)
	got, err := prepare(t, n.isolator(apparmor.Options{Parser: "/nonexistent"}), containerizer.Security{})
	if err != nil || got != "berth-default" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestFailingParser(t *testing.T) {
	n := newNode(t, "Y")
	write(t, n.parser, "#!/bin/sh\necho 'syntax error, line 3' >&2\nexit 1\n", 0o700)
	_, err := prepare(t, n.isolator(apparmor.Options{}), containerizer.Security{})
	if err == nil || !strings.Contains(err.Error(), "syntax error, line 3") || !strings.Contains(err.Error(), "berth-default") {
		t.Errorf("got %v, want what the parser said", err)
	}
}

// TestWithoutSecurityfs is a node where profiles can be neither seen nor loaded.
func TestWithoutSecurityfs(t *testing.T) {
	n := newNode(t, "Y")
	if err := os.Remove(n.profiles()); err != nil {
		t.Fatal(err)
	}
	if got, err := prepare(t, n.isolator(apparmor.Options{}), containerizer.Security{}); got != "" || err != nil {
		t.Errorf("best effort: %q, %v; want no profile", got, err)
	}
	for name, tc := range map[string]struct {
		options  apparmor.Options
		security containerizer.Security
	}{
		"strict":          {apparmor.Options{Strict: true}, containerizer.Security{}},
		"default by name": {apparmor.Options{}, containerizer.Security{AppArmor: "berth-default"}},
		"named":           {apparmor.Options{}, containerizer.Security{AppArmor: "web"}},
	} {
		if got, err := prepare(t, n.isolator(tc.options), tc.security); !errors.Is(err, containerizer.ErrUnsupported) {
			t.Errorf("%s: %q, %v; want ErrUnsupported", name, got, err)
		}
	}
}

func TestNewRefusesName(t *testing.T) {
	if _, err := apparmor.New(log.New(zaptest.NewLogger(t).Core()), apparmor.Options{Profile: "a\nb"}); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}
