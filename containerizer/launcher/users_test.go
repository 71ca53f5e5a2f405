package launcher

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

const (
	passwd = `# people
root:x:0:0:root:/root:/bin/sh
  worker:x:1000:100::/home/worker:/bin/sh

worker:x:2000:200::/second:/bin/sh
1234:x:0:0::/trap:/bin/sh
twin:x:1000:300::/twin:/bin/sh
short:x:7
four:x:8:9
nowhere:x:10:11::relative/home:/bin/sh
minus:x:-1:-1::/:/bin/sh
minus:x:11:12::/late:/bin/sh
large:x:4294967296:0::/:/bin/sh
plus:x:+12:+13::/:/bin/sh
nul:x:13:14::/a` + "\x00" + `b:/bin/sh
:x:15:16::/nameless:/bin/sh
windows:x:17:18::/windows` + "\r\n"
	group = `root:x:0:
users:x:100:
audio:x:29:root,worker
# worker is commented out here:x:30:worker
audio:x:31:worker
video:x:29:worker
1234:x:0:
empty:x::worker
negative:x:-5:worker
like:x:32:workers,awork,er
late:x:33:a,b,worker
nameless:x:34:,
`
)

// database makes a root filesystem with an etc.
func database(tb testing.TB, files map[string]string) userDatabase {
	tb.Helper()
	dir := tb.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		tb.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = root.Close() })
	return userDatabase{root: root}
}

func TestIdentify(t *testing.T) {
	d := database(t, map[string]string{"etc/passwd": passwd, "etc/group": group})
	of := func(uid, gid uint32, home string, groups ...uint32) *identity {
		return &identity{uid: uid, gid: gid, home: home, groups: append([]uint32{gid}, groups...)}
	}
	for name, c := range map[string]struct {
		p    containerizer.Process
		want *identity
	}{
		"nobody in particular":   {containerizer.Process{}, of(0, 0, "/root", 29)},
		"name":                   {containerizer.Process{User: "worker"}, of(1000, 100, "/home/worker", 29, 31, 33)},
		"number":                 {containerizer.Process{User: "1000"}, of(1000, 100, "/home/worker", 29, 31, 33)},
		"leading zeros":          {containerizer.Process{User: "0001000"}, of(1000, 100, "/home/worker", 29, 31, 33)},
		"number that is a name":  {containerizer.Process{User: "1234"}, of(1234, 0, "/")},
		"second entry of name":   {containerizer.Process{User: "2000"}, of(2000, 200, "/second", 29, 31, 33)},
		"second name of number":  {containerizer.Process{User: "twin"}, of(1000, 300, "/twin")},
		"number without entry":   {containerizer.Process{User: "5000"}, of(5000, 0, "/")},
		"last number":            {containerizer.Process{User: "2147483647"}, of(math.MaxInt32, 0, "/")},
		"name and group":         {containerizer.Process{User: "worker:audio"}, of(1000, 29, "/home/worker")},
		"name and number":        {containerizer.Process{User: "worker:77"}, of(1000, 77, "/home/worker")},
		"number and group":       {containerizer.Process{User: "5000:audio"}, of(5000, 29, "/")},
		"group that is a name":   {containerizer.Process{User: "5000:1234"}, of(5000, 1234, "/")},
		"only a group":           {containerizer.Process{User: ":audio"}, of(0, 29, "/root")},
		"few fields":             {containerizer.Process{User: "four"}, of(8, 9, "/")},
		"relative home":          {containerizer.Process{User: "nowhere"}, of(10, 11, "/")},
		"home with NUL":          {containerizer.Process{User: "nul"}, of(13, 14, "/")},
		"bad entry, good entry":  {containerizer.Process{User: "minus"}, of(11, 12, "/late")},
		"entry without name":     {containerizer.Process{User: "15"}, of(15, 16, "/nameless")},
		"line end of elsewhere":  {containerizer.Process{User: "windows"}, of(17, 18, "/windows")},
		"strict":                 {containerizer.Process{User: "worker", GroupsPolicy: containerizer.GroupsStrict}, of(1000, 100, "/home/worker")},
		"additional":             {containerizer.Process{User: "worker", AdditionalGroups: []string{"audio", "5", "100"}}, of(1000, 100, "/home/worker", 29, 31, 33, 5)},
		"strict and additional":  {containerizer.Process{User: "worker", GroupsPolicy: containerizer.GroupsStrict, AdditionalGroups: []string{"5", "video", "5"}}, of(1000, 100, "/home/worker", 5, 29)},
		"group and additional":   {containerizer.Process{User: "worker:users", AdditionalGroups: []string{"5"}}, of(1000, 100, "/home/worker", 5)},
		"additional as a number": {containerizer.Process{User: "5000", AdditionalGroups: []string{"1234"}}, of(5000, 0, "/", 1234)},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := d.identify(&c.p)
			if err != nil {
				t.Fatal(err)
			}
			got.known = nil
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(identity{})); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestIdentifyRefuses(t *testing.T) {
	d := database(t, map[string]string{"etc/passwd": passwd, "etc/group": group})
	for name, c := range map[string]struct {
		p    containerizer.Process
		want string
	}{
		"unknown user":             {containerizer.Process{User: "nobody"}, `user "nobody" is not in the container's /etc/passwd`},
		"unknown group":            {containerizer.Process{User: "0:nobody"}, `group "nobody" is not in the container's /etc/group`},
		"unknown additional group": {containerizer.Process{AdditionalGroups: []string{"nobody"}}, `group "nobody" is not in`},
		"comment as a user":        {containerizer.Process{User: "# people"}, "is not in"},
		"comment as a group":       {containerizer.Process{User: "0:# worker is commented out here"}, "is not in"},
		"entry too short":          {containerizer.Process{User: "short"}, "is not in"},
		"number in entry too big":  {containerizer.Process{User: "large"}, "is not in"},
		"sign in entry":            {containerizer.Process{User: "plus"}, "is not in"},
		"no number in entry":       {containerizer.Process{User: "0:empty"}, "is not in"},
		"empty group":              {containerizer.Process{User: "root:"}, "has an empty group"},
		"two colons":               {containerizer.Process{User: "root:users:x"}, `group "users:x" is neither a name nor a number`},
		"negative":                 {containerizer.Process{User: "-1"}, "neither a name nor a number"},
		"negative group":           {containerizer.Process{User: "0:-1"}, "neither a name nor a number"},
		"2^31":                     {containerizer.Process{User: "2147483648"}, "beyond the last id 2147483647"},
		"2^32":                     {containerizer.Process{User: "4294967296"}, "beyond the last id"},
		"beyond 64 bits":           {containerizer.Process{User: "0:99999999999999999999999"}, "beyond the last id"},
		"NUL":                      {containerizer.Process{User: "ro\x00ot"}, "neither a name nor a number"},
		"newline":                  {containerizer.Process{User: "root\nx"}, "neither a name nor a number"},
		"empty additional group":   {containerizer.Process{AdditionalGroups: []string{""}}, "an empty group"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := d.identify(&c.p)
			if got != nil || !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %+v, %v, want an invalid user: %q", got, err, c.want)
			}
		})
	}
}

// Without a database numbers are possible, names are not.
func TestIdentifyWithoutDatabase(t *testing.T) {
	for name, d := range map[string]userDatabase{
		"no files":         database(t, nil),
		"empty files":      database(t, map[string]string{"etc/passwd": "", "etc/group": "\n\n#\n"}),
		"etc is elsewhere": func() userDatabase { d := database(t, nil); replaceEtc(t, d); return d }(),
	} {
		t.Run(name, func(t *testing.T) {
			for user, want := range map[string]*identity{
				"": {home: "/", groups: []uint32{0}}, "12:13": {uid: 12, gid: 13, home: "/", groups: []uint32{13}},
			} {
				got, err := d.identify(&containerizer.Process{User: user})
				if err != nil {
					t.Fatal(err)
				}
				got.known = nil
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(identity{})); diff != "" {
					t.Errorf("user %q (-want +got):\n%s", user, diff)
				}
			}
			for _, user := range []string{"root", "0:root"} {
				if got, err := d.identify(&containerizer.Process{User: user}); !errors.Is(err, containerizer.ErrInvalid) {
					t.Errorf("user %q: got %+v, %v, want an invalid user", user, got, err)
				}
			}
		})
	}
}

// replaceEtc makes etc a file.
func replaceEtc(tb testing.TB, d userDatabase) {
	tb.Helper()
	etc := filepath.Join(d.root.Name(), "etc")
	if err := os.Remove(etc); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(etc, nil, 0o644); err != nil {
		tb.Fatal(err)
	}
}

// What an image may have in place of /etc/passwd.
func TestHostileDatabase(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("device nodes need root")
	}
	const unused = 240<<8 | 77 // a device number for local use: to open it would be ENXIO
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"fifo":      {func(p string) error { return unix.Mkfifo(p, 0o644) }, "is no regular file"},
		"device":    {func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o644, unused) }, "is no regular file"},
		"directory": {func(p string) error { return os.Mkdir(p, 0o755) }, "is no regular file"},
		"socket": {func(p string) error {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: p})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		}, "is no regular file"},
		"link to a fifo": {func(p string) error {
			return errors.Join(unix.Mkfifo(filepath.Join(filepath.Dir(p), "fifo"), 0o644), os.Symlink("fifo", p))
		}, "is no regular file"},
		"links in a circle": {func(p string) error { return os.Symlink("/etc/passwd", p) }, "too many levels of symbolic links"},
		"huge": {func(p string) error {
			return errors.Join(os.WriteFile(p, []byte(passwd), 0o644), os.Truncate(p, 1<<40))
		}, fmt.Sprintf("has %d bytes, at most %d are read", 1<<40, maxDatabaseBytes)},
		"one byte too many": {func(p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o644), os.Truncate(p, maxDatabaseBytes+1))
		}, "at most 8388608 are read"},
		"one long line": {func(p string) error {
			return os.WriteFile(p, []byte(strings.Repeat("x", maxLineBytes+1)+"\n"+passwd), 0o644)
		}, "token too long"},
		"holes": {func(p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o644), os.Truncate(p, maxDatabaseBytes))
		}, "token too long"},
	} {
		t.Run(name, func(t *testing.T) {
			d := database(t, nil)
			if err := c.make(filepath.Join(d.root.Name(), "etc/passwd")); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() {
				_, err := d.identify(&containerizer.Process{User: "worker"})
				done <- err
			}()
			select {
			case err := <-done:
				if !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "the container's /etc/passwd") {
					t.Fatalf("got %v, want an invalid file: %q", err, c.want)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it hangs")
			}
		})
	}
}

// A long line after the entry, and a file as large as can be, are no harm.
func TestLargeDatabase(t *testing.T) {
	filler := strings.Repeat("#"+strings.Repeat("x", maxLineBytes-2)+"\n", maxDatabaseBytes/maxLineBytes-1)
	for name, text := range map[string]string{
		"at the end":        filler + "worker:x:1000:100::/home/worker:/bin/sh\n",
		"before long lines": passwd + strings.Repeat("x", maxLineBytes*2),
		"without line end":  "worker:x:1000:100::/home/worker:/bin/sh",
	} {
		t.Run(name, func(t *testing.T) {
			id, err := database(t, map[string]string{"etc/passwd": text}).identify(&containerizer.Process{User: "worker"})
			if err != nil || id.uid != 1000 || id.gid != 100 || id.home != "/home/worker" {
				t.Fatalf("got %+v, %v", id, err)
			}
		})
	}
}

// Links are resolved as in the container: none leads to a file of the host.
func TestLinkedDatabase(t *testing.T) {
	host := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(host, []byte("worker:x:666:666::/host:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"absolute":     host,
		"up":           strings.Repeat("../", 20) + strings.TrimPrefix(host, "/"),
		"via own name": "/etc/../" + host,
	} {
		t.Run(name, func(t *testing.T) {
			d := database(t, nil)
			if err := os.Symlink(target, filepath.Join(d.root.Name(), "etc/passwd")); err != nil {
				t.Fatal(err)
			}
			if id, err := d.identify(&containerizer.Process{User: "worker"}); !errors.Is(err, containerizer.ErrInvalid) {
				t.Fatalf("got %+v, %v, want that nobody is there", id, err)
			}
			inside := filepath.Join(d.root.Name(), host)
			if err := os.MkdirAll(filepath.Dir(inside), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(inside, []byte(passwd), 0o644); err != nil {
				t.Fatal(err)
			}
			if id, err := d.identify(&containerizer.Process{User: "worker"}); err != nil || id.uid != 1000 {
				t.Fatalf("got %+v, %v, want the user of the file inside", id, err)
			}
		})
	}
}

// Groups beyond what the kernel takes are left out.
func TestManyGroups(t *testing.T) {
	var groups strings.Builder
	for g := range 450_000 {
		fmt.Fprintf(&groups, "g:x:%d:worker\n", g)
	}
	d := database(t, map[string]string{"etc/passwd": passwd, "etc/group": groups.String()})
	id, err := d.identify(&containerizer.Process{User: "worker"})
	if err != nil {
		t.Fatal(err)
	}
	if len(id.groups) != maxGroups || id.groups[0] != 100 || id.groups[1] != 0 {
		t.Fatalf("got %d groups, want %d", len(id.groups), maxGroups)
	}
	slices.Sort(id.groups)
	if n := len(slices.Compact(id.groups)); n != maxGroups {
		t.Fatalf("%d of %d groups are different", n, maxGroups)
	}
}

// Whatever is in an image's files, the identity is one that the kernel takes, and a
// number means itself.
func FuzzIdentify(f *testing.F) {
	f.Add("worker", passwd, group)
	f.Add("1234:1234", passwd, group)
	f.Add("\xff", "\xff:x:1:2\n", "")
	f.Add("a", "a:x:99999999999999999999:1\na:::\n#\n a : :", "a:::a,a")
	d := database(f, nil)
	f.Fuzz(func(t *testing.T, user, passwd, group string) {
		for name, text := range map[string]string{"etc/passwd": passwd, "etc/group": group} {
			if err := os.WriteFile(filepath.Join(d.root.Name(), name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		id, err := d.identify(&containerizer.Process{User: user})
		if err != nil {
			if id != nil || !errors.Is(err, containerizer.ErrInvalid) {
				t.Fatalf("user %q: got %+v, %v, want an invalid one", user, id, err)
			}
			return
		}
		if id.uid > math.MaxInt32 || !strings.HasPrefix(id.home, "/") || strings.ContainsAny(id.home, "\x00\n:") {
			t.Errorf("user %q is %+v", user, id)
		}
		if len(id.groups) == 0 || id.groups[0] != id.gid || len(id.groups) > maxGroups {
			t.Errorf("user %q has the groups %v, and is in %d", user, id.groups, id.gid)
		}
		for _, g := range id.groups {
			if g > math.MaxInt32 {
				t.Errorf("user %q has the group %d", user, g)
			}
		}
		name, groupName, hasGroup := strings.Cut(user, ":")
		if n, isNumber, _ := parseID("user", name); isNumber && n != id.uid {
			t.Errorf("user %q is %d", user, id.uid)
		}
		if n, isNumber, _ := parseID("group", groupName); hasGroup && isNumber && n != id.gid {
			t.Errorf("user %q is in %d", user, id.gid)
		}
	})
}

// Fields of a line are what is between the colons; the reader stops when told.
func FuzzScanLines(f *testing.F) {
	f.Add(passwd)
	f.Add("a:b\n\n#c\n:\n\x00\r\n")
	f.Add(strings.Repeat(":", 50) + "a:#\n" + strings.Repeat("\n", 50))
	f.Fuzz(func(t *testing.T, text string) {
		var all [][]string
		err := scanLines(strings.NewReader(text), "etc/passwd", func(fields []string) bool {
			line := strings.Join(fields, ":")
			if line == "" || line[0] == '#' || strings.ContainsRune(line, '\n') || !strings.Contains(text, line) {
				t.Fatalf("%q is no line of %q", line, text)
			}
			all = append(all, fields)
			return true
		})
		if err != nil && !errors.Is(err, containerizer.ErrInvalid) {
			t.Fatalf("%q: an error without class: %v", text, err)
		}
		lines := 0
		err = scanLines(strings.NewReader(text), "etc/passwd", func([]string) bool { lines++; return false })
		if lines != min(len(all), 1) || lines == 1 && err != nil {
			t.Fatalf("%q: it was called %d times, %v, after it had enough", text, lines, err)
		}
	})
}
