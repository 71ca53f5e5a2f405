// The Go runtime shall not open files of the control group (for GOMAXPROCS).
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0
package security_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// attack is what the test binary does inside a container.
func attack(args []string) int {
	attacks := map[string]func(args []string){
		"reach": reach, "smash": smash, "kill": killNew, "keyring": keyring, "inject": inject,
		"ids":  func([]string) { fmt.Println(os.Getuid(), os.Geteuid()) },
		"fill": fill, "inherited": inherited,
	}
	do := attacks[args[0]]
	if do == nil {
		fmt.Println("no such attack")
		return 1
	}
	do(args[1:])
	return 0
}

// newcomers calls do again and again with every other process that is none of a
// program in the container, until the file /stop is there.
func newcomers(do func(pid string)) {
	fmt.Println("ready")
	self := strconv.Itoa(os.Getpid())
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if _, err := os.Stat("/stop"); err == nil {
			return
		}
		dir, err := os.Open("/proc")
		if err != nil {
			return
		}
		names, _ := dir.Readdirnames(-1)
		_ = dir.Close()
		for _, name := range names {
			if name[0] < '0' || name[0] > '9' || name == self {
				continue
			}
			if isNew(name) {
				do(name)
			}
		}
	}
}

// isNew says whether a process has not executed a program of the container yet.
func isNew(pid string) bool {
	exe, err := os.Readlink("/proc/" + pid + "/exe")
	return !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) && exe != "/bin/busybox" && exe != "/attack"
}

// reach tries to get hold of what processes have that are about to join.
func reach([]string) {
	found, tried := map[string]bool{}, 0
	newcomers(func(pid string) {
		tried++
		reached := reachOne("/proc/" + pid + "/")
		if !isNew(pid) {
			return // it may have been one of the container's when it was reached
		}
		for _, what := range reached {
			found[what] = true
		}
	})
	fmt.Println("tried", tried)
	for what := range found {
		fmt.Println(what)
	}
}

// reachOne tries what there is in a directory of proc.
func reachOne(dir string) (found []string) {
	if exe, err := os.Open(dir + "exe"); err == nil {
		found = append(found, "exe")
		w, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", exe.Fd()), os.O_WRONLY|os.O_TRUNC, 0)
		if err == nil || !errors.Is(err, unix.EROFS) {
			found = append(found, fmt.Sprint("writing exe: ", err))
			_ = w.Close() // nil, as a rule
		}
		_ = exe.Close() // read only
	}
	if mem, err := os.OpenFile(dir+"mem", os.O_RDWR, 0); err == nil {
		found = append(found, "mem")
		_ = mem.Close() // nothing was written
		status, _ := os.ReadFile(dir + "status")
		for line := range strings.Lines(string(status)) {
			if caps, ok := strings.CutPrefix(line, "CapPrm:"); ok {
				found = append(found, "caps "+strings.TrimSpace(caps))
			}
		}
	}
	if _, err := os.ReadFile(dir + "environ"); err == nil {
		found = append(found, "environ")
	}
	if _, err := os.Stat(dir + "cwd/."); err == nil {
		found = append(found, "cwd")
	}
	fds, _ := filepath.Glob(dir + "fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && target != "/dev/null" && target[0] == '/' {
			found = append(found, "fd "+target)
		}
	}
	return found
}

// inherited prints what a process should not have got from its launcher.
func inherited([]string) {
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		switch {
		case err != nil: // the listing's own
		case len(fd.Name()) > 1 || fd.Name() > "2", target[0] == '/' && target != "/dev/null" && !strings.HasPrefix(target, "/dev/pts/"):
			fmt.Println("descriptor", fd.Name(), target)
		}
	}
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); name != "PATH" && name != "HOME" && name != "HOSTNAME" && name != "TERM" {
			fmt.Println("variable", e)
		}
	}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if key, value, _ := strings.Cut(line, ":"); (key == "SigIgn" || key == "SigBlk") && strings.Trim(value, "0\t\n") != "" {
			fmt.Println("signals", line)
		}
	}
	if cwd, err := os.Readlink("/proc/self/cwd"); cwd != "/" {
		fmt.Println("working directory", cwd, err)
	}
	if adjustment, _ := os.ReadFile("/proc/self/oom_score_adj"); string(adjustment) < "0" {
		fmt.Println("OOM score", string(adjustment))
	}
}

// smash overwrites the memory of processes that are about to join.
func smash([]string) {
	garbage := bytes.Repeat([]byte{0xff}, 1<<16)
	smashed := 0
	newcomers(func(pid string) {
		mem, err := os.OpenFile("/proc/"+pid+"/mem", os.O_RDWR, 0)
		if err != nil {
			return
		}
		defer func() { _ = mem.Close() }() // what was written is what it was for
		if !isNew(pid) {
			return // it was one of the container's by then
		}
		maps, _ := os.ReadFile("/proc/" + pid + "/maps")
		for line := range strings.Lines(string(maps)) {
			var from, to int64
			var flags string
			if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &flags); n < 3 || !strings.HasPrefix(flags, "rw") {
				continue
			}
			for at := from; at < to && at < from+1<<20; at += int64(len(garbage)) {
				if _, err := mem.WriteAt(garbage[:min(int64(len(garbage)), to-at)], at); err == nil {
					smashed++
				}
			}
		}
	})
	fmt.Println("smashed", smashed)
}

// killNew sends a signal that dumps core to processes that are about to join.
func killNew([]string) {
	newcomers(func(pid string) {
		if n, err := strconv.Atoi(pid); err == nil && n > 1 {
			_ = unix.Kill(n, unix.SIGABRT) // it may have ended
		}
	})
}

// keyring prints the name of the session keyring.
func keyring([]string) {
	name, err := sessionKeyring()
	fmt.Println(name, err)
}

func sessionKeyring() (string, error) {
	id, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false)
	if err != nil {
		return "", err
	}
	text, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, id)
	return fmt.Sprint(id, " ", text), err
}

// inject types into every terminal in reach.
func inject([]string) {
	for _, path := range []string{"/dev/tty", "/dev/console", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"} {
		fd, err := unix.Open(path, unix.O_RDWR, 0) // and not O_NOCTTY
		if err != nil {
			continue
		}
		for _, c := range []byte("INJECTED\n") {
			_ = unix.IoctlSetPointerInt(fd, unix.TIOCSTI, int(c)) // refused, as it should be
		}
		_ = unix.Close(fd)
	}
	for fd := range 3 {
		for _, c := range []byte("INJECTED\n") {
			_ = unix.IoctlSetPointerInt(fd, unix.TIOCSTI, int(c)) // refused, as it should be
		}
	}
}

// fill takes so many MiB of memory that belong to no process.
func fill(args []string) {
	mib, _ := strconv.Atoi(args[0])
	f, err := os.OpenFile("/dev/shm/fill", os.O_CREATE|os.O_WRONLY, 0o600)
	for range mib {
		if err == nil {
			_, err = f.Write(make([]byte, 1<<20))
		}
	}
	fmt.Println("filled", err)
}
