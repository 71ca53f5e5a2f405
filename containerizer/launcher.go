package containerizer

import (
	"context"
	"io"
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Size of a terminal in character cells.
type Size struct {
	Columns uint16 `json:"columns"`
	Rows    uint16 `json:"rows"`
}

// IO are a client's ends of a process's standard streams. Nil members are not
// connected. The launcher reads and writes them until the process's output ends
// or the client detaches, and closes none of them.
type IO struct {
	Stdin  io.Reader
	Stdout io.Writer
	// Stderr is not used with a terminal.
	Stderr io.Writer
	// Resize carries new sizes of the client's terminal.
	Resize <-chan Size
	// Files, when set, are the process's descriptors 0, 1 and 2 themselves
	// (LogPassthrough); the other members are ignored then. In-process engines only.
	Files *[3]*os.File
}

// Session is a client's connection to the standard streams of a process.
type Session interface {
	// Wait returns when the output has ended and all of it was written to the IO
	// (nil), when the client's own stream failed, or when the session was detached.
	Wait() error
	// Detach ends the session and leaves the process alone. It is idempotent.
	Detach()
}

// LaunchRequest is what a launcher needs to make a container's process.
type LaunchRequest struct {
	Container *Container
	// Info is the merged launch information.
	Info *LaunchInfo
	// IO attaches a client from the first byte of output; nil attaches none.
	IO *IO
	// SecretEnv are variables that are written down nowhere.
	SecretEnv []string
	// Hold keeps the process at its very last step, before execve, until Start.
	Hold bool
	// Isolate is called while the process is held at the barrier, if Info.Barrier.
	Isolate func(ctx context.Context, pid int) error
}

// Launched is what came of a launch.
type Launched struct {
	// PID in the host's pid namespace; 0 for a pod sandbox without process.
	PID int
	// MonitorPID is the process that holds and watches it.
	MonitorPID int
	StartedAt  time.Time
	// Session is nil unless the request had IO that is pumped.
	Session Session
}

// LauncherStatus is what a launcher knows of a container without asking anybody.
type LauncherStatus struct {
	// Known is false when the launcher has no trace of it.
	Known bool
	// Running is whether its process, or for a pod sandbox its monitor, lives.
	Running    bool
	PID        int
	MonitorPID int
	StartedAt  time.Time
	// Termination is set once it has ended, also when its monitor was killed
	// (ReasonUnknown then).
	Termination *Termination
}

// ExecRequest is an additional process in a running container.
type ExecRequest struct {
	Container *Container
	// Info is the launch information of the container as it was launched; the exec
	// joins its namespaces and cgroup and gets the same confinement.
	Info    *LaunchInfo
	Process *Process
	// ID names the session within the container's monitor.
	ID ContainerID
	IO *IO
}

// Launcher makes processes from launch information and keeps a monitor by them.
// All methods are safe for concurrent use; state is in Container.Dir, so that
// another launcher over the same directories continues where one was killed.
type Launcher interface {
	// Launch makes the container's process, and its monitor if it is a root. It
	// returns once the process runs (or is held). When it fails nothing is left. A
	// missing or unusable command is ErrCommandNotFound or ErrCommandNotExecutable;
	// other errors name the failing operation.
	Launch(ctx context.Context, r LaunchRequest) (*Launched, error)
	// Start lets a held process go on to its execve and returns when that happened.
	Start(ctx context.Context, c *Container) error
	// Exec runs an additional process. It returns once that runs.
	Exec(ctx context.Context, r ExecRequest) (ExecProcess, error)
	// Attach connects a client to the streams of c's process.
	Attach(ctx context.Context, c *Container, io IO) (Session, error)
	// Wait returns how c ended, when it has.
	Wait(ctx context.Context, c *Container) (*Termination, error)
	// Status never blocks on the monitor or the container.
	Status(c *Container) (LauncherStatus, error)
	// Signal sends sig to the process of c. ErrFailedPrecondition when it has none.
	Signal(ctx context.Context, c *Container, sig int) error
	// Reopen reopens c's log file after it was renamed.
	Reopen(ctx context.Context, c *Container) error
	// Cleanup ends what is left of c's monitor and removes its files; the caller has
	// ended the container's processes. Idempotent.
	Cleanup(ctx context.Context, c *Container) error
}

// Preparer is implemented by launchers that can begin before everything about a
// container is known, such as by starting its monitor. Prepare is a hint: it is
// called as soon as Container.Dir exists, before the image is provisioned, must
// return at once, and reports what went wrong in Launch. Cleanup undoes it.
type Preparer interface {
	Prepare(ctx context.Context, c *Container)
}

// NamespaceHolder is implemented by launchers that know a path for a namespace of
// a running container also when it has no process (pod sandboxes). Without it the
// engine takes /proc/PID/ns.
type NamespaceHolder interface {
	NamespacePath(c *Container, t specs.LinuxNamespaceType) (string, error)
}

// OwnerResolver is implemented by launchers that know before a launch which user of
// the node c's process will be. c has Rootfs, effective Spec and Parent. Errors:
// ErrInvalid (no such user), ErrUnsupported (it cannot be known).
type OwnerResolver interface {
	Owner(c *Container) (*Owner, error)
}

// RuntimeChecker is implemented by launchers that know OCI runtimes beside the native
// way. CheckRuntime returns ErrNotFound for a name that Spec.Runtime cannot have.
type RuntimeChecker interface {
	CheckRuntime(name string) error
}

// ExecProcess is a process started by Launcher.Exec.
type ExecProcess interface {
	PID() int
	// Session is nil unless the request had IO that is pumped.
	Session() Session
	Wait(ctx context.Context) (*Termination, error)
	Signal(ctx context.Context, sig int) error
	// Close lets go of the process without ending it.
	Close() error
}
