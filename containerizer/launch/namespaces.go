package launch

import (
	"fmt"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/interp"
	"github.com/berth-dev/berth/containerizer/launch/program"
)

// CloneFlag returns the CLONE_NEW flag of a kind of namespace, 0 for an unknown one.
func CloneFlag(t specs.LinuxNamespaceType) uint64 {
	switch t {
	case specs.MountNamespace:
		return unix.CLONE_NEWNS
	case specs.UTSNamespace:
		return unix.CLONE_NEWUTS
	case specs.IPCNamespace:
		return unix.CLONE_NEWIPC
	case specs.PIDNamespace:
		return unix.CLONE_NEWPID
	case specs.NetworkNamespace:
		return unix.CLONE_NEWNET
	case specs.UserNamespace:
		return unix.CLONE_NEWUSER
	case specs.CgroupNamespace:
		return unix.CLONE_NEWCGROUP
	case specs.TimeNamespace:
		return unix.CLONE_NEWTIME
	}
	return 0
}

// lateNamespaces are unshared by the process itself: the cgroup namespace's root is
// the cgroup that it is in by then, and the time namespace's offsets must be set
// before anybody enters it (time_namespaces(7)).
const lateNamespaces = unix.CLONE_NEWCGROUP | unix.CLONE_NEWTIME

// namespacePlan is which namespaces are made, and how, and which are joined.
type namespacePlan struct {
	clone, late uint64
	joins       []join
	joinUser    *join
	staged      bool
	cgroupDir   program.Slot   // version 2, to be cloned into
	tasks       []program.Slot // version 1, tasks files
	tasksPaths  []string
}

type join struct {
	slot program.Slot
	flag uint64
	what string
}

func (k *compiler) planNamespaces() (*namespacePlan, error) {
	p, err := k.planCgroup()
	if err != nil {
		return nil, err
	}
	for _, n := range k.c.Info.Namespaces {
		if err := k.planNamespace(p, n); err != nil {
			return nil, err
		}
	}
	if p.clone&unix.CLONE_NEWNS == 0 {
		return nil, fmt.Errorf("a container needs a mount namespace of its own: %w", containerizer.ErrInvalid)
	}
	newUser := p.clone&unix.CLONE_NEWUSER != 0
	if newUser && (len(k.c.Info.UIDMappings) == 0 || len(k.c.Info.GIDMappings) == 0) {
		return nil, fmt.Errorf("a new user namespace needs uid and gid mappings: %w", containerizer.ErrInvalid)
	}
	// Joining needs the privilege of the host, so it comes before the new user
	// namespace.
	p.staged = p.staged || p.joinUser != nil || newUser && len(p.joins) > 0
	return p, nil
}

// planNamespace adds one namespace to the plan.
func (k *compiler) planNamespace(p *namespacePlan, n specs.LinuxNamespace) error {
	flag := CloneFlag(n.Type)
	switch {
	case flag == 0:
		return fmt.Errorf("namespace type %q is unknown: %w", n.Type, containerizer.ErrInvalid)
	case n.Path == "" && flag&lateNamespaces != 0:
		p.late |= flag
		if flag == unix.CLONE_NEWTIME {
			k.CopyMemory()
		}
		return nil
	case n.Path == "":
		p.clone |= flag
		return nil
	}
	j := join{k.input(Input{Kind: InputNamespace, Path: n.Path}), flag, fmt.Sprintf("join the %s namespace %q", n.Type, n.Path)}
	if flag == unix.CLONE_NEWUSER {
		p.joinUser = &j
		return nil
	}
	p.joins = append(p.joins, j)
	switch flag {
	case unix.CLONE_NEWPID: // is entered by the next clone only (setns(2))
		p.staged = true
	case unix.CLONE_NEWTIME:
		k.CopyMemory()
	case unix.CLONE_NEWNS:
		// What is mounted for this process must not be mounted for the other one: it gets
		// a copy.
		p.clone |= flag
		p.staged = true
	}
	return nil
}

// planCgroup declares the control groups.
func (k *compiler) planCgroup() (*namespacePlan, error) {
	p := &namespacePlan{cgroupDir: program.None}
	cg := k.c.Info.Cgroup
	if cg == nil {
		return p, nil
	}
	if cg.Unified != "" && len(cg.Legacy) > 0 {
		return nil, fmt.Errorf("control groups of both versions at once: %w", containerizer.ErrInvalid)
	}
	if cg.Unified != "" {
		p.cgroupDir = k.input(Input{Kind: InputDir, Path: cg.Unified})
	}
	for _, dir := range cg.Legacy {
		path := dir + "/tasks"
		p.tasks = append(p.tasks, k.input(Input{Kind: InputFile, Path: path}))
		p.tasksPaths = append(p.tasksPaths, path)
	}
	return p, nil
}

// enterNamespaces brings the process into its control groups and namespaces.
func (k *compiler) enterNamespaces(p *namespacePlan) {
	if p.clone&unix.CLONE_NEWUSER != 0 {
		k.IDMaps(idMap(k.c.Info.UIDMappings), idMap(k.c.Info.GIDMappings))
		k.hostLimits()
	}
	k.hostProcess(k.c.Info)
	if p.staged {
		k.Staged()
		k.Clone(0, p.cgroupDir)
		k.openHostProc()
		k.joinCgroups(p)
		k.joinNamespaces(p)
		k.step("clone the process into its new namespaces")
		k.Call(program.OpSpawn, p.clone, p.late&unix.CLONE_NEWTIME)
	} else {
		k.Clone(p.clone, p.cgroupDir)
	}
	if p.clone&unix.CLONE_NEWUSER != 0 {
		k.step("wait for the id mappings")
		k.await()
	}
	k.Call(unix.SYS_UMASK, 0)
	if !p.staged {
		k.openHostProc()
		k.joinCgroups(p)
		k.joinNamespaces(p)
	}
	if k.c.Info.Barrier && !k.hasCreateHooks() {
		k.step("announce the namespaces")
		k.send(interp.MessageBarrier)
	}
}

// joinCgroups moves the process into version 1 control groups. Writing 0 to tasks
// moves only the writing thread, which takes no lock that waits for an RCU grace
// period, as writing to cgroup.procs does (6 to 14 ms on an idle machine).
func (k *compiler) joinCgroups(p *namespacePlan) {
	for i, tasks := range p.tasks {
		k.step(fmt.Sprintf("join the cgroup by writing to %q", p.tasksPaths[i]))
		k.Call(unix.SYS_WRITE, tasks, k.Text("0"), 1).With(program.FlagFull)
	}
}

func (k *compiler) joinNamespaces(p *namespacePlan) {
	for _, j := range p.joins {
		k.step(j.what)
		k.Call(unix.SYS_SETNS, j.slot, j.flag)
	}
	if p.joinUser != nil {
		k.step(p.joinUser.what)
		k.Call(unix.SYS_SETNS, p.joinUser.slot, p.joinUser.flag)
	}
}

// unshareLate makes the namespaces that the process makes itself.
func (k *compiler) unshareLate(p *namespacePlan) {
	if p.late&unix.CLONE_NEWCGROUP != 0 {
		k.step("make a cgroup namespace")
		k.Call(unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	}
	if p.late&unix.CLONE_NEWTIME == 0 {
		return
	}
	k.step("make a time namespace")
	k.Call(unix.SYS_UNSHARE, unix.CLONE_NEWTIME)
	var text strings.Builder
	for _, clock := range []string{"monotonic", "boottime"} {
		if o, ok := k.c.Info.TimeOffsets[clock]; ok {
			fmt.Fprintf(&text, "%s %d %d\n", clock, o.Secs, o.Nanosecs)
		}
	}
	if text.Len() > 0 {
		k.step("set the clock offsets of the time namespace")
		k.writeFile(k.hostProc, "self/timens_offsets", text.String())
	}
	// Unsharing is for the children. Before Linux 6.2 execve(2) does not enter the
	// namespace either (time_namespaces(7)), and the command would have the host's
	// clocks, with its children in another namespace than itself.
	k.step("enter the time namespace")
	fd := k.NewSlot()
	k.Call(unix.SYS_OPENAT, k.hostProc, k.Text("self/ns/time_for_children"), unix.O_RDONLY|unix.O_CLOEXEC, 0).To(fd)
	k.Call(unix.SYS_SETNS, fd, unix.CLONE_NEWTIME)
	k.closeSlot(fd)
}

// becomeRoot takes user and group 0 of the user namespace. Until then the process
// has the host's ids, which open host paths but own nothing inside.
func (k *compiler) becomeRoot(p *namespacePlan) {
	if p.clone&unix.CLONE_NEWUSER != 0 || p.joinUser != nil {
		k.rootIdentity()
	}
}

func (k *compiler) rootIdentity() {
	k.step("become root of the user namespace")
	k.Call(unix.SYS_SETRESGID, 0, 0, 0)
	k.Call(unix.SYS_SETRESUID, 0, 0, 0)
	k.undumpable()
}

// writeFile writes text to a file by one write(2).
func (k *compiler) writeFile(dir any, path, text string) {
	fd := k.NewSlot()
	k.Call(unix.SYS_OPENAT, dir, k.Text(path), unix.O_WRONLY|unix.O_CLOEXEC, 0).To(fd)
	k.Call(unix.SYS_WRITE, fd, k.Text(text), len(text)).With(program.FlagFull)
	k.closeSlot(fd)
}

// idMap is the text of a uid_map file (user_namespaces(7)).
func idMap(mappings []specs.LinuxIDMapping) string {
	var b []byte
	for _, m := range mappings {
		b = strconv.AppendUint(b, uint64(m.ContainerID), 10)
		b = append(b, ' ')
		b = strconv.AppendUint(b, uint64(m.HostID), 10)
		b = append(b, ' ')
		b = strconv.AppendUint(b, uint64(m.Size), 10)
		b = append(b, '\n')
	}
	return string(b)
}
