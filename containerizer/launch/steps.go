package launch

import (
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/launch/interp"
	"github.com/berth-dev/berth/containerizer/launch/program"
)

// Program is a compiled program, what it needs, and what its operations mean.
type Program struct {
	// Block is the encoded program.
	Block []byte
	// Inputs are the descriptors it needs, in order.
	Inputs []Input
	// steps say what the operations mean: steps[i] begins at operation steps[i].op.
	steps []step
	// exec is the first operation that is an attempt at execve.
	exec int
	args []string
}

// initName is what the mini-init is called, in its argv[0] and in messages.
const initName = "berth-init"

type step struct {
	op   int
	what string
}

// compiler is a program in the making.
type compiler struct {
	program.Builder
	c        *Config
	inputs   []Input
	steps    []step
	hostProc program.Slot // the host's /proc, 0 when not needed
	cwd      program.Slot // the working directory
	init     program.Slot // the mini-init, 0 without
	sets     *capabilitySets
	closed   bool // closeAll was done
	exec     int
}

// step says what the following operations do, in words that follow "launch: ".
func (k *compiler) step(what string) {
	k.steps = append(k.steps, step{k.Len(), what})
}

// input adds an input descriptor. All are added before the first operation.
func (k *compiler) input(in Input) program.Slot {
	s := k.Input()
	k.inputs = append(k.inputs, in)
	return s
}

func (k *compiler) finish() (*Program, error) {
	block, err := k.Encode()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", containerizer.ErrInvalid, err)
	}
	args := k.c.Process.Args
	if len(args) == 0 {
		args = []string{initName}
	}
	return &Program{Block: block, Inputs: k.inputs, steps: k.steps, exec: k.exec, args: args}, nil
}

// Explain turns a failed operation into an error that says what was tried.
func (p *Program) Explain(f program.Failure) error {
	switch f.Op {
	case interp.CloneOp:
		return explainClone(f.Errno)
	case interp.IDMapOp:
		return fmt.Errorf("write the id mappings of the user namespace: %w", f.Errno)
	case interp.OOMScoreOp:
		return fmt.Errorf("set the OOM score adjustment (lowering it needs CAP_SYS_RESOURCE): %w", f.Errno)
	case interp.RlimitOp:
		return fmt.Errorf("set a resource limit (raising one needs CAP_SYS_RESOURCE): %w", f.Errno)
	case interp.KilledOp:
		return fmt.Errorf("the process was killed before it could execute %q: %w", p.args[0], containerizer.ErrUnavailable)
	}
	if int(f.Op) >= p.exec {
		return p.explainExec(f.Errno)
	}
	what := "launch"
	for _, s := range p.steps {
		if s.op > int(f.Op) {
			break
		}
		what = s.what
	}
	if class := classOf(f.Errno); class != nil {
		return fmt.Errorf("%s: %w: %w", what, f.Errno, class)
	}
	return fmt.Errorf("%s: %w", what, f.Errno)
}

func explainClone(errno syscall.Errno) error {
	switch errno {
	case unix.EAGAIN:
		return fmt.Errorf("clone the container's process: the limit of processes is reached (RLIMIT_NPROC, pids.max or threads-max): %w", containerizer.ErrResourceExhausted)
	case unix.ENOSPC:
		return fmt.Errorf("clone the container's process: the limit of namespaces is reached (/proc/sys/user/max_*_namespaces): %w", containerizer.ErrResourceExhausted)
	default:
	}
	return fmt.Errorf("clone the container's process: %w", errno)
}

func (p *Program) explainExec(errno syscall.Errno) error {
	name := p.args[0]
	switch errno {
	case unix.ENOENT, unix.ENOTDIR:
		return fmt.Errorf("execute %q: no such file in the container, or its interpreter is missing: %w", name, containerizer.ErrCommandNotFound)
	case unix.ENOEXEC:
		return fmt.Errorf("execute %q: not a program for this machine (wrong architecture, or a script without #!): %w", name, containerizer.ErrCommandNotExecutable)
	case unix.E2BIG:
		return fmt.Errorf("execute %q: arguments and environment are too long: %w", name, containerizer.ErrInvalid)
	default:
	}
	return fmt.Errorf("execute %q: %w: %w", name, errno, containerizer.ErrCommandNotExecutable)
}

// classOf is the error class of an errno that speaks for itself.
func classOf(errno syscall.Errno) error {
	switch errno {
	case unix.ENOSPC, unix.EDQUOT, unix.ENOMEM, unix.EMFILE, unix.ENFILE:
		return containerizer.ErrResourceExhausted
	case unix.ENOSYS, unix.EOPNOTSUPP, unix.ENODEV:
		return containerizer.ErrUnsupported
	default:
		return nil
	}
}

// WriteTo prints the program for people: the inputs, then every step with its
// system calls.
func (p *Program) WriteTo(w io.Writer) (int64, error) {
	c := &counter{w: w} // remembers the error
	for i, in := range p.Inputs {
		_, _ = fmt.Fprintf(c, "input %2d  %s\n", i+1, in)
	}
	printer{c, p}.operations()
	return c.n, c.err
}

type counter struct {
	w   io.Writer
	n   int64
	err error
}

func (c *counter) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.err = err
	return n, err
}
