package launch

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/interp"
	"github.com/berth-dev/berth/containerizer/launch/program"
)

const atFDCWD = unix.AT_FDCWD

// Compile makes the program that makes a container. Errors: ErrInvalid for what no
// kernel could do, ErrUnsupported for what berth does not.
func Compile(c *Config) (*Program, error) {
	k := &compiler{c: c}
	if err := k.check(); err != nil {
		return nil, err
	}
	stdio := k.stdio()
	if c.Init {
		k.init = k.input(Input{Kind: InputInit})
	}
	ns, err := k.planNamespaces()
	if err != nil {
		return nil, err
	}
	fs, err := k.planFilesystem()
	if err != nil {
		return nil, err
	}

	if k.hasStartHooks() {
		k.CopyMemory() // or the hooks live beside a process with the monitor's
	}
	k.enterNamespaces(ns)
	k.labels()
	k.unshareLate(ns)
	k.attachRootfs(fs)
	k.keyring()
	k.becomeRoot(ns)
	k.enterRoot(fs)
	if err := k.mounts(fs); err != nil {
		return nil, err
	}
	if err := k.devices(fs); err != nil {
		return nil, err
	}
	terminal := k.terminal(fs)
	k.network()
	if k.hasCreateHooks() {
		k.step("wait for the hooks that prepare the container")
		k.send(interp.MessageBarrier)
		k.await()
	}
	k.protectPaths(fs)
	k.workingDir(true)
	k.leaveHost(fs)
	if c.Info.Barrier && !k.hasCreateHooks() {
		k.step("wait for the isolators that prepare the process")
		k.await()
	}
	k.names()
	k.sysctls()
	k.streams(stdio, terminal)
	k.session(terminal)
	k.closeAll()
	if err := k.identity(); err != nil {
		return nil, err
	}
	k.execute()
	return k.finish()
}

// CompileExec makes the program that joins the running container whose launch
// information c.Info is. joined are the CLONE_NEW flags of the namespaces in which
// the container differs from the launcher.
//
// In the pid namespace wait hostile processes, and those with CAP_SYS_PTRACE in the
// host's user namespace may do with the process whatever they like (ptrace(2)). So it
// has a copy of the monitor's memory, and comes in as the last thing: when it has
// closed what belongs to the host and has no more capabilities than the container.
func CompileExec(c *Config, joined uint64) (*Program, error) {
	k := &compiler{c: c}
	if err := k.check(); err != nil {
		return nil, err
	}
	stdio := k.stdio()
	target := k.input(Input{Kind: InputPidFD})
	ns, err := k.planCgroup()
	if err != nil {
		return nil, err
	}
	k.Clone(0, ns.cgroupDir)
	k.Staged()
	k.CopyMemory()
	k.hostProcess(c.Info)
	k.Call(unix.SYS_UMASK, 0)
	k.openHostProc()
	k.joinCgroups(ns)
	k.labels()
	k.step("join the namespaces of the container")
	k.Call(unix.SYS_SETNS, target, joined)
	k.keyring()
	if joined&unix.CLONE_NEWUSER != 0 {
		k.rootIdentity()
	}
	terminal := k.terminal(nil)
	k.workingDir(false)
	k.streams(stdio, terminal)
	k.closeAll()
	early := !k.mayClone()
	if early {
		k.enterPIDNamespace()
	}
	if err := k.identity(); err != nil {
		return nil, err
	}
	if !early {
		k.reduceCapabilities()
		k.enterPIDNamespace()
	}
	k.session(terminal)
	k.become()
	return k.finish()
}

// enterPIDNamespace goes on as a new process, in the pid namespace that was joined.
func (k *compiler) enterPIDNamespace() {
	k.step("make the process")
	k.Call(program.OpSpawn, 0)
}

// check refuses what cannot be compiled.
func (k *compiler) check() error {
	p, info := &k.c.Process, k.c.Info
	if (len(p.Args) == 0 || p.Args[0] == "") && !k.c.Init {
		return fmt.Errorf("no command given, neither by the image nor by the user: %w", containerizer.ErrInvalid)
	}
	if info.Hooks != nil && info.Rootfs == nil && len(info.Hooks.CreateContainer) > 0 {
		return fmt.Errorf("createContainer hooks need a container with a root filesystem of its own: %w", containerizer.ErrUnsupported)
	}
	return nil
}

// stdio declares descriptors 0, 1 and 2.
func (k *compiler) stdio() [3]program.Slot {
	return [3]program.Slot{
		k.input(Input{Kind: InputStdin}),
		k.input(Input{Kind: InputStdout}),
		k.input(Input{Kind: InputStderr}),
	}
}

// open adds an openat2(2) that follows no magic link: those of /proc lead to
// descriptors that are open during the launch. Without another root it resolves
// below the process's root, which after enterRoot is the container's.
func (k *compiler) open(dir any, path string, flags, resolve uint64, to program.Slot) *program.Op {
	how := k.Words(flags|unix.O_CLOEXEC, 0, resolve|unix.RESOLVE_NO_MAGICLINKS)
	return k.Call(unix.SYS_OPENAT2, dir, k.Text(path), how, 24).To(to)
}

// closeSlot closes a descriptor before its time.
func (k *compiler) closeSlot(s program.Slot) { k.Call(unix.SYS_CLOSE, s) }

// progress is the progress socket, which closeAll moves.
func (k *compiler) progress() any {
	if k.closed {
		return progressFD
	}
	return program.Progress
}

// send and await talk to the monitor over the progress socket.
func (k *compiler) send(message byte) {
	k.Call(unix.SYS_WRITE, k.progress(), k.Text(string(message)), 1).With(program.FlagFull)
}

// hold tells the monitor that the process is held, and waits to be released.
func (k *compiler) hold() {
	k.send(interp.MessageHeld)
	k.await()
}

func (k *compiler) await() {
	k.Call(unix.SYS_READ, k.progress(), k.Zeros(8), 1).With(program.FlagFull)
}
