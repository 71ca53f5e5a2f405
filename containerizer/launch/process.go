package launch

import (
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/program"
)

// hostProcess notes what the monitor does for the process because only the host's
// root may: the OOM score.
func (k *compiler) hostProcess(info *containerizer.LaunchInfo) {
	score := info.OOMScoreAdj
	if own := k.c.Process.OOMScoreAdj; own != nil {
		score = own
	}
	if score != nil {
		k.OOMScoreAdj(*score)
	}
}

// network brings loopback up.
func (k *compiler) network() {
	if !k.c.Info.LoopbackUp {
		return
	}
	k.step("bring the loopback interface up")
	socket := k.NewSlot()
	k.Call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0).To(socket)
	ifreq := make([]byte, 40) // netdevice(7)
	copy(ifreq, "lo")
	binary.NativeEndian.PutUint16(ifreq[16:], unix.IFF_UP)
	k.Call(unix.SYS_IOCTL, socket, unix.SIOCSIFFLAGS, k.Bytes(ifreq))
	k.closeSlot(socket)
}

// names sets the host and domain name.
func (k *compiler) names() {
	if h := k.c.Info.Hostname; h != "" {
		k.step(fmt.Sprintf("set the hostname %q", h))
		k.Call(unix.SYS_SETHOSTNAME, k.Text(h), len(h))
	}
	if d := k.c.Info.Domainname; d != "" {
		k.step(fmt.Sprintf("set the domain name %q", d))
		k.Call(unix.SYS_SETDOMAINNAME, k.Text(d), len(d))
	}
}

// sysctls are written through the host's /proc, by a descriptor: the files of the
// namespaces are those of the process that opens them.
func (k *compiler) sysctls() {
	for _, name := range slices.Sorted(maps.Keys(k.c.Info.Sysctl)) {
		value := k.c.Info.Sysctl[name]
		k.step(fmt.Sprintf("set sysctl %s to %q", name, value))
		k.writeFile(k.hostProc, "sys/"+strings.ReplaceAll(name, ".", "/"), value)
	}
}

// labels sets the LSM label of the next execve. It comes before any change of
// identity: the files belong to the host's root while the monitor is not dumpable.
func (k *compiler) labels() {
	if p := k.c.Process.AppArmorProfile; p != "" {
		k.step(fmt.Sprintf("use the AppArmor profile %q", p))
		k.writeFile(k.hostProc, "self/attr/apparmor/exec", "exec "+p)
	}
	if l := k.c.Process.SELinuxLabel; l != "" {
		k.step(fmt.Sprintf("use the SELinux label %q", l))
		k.writeFile(k.hostProc, "self/attr/exec", l)
	}
}

// workingDir goes to the working directory. Its descriptor is opened without magic
// links, so that it cannot be one of the descriptors still open here
// (CVE-2024-21626).
func (k *compiler) workingDir(create bool) {
	dir := k.c.Process.WorkingDir
	if dir == "" {
		dir = "/"
	}
	k.step(fmt.Sprintf("open the working directory %q", dir))
	slot := program.Slot(0)
	if create && path.Clean(dir) != "/" {
		slot = k.target(path.Clean(dir), true, 0)
	} else {
		slot = k.NewSlot()
		k.open(atFDCWD, dir, unix.O_PATH|unix.O_DIRECTORY, 0, slot)
	}
	k.cwd = slot
}

// keyring gives the process a session keyring of its own, which keeps the host's
// keys away (session-keyring(7)). It is made by the host's root, whose quota no
// container exhausts.
func (k *compiler) keyring() {
	k.step("make a session keyring")
	k.Call(unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, k.Text("_ses."+k.c.ID.Short())).Accept(0, unix.ENOSYS, unix.EPERM, unix.EDQUOT)
}

// streams gives the process its standard streams and its working directory.
func (k *compiler) streams(stdio [3]program.Slot, terminal program.Slot) {
	k.step("set up the standard streams")
	// The monitor keeps its own 0, 1 and 2 open, so that no input is among them.
	for fd, s := range stdio {
		if terminal != 0 {
			s = terminal
		}
		k.Call(unix.SYS_DUP3, s, fd, 0).Accept(0, unix.EINVAL)
	}
	k.step("go to the working directory " + fmt.Sprintf("%q", k.c.Process.WorkingDir))
	k.Call(unix.SYS_FCHDIR, k.cwd)
}

// session makes the process the leader of a session, with the terminal that its
// standard streams are by now.
func (k *compiler) session(terminal program.Slot) {
	k.step("make a session")
	k.Call(unix.SYS_SETSID)
	if terminal != 0 {
		k.Call(unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
}

// The descriptors that are open at execve beside the standard streams, both
// close-on-exec: the progress socket, and the mini-init if there is one.
const (
	progressFD = 3
	initFD     = 4
)

// execute ends the program: it waits to be started if it must, and executes the
// command.
func (k *compiler) execute() {
	if k.hasStartHooks() {
		// What runs in the container meanwhile may be allowed to trace (ptrace(2)), and
		// finds nothing here that it does not have itself.
		k.confine()
		k.step("wait for the hooks in the container, and to be started")
		k.hold()
		k.command()
		return
	}
	if k.c.Hold {
		k.step("wait to be started")
		k.hold()
	}
	k.become()
}

// become takes what privilege is left, and executes the command.
func (k *compiler) become() {
	k.confine()
	k.command()
}

// confine takes what privilege is left.
func (k *compiler) confine() {
	k.Call(unix.SYS_UMASK, int(k.c.Process.Umask))
	k.filterBeforeCapabilities()
	k.capabilities()
	k.filterAfterCapabilities()
}

// command lets signals in, and looks for the command along PATH.
func (k *compiler) command() {
	p := &k.c.Process
	k.step("let signals in")
	k.Call(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, k.Words(0), 0, 8)
	k.exec = k.Len()
	if k.init != 0 {
		k.executeInit()
		return
	}
	argv, envp := k.Strings(p.Args), k.Strings(p.Env)
	if p.Path != "" {
		k.Call(unix.SYS_EXECVE, k.Text(p.Path), argv, envp)
		return
	}
	for _, candidate := range candidates(p.Args[0], p.Env) {
		k.Call(unix.SYS_EXECVE, k.Text(candidate), argv, envp).With(program.FlagNote).Accept(0, unix.ENOENT, unix.ENOTDIR, unix.EACCES)
	}
	k.Call(program.OpFail, int(unix.ENOENT))
}

// closeAll closes everything but the descriptors 0 to initFD. Both sources are
// duplicated to high numbers first, since each may be where the other goes. It
// comes before the limits of the process, which may allow fewer descriptors.
func (k *compiler) closeAll() {
	k.step("close all descriptors")
	const aside = 10
	progress := k.NewSlot()
	k.Call(unix.SYS_FCNTL, program.Progress, unix.F_DUPFD_CLOEXEC, aside).To(progress)
	last := progressFD
	if k.init != 0 {
		file := k.NewSlot()
		k.Call(unix.SYS_FCNTL, k.init, unix.F_DUPFD_CLOEXEC, aside).To(file)
		k.Call(unix.SYS_DUP3, file, initFD, unix.O_CLOEXEC)
		last = initFD
	}
	k.Call(unix.SYS_DUP3, progress, progressFD, unix.O_CLOEXEC)
	k.Call(unix.SYS_CLOSE_RANGE, last+1, uint64(^uint32(0)), 0)
	k.closed = true
}

// executeInit looks the command up, so that a missing one fails the launch, and
// executes the mini-init with it.
func (k *compiler) executeInit() {
	p := &k.c.Process
	argv := k.Strings([]string{initName})
	if len(p.Args) > 0 {
		argv = k.Strings(append([]string{initName, ""}, p.Args...))
		var found []program.Branch
		for _, candidate := range candidates(p.Args[0], p.Env) {
			path := k.Text(candidate)
			k.Call(unix.SYS_FACCESSAT2, atFDCWD, path, unix.X_OK, unix.AT_EACCESS).With(program.FlagNote).Accept(2, unix.ENOENT, unix.ENOTDIR, unix.EACCES)
			k.Call(program.OpStoreWord, argv+8, path)
			found = append(found, k.Jump())
		}
		k.Call(program.OpFail, int(unix.ENOENT))
		for _, f := range found {
			k.Land(f)
		}
	}
	k.Call(unix.SYS_EXECVEAT, initFD, k.Text(""), argv, k.Strings(p.Env), unix.AT_EMPTY_PATH)
}

// candidates are the paths at which a command may be (execvp(3)).
func candidates(name string, env []string) []string {
	if strings.ContainsRune(name, '/') {
		return []string{name}
	}
	search := DefaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	var list []string
	for dir := range strings.SplitSeq(search, ":") {
		if dir == "" {
			dir = "."
		}
		list = append(list, path.Join(dir, name))
	}
	return list
}

// DefaultPath is PATH where neither the image nor the user gives one.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// rlimitNumbers are the resources of getrlimit(2).
//
//nolint:gochecknoglobals // a constant table
var rlimitNumbers = [...]string{
	"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE",
	"RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
}

// mayClone says whether the process can still be cloned when it has its limits and
// its scheduling policy: some policies are lost or refused (sched(7)).
func (k *compiler) mayClone() bool {
	limited := slices.ContainsFunc(k.c.Process.Rlimits, func(r specs.POSIXRlimit) bool { return r.Type == "RLIMIT_NPROC" })
	return k.c.Process.Scheduler == nil && !limited
}

// hostLimits lets the monitor raise limits, which the root of a user namespace may
// not.
func (k *compiler) hostLimits() {
	for _, r := range k.c.Process.Rlimits {
		if n := slices.Index(rlimitNumbers[:], r.Type); n >= 0 {
			k.Rlimit(n, r.Soft, r.Hard)
		}
	}
}

// limits sets the resource limits and the scheduling of the process.
func (k *compiler) limits() error {
	p := &k.c.Process
	for _, r := range p.Rlimits {
		n := slices.Index(rlimitNumbers[:], r.Type)
		if n < 0 {
			return fmt.Errorf("resource limit %q is unknown: %w", r.Type, containerizer.ErrInvalid)
		}
		k.step(fmt.Sprintf("set %s to %d:%d", r.Type, r.Soft, r.Hard))
		k.Call(unix.SYS_PRLIMIT64, 0, n, k.Words(r.Soft, r.Hard), 0)
	}
	if p.IOPriority != nil {
		class, ok := map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}[p.IOPriority.Class]
		if !ok || p.IOPriority.Priority < 0 || p.IOPriority.Priority > 7 {
			return fmt.Errorf("i/o priority %v: the class is one of IOPRIO_CLASS_RT, _BE, _IDLE and the level 0 to 7: %w", *p.IOPriority, containerizer.ErrInvalid)
		}
		const whoProcess, classShift = 1, 13
		k.step("set the i/o priority")
		k.Call(unix.SYS_IOPRIO_SET, whoProcess, 0, class<<classShift|p.IOPriority.Priority)
	}
	return k.scheduler()
}

func (k *compiler) scheduler() error {
	s := k.c.Process.Scheduler
	if s == nil {
		return nil
	}
	policy, ok := map[specs.LinuxSchedulerPolicy]uint32{
		specs.SchedOther: 0, specs.SchedFIFO: 1, specs.SchedRR: 2, specs.SchedBatch: 3, specs.SchedISO: 4, specs.SchedIdle: 5, specs.SchedDeadline: 6,
	}[s.Policy]
	if !ok {
		return fmt.Errorf("scheduling policy %q is unknown: %w", s.Policy, containerizer.ErrInvalid)
	}
	var flags uint64
	for _, f := range s.Flags {
		bit, ok := map[specs.LinuxSchedulerFlag]uint64{
			specs.SchedFlagResetOnFork: 1, specs.SchedFlagReclaim: 2, specs.SchedFlagDLOverrun: 4, specs.SchedFlagKeepPolicy: 8,
			specs.SchedFlagKeepParams: 16, specs.SchedFlagUtilClampMin: 32, specs.SchedFlagUtilClampMax: 64,
		}[f]
		if !ok {
			return fmt.Errorf("scheduling flag %q is unknown: %w", f, containerizer.ErrInvalid)
		}
		flags |= bit
	}
	// struct sched_attr (sched_setattr(2)).
	attr := make([]byte, 48)
	binary.NativeEndian.PutUint32(attr[0:], uint32(len(attr)))
	binary.NativeEndian.PutUint32(attr[4:], policy)
	binary.NativeEndian.PutUint64(attr[8:], flags)
	binary.NativeEndian.PutUint32(attr[16:], uint32(s.Nice))
	binary.NativeEndian.PutUint32(attr[20:], uint32(s.Priority))
	binary.NativeEndian.PutUint64(attr[24:], s.Runtime)
	binary.NativeEndian.PutUint64(attr[32:], s.Deadline)
	binary.NativeEndian.PutUint64(attr[40:], s.Period)
	k.step(fmt.Sprintf("set the scheduling policy %s", s.Policy))
	k.Call(unix.SYS_SCHED_SETATTR, 0, k.Bytes(attr), 0)
	return nil
}
