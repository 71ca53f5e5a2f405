package monitor_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/monitor/client"
	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

// instances of each monitor that are measured together: text is shared, as on a node.
const instances = 20

// memory is that of a process in KiB.
type memory struct{ rss, pss, private, threads int }

func measure(tb testing.TB, pid int) (m memory) {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var n int
		key, value, _ := strings.Cut(line, ":")
		_, _ = fmt.Sscan(value, &n)
		switch key {
		case "Rss":
			m.rss = n
		case "Pss":
			m.pss = n
		case "Private_Dirty", "Private_Clean":
			m.private += n
		}
	}
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	m.threads = len(tasks)
	return m
}

// average measures processes together.
func average(tb testing.TB, what string, pids []int) memory {
	tb.Helper()
	var sum memory
	for _, pid := range pids {
		m := measure(tb, pid)
		sum.rss, sum.pss, sum.private, sum.threads = sum.rss+m.rss, sum.pss+m.pss, sum.private+m.private, sum.threads+m.threads
	}
	n := len(pids)
	m := memory{sum.rss / n, sum.pss / n, sum.private / n, sum.threads / n}
	tb.Logf("%-34s PSS %4d KiB, private %4d, RSS %5d, threads %d (%d instances)", what, m.pss, m.private, m.rss, m.threads, n)
	return m
}

// quiet waits until a monitor has given back what it does not need.
func quiet() { pass(1500) }

// monitors starts monitors with some containers each.
func monitors(tb testing.TB, containers int) (pids []int) {
	tb.Helper()
	for range instances {
		f := start(tb, client.Options{ExitCommand: []string{"/bin/true"}, Env: []string{"PATH=/bin:/usr/bin"}})
		for i := range containers {
			r := request(tb, "id."+strconv.Itoa(i), "", tb.TempDir(), options{command: []string{"/bin/sleep", "1000"}})
			r.Stdin = wire.StdinOpen
			f.launch(r)
		}
		pids = append(pids, f.pid)
		_ = f.Close() // as after run -d
	}
	quiet()
	return pids
}

// conmons starts conmons with one container each, which a runtime of four lines makes.
func conmons(tb testing.TB, path string) (pids []int) {
	tb.Helper()
	dir := tb.TempDir()
	runtime := filepath.Join(dir, "runtime")
	script := `#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --pid-file ] && pidfile=$2; shift; done
/bin/sleep 1000 &
echo $! > "$pidfile"
`
	if err := os.WriteFile(runtime, []byte(script), 0o700); err != nil {
		tb.Fatal(err)
	}
	for i := range instances {
		id := "c" + strconv.Itoa(i)
		file := func(name string) string { return filepath.Join(dir, id+name) }
		if err := os.Mkdir(file(".bundle"), 0o700); err != nil {
			tb.Fatal(err)
		}
		cmd := exec.CommandContext(contextOf(tb), path, "-c", id, "-u", id, "-n", id, "-r", runtime, "-b", file(".bundle"), "-p", file(".pid"),
			"-P", file(".conmon"), "-l", "k8s-file:"+file(".log"), "--exit-dir", dir, "--socket-dir-path", dir, "-i",
			"--exit-command", "/bin/true", "--exit-command-arg", "reap")
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Fatalf("conmon: %v\n%s", err, out)
		}
		for _, name := range []string{".conmon", ".pid"} {
			var pid int
			eventually(tb, "conmon "+name, func() bool {
				b, _ := os.ReadFile(file(name))
				pid, _ = strconv.Atoi(string(bytes.TrimSpace(b)))
				return pid > 0
			})
			if name == ".conmon" {
				pids = append(pids, pid)
			}
			tb.Cleanup(func() {
				_ = unix.Kill(pid, unix.SIGKILL)
				eventually(tb, "end of conmon's processes", func() bool { return !alive(pid) })
			})
		}
	}
	quiet()
	return pids
}

// A monitor takes at most 1.5 times the memory of conmon for one container, and
// less than conmon for each of two.
func TestMemory(t *testing.T) {
	one := average(t, "berth-monitor, one container", monitors(t, 1))
	two := average(t, "berth-monitor, two containers", monitors(t, 2))
	if one.pss > 600 {
		t.Errorf("PSS %d KiB, more than 600", one.pss)
	}
	path, err := exec.LookPath("conmon")
	if err != nil {
		t.Log("no conmon here to compare with")
		return
	}
	conmon := average(t, "conmon, one container", conmons(t, path))
	t.Logf("PSS per container: %.2f of conmon's with one container, %.2f with two", float64(one.pss)/float64(conmon.pss), float64(two.pss)/2/float64(conmon.pss))
	if one.pss*2 > conmon.pss*3 || two.pss > conmon.pss*2 {
		t.Errorf("more than allowed: 1.5 for one, 1 for each of two")
	}
}

// What passes through a monitor leaves nothing behind.
func TestMemoryAfterWork(t *testing.T) {
	f := start(t, client.Options{})
	r := request(t, "a", "", "", options{command: []string{"/bin/sleep", "1000"}})
	f.launch(r)
	quiet()
	before := measure(t, f.pid)
	for i := range 600 {
		e := request(t, "e"+strconv.Itoa(i), "head -c 100000 /dev/zero", f.dir, options{})
		e.Exec, e.Record = true, nil
		e.IO, _, _ = streams(nil)
		p := f.launch(e)
		f.status(p, 0)
		_ = p.Session().Wait()
	}
	quiet()
	after := measure(t, f.pid)
	t.Logf("PSS %d KiB before 600 execs, %d after", before.pss, after.pss)
	if after.pss > before.pss+200 {
		t.Errorf("PSS grew from %d to %d KiB", before.pss, after.pss)
	}
	if n := countFDs(t, f.pid); n > 20 {
		t.Errorf("%d descriptors are open", n)
	}
}

// Garbage is collected once there is enough of it, and the collection makes
// neither huge pages nor work for later.
func TestMemoryAfterCollection(t *testing.T) {
	f := start(t, client.Options{})
	f.launch(request(t, "a", "", "", options{command: []string{"/bin/sleep", "1000"}}))
	quiet()
	before := measure(t, f.pid)
	bad := request(t, "b", "", "", options{})
	bad.ProgramSize--
	for range 5000 {
		if _, err := f.Launch(f.ctx(), bad); err == nil {
			t.Fatal("launched a program that is cut short")
		}
	}
	quiet()
	after := measure(t, f.pid)
	t.Logf("PSS %d KiB before 5000 refused launches, %d after", before.pss, after.pss)
	if after.pss > before.pss+600 {
		t.Errorf("PSS grew from %d to %d KiB", before.pss, after.pss)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", f.pid))
	if err != nil {
		t.Fatal(err)
	}
	notEligible := regexp.MustCompile(`\nTHPeligible: +0\n`) // of a width that depends on the kernel
	for vma := range strings.SplitSeq(string(maps), "VmFlags:") {
		var size int
		_, rest, _ := strings.Cut(vma, "\nSize:")
		_, _ = fmt.Sscan(rest, &size)
		if strings.Contains(vma, " rw-p ") && size >= 2048 && !notEligible.MatchString(vma) {
			t.Errorf("huge pages are possible in %q", vma)
		}
	}
	f.sleeps(t)
}

// An idle monitor does nothing at all.
func TestIdle(t *testing.T) {
	f := start(t, client.Options{})
	f.launch(request(t, "a", "exec sleep 1000", f.dir, options{}))
	quiet()
	f.sleeps(t)
}

// sleeps checks that the monitor does not wake up. Once a minute the Go runtime
// does, and a busy machine may be late with what was to be done before.
func (f *fixture) sleeps(t *testing.T) {
	t.Helper()
	var woke int
	for range 4 {
		before := switches(t, f.pid)
		pass(2000)
		if woke = switches(t, f.pid) - before; woke == 0 {
			return
		}
	}
	t.Errorf("the idle monitor woke up %d times in 2 s", woke)
}

// switches counts voluntary context switches of all threads.
func switches(tb testing.TB, pid int) (n int) {
	tb.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "\nvoluntary_ctxt_switches:")
		var k int
		_, _ = fmt.Sscan(rest, &k)
		n += k
	}
	return n
}
