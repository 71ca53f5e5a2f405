package security_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Names, variables and sizes that would change the meaning of something else, or do
// not fit, are refused with one line; what is allowed arrives as it was given.
func TestInput(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	rootfs := n.rootfs()
	write := func(name, content string) string {
		path := filepath.Join(n.dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	long := strings.Repeat("x", 100_000)
	for name, c := range map[string]struct {
		flags []string
		code  int
		want  string
	}{
		"variable with a line break":     {[]string{"-e", "A=1\nB=2"}, 0, "1\nB=2:unset"},
		"variable that is a file":        {[]string{"--env-file", "/proc/self/mem"}, 125, ""},
		"file of variables with a zero":  {[]string{"--env-file", write("zero", "A=1\x00B=2\n")}, 125, ""},
		"more variables than execve":     {[]string{"--env-file", write("many", strings.Repeat("A=1\n", 10)+strings.Repeat("V="+long+"\n", 40))}, -1, ""},
		"a variable of a megabyte":       {[]string{"--env-file", write("large", "A="+strings.Repeat(long, 10)+"\n")}, -1, ""},
		"host name with a line break":    {[]string{"--hostname", "a\n6.6.6.6 b"}, 125, ""},
		"host name that is too long":     {[]string{"--hostname", long}, 125, ""},
		"host with a line break":         {[]string{"--add-host", "x\n6.6.6.6 y:1.2.3.4"}, 125, ""},
		"address with a line break":      {[]string{"--add-host", "x:1.2.3.4\n6.6.6.6 y"}, 125, ""},
		"search domain with a break":     {[]string{"--dns-search", "a\nnameserver 6.6.6.6"}, 125, ""},
		"name server with a break":       {[]string{"--dns", "1.1.1.1\nnameserver 6.6.6.6"}, 125, ""},
		"name that goes up":              {[]string{"--name", "../../x"}, 125, ""},
		"name with a slash":              {[]string{"--name", "a/b"}, 125, ""},
		"name that is a flag":            {[]string{"--name", "-x"}, 125, ""},
		"name that is a dot":             {[]string{"--name", "."}, 125, ""},
		"name with a line break":         {[]string{"--name", "a\nb"}, 125, ""},
		"name with an escape sequence":   {[]string{"--name", "a\x1b[31m"}, 125, ""},
		"name that is too long":          {[]string{"--name", long}, 125, ""},
		"mounted volume that goes up":    {[]string{"--mount", "type=volume,source=../../x,target=/x"}, 125, ""},
		"part of a volume that goes up":  {[]string{"--mount", "type=volume,source=x,target=/x,volume-subpath=../../.."}, 125, ""},
		"mount that goes up":             {[]string{"-v", "/tmp:/../../x"}, 0, ":unset"},
		"pids of a path":                 {[]string{"--pid", "container:../../x"}, 125, ""},
		"network of a path":              {[]string{"--network", "container:../../../proc/1"}, 125, ""},
		"network namespace of a file":    {[]string{"--network", "ns:/etc/passwd"}, 125, ""},
		"group above the node's":         {[]string{"--cgroup-parent", "/../.."}, 125, ""},
		"group of the kernel's files":    {[]string{"--cgroup-parent", "/tasks"}, 125, ""},
		"sysctl with a path":             {[]string{"--sysctl", "net/../kernel/core_pattern=x"}, 125, ""},
		"sysctl that goes up":            {[]string{"--sysctl", "net...kernel.core_pattern=x"}, 125, ""},
		"sysctl with a break":            {[]string{"--sysctl", "net.ipv4.ip_forward=1\nx"}, 125, ""},
		"profile that is a device":       {[]string{"--security-opt", "seccomp=/dev/zero"}, 125, ""},
		"profile that is a pipe":         {[]string{"--security-opt", "seccomp=/proc/self/fd/0"}, 125, ""},
		"working directory with a zero":  {[]string{"-w", "relative/../.."}, 125, ""},
		"mask of everything":             {[]string{"--security-opt", "mask=/"}, -1, ""},
		"tmpfs over everything":          {[]string{"--tmpfs", "/"}, 125, ""},
		"tmpfs with an option of others": {[]string{"--tmpfs", "/t:size=1m,lowerdir=/etc"}, 125, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := n.in(t).sh(rootfs, `echo "$A:${B-unset}"`, c.flags...)
			if c.code >= 0 && (r.code != c.code || r.stdout != c.want) {
				t.Errorf("got code %d, %.200q, %.300q, want code %d and %q", r.code, r.stdout, r.stderr, c.code, c.want)
			}
			if r.code == 125 && strings.Count(r.stderr, "\n") != 1 {
				t.Errorf("standard error %.300q, want one line", r.stderr)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(n.dir, "x")); err == nil {
		t.Error("a name has become a file")
	}
	n.run("volume", "rm", "x")
}
