package containerizer

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
)

// LaunchOptions go with Launch and Start.
type LaunchOptions struct {
	// Attach connects a client from the first byte of output.
	Attach *IO
	// Artifacts, when set, is told how the fetch of the container's artifacts gets on:
	// from one goroutine at a time, and it must return quickly.
	Artifacts func(ArtifactProgress)
	// SecretEnv are variables of the process, as KEY=VALUE, that win over those of its
	// description. They are in no record: Launch only, and a Start anew is without them.
	SecretEnv []string
}

// Lifecycle makes containers, lets them run and ends them. Every change is an
// operation owned by the engine: a call joins the operation and waits as long as
// ctx allows; when ctx ends the operation goes on. A second call with the same
// content joins the first, one with other content is ErrAlreadyExists.
type Lifecycle interface {
	// Prepare provisions and isolates a container and brings it to created, without
	// running anything of it. When it fails nothing is left.
	Prepare(ctx context.Context, id ContainerID, spec *Spec) error
	// Start runs a created container, or an exited one anew. The Session is nil
	// without Attach.
	Start(ctx context.Context, id ContainerID, o LaunchOptions) (Session, error)
	// Launch is Prepare and Start in one, without stopping in between. When the
	// command cannot be executed the container is exited, as after Start; when
	// anything before failed nothing is left.
	Launch(ctx context.Context, id ContainerID, spec *Spec, o LaunchOptions) (Session, error)
	// Wait returns the termination once the container is exited; for a destroyed one
	// as long as it is remembered.
	Wait(ctx context.Context, id ContainerID) (*Termination, error)
	// Stop sends the stop signal, waits for timeout (nil: the spec's), kills, and
	// returns when the container is exited. A no-op for an exited one.
	Stop(ctx context.Context, id ContainerID, timeout *time.Duration) error
	// Destroy ends the container's children, then the container, and releases
	// everything. It works in any state and during any operation, and is a no-op for
	// an unknown id. What cannot be released now is owed: it is shown by Status and
	// retried.
	Destroy(ctx context.Context, id ContainerID) error
}

// Control acts on containers that run.
type Control interface {
	// Kill sends a signal to the container's process, or to all its processes.
	Kill(ctx context.Context, id ContainerID, sig int, all bool) error
	Pause(ctx context.Context, id ContainerID) error
	Resume(ctx context.Context, id ContainerID) error
	// Update changes resources; nil fields stay. All or nothing.
	Update(ctx context.Context, id ContainerID, r *Resources) error
	// Exec runs a process in a running container. It returns once that runs.
	Exec(ctx context.Context, id ContainerID, p *Process, io *IO) (ExecProcess, error)
	// Attach connects to the streams of the container's process.
	Attach(ctx context.Context, id ContainerID, io IO) (Session, error)
}

// Query reads. Reads are served from a snapshot and never wait for a container.
type Query interface {
	// List returns the containers that match, by creation time.
	List(ctx context.Context, f Filter) ([]Status, error)
	// Status returns one container. An id may be given by ResolveID.
	Status(ctx context.Context, id ContainerID) (*Status, error)
	// ResolveID finds a container by id, unambiguous prefix of a root id, or name.
	ResolveID(ctx context.Context, nameOrID string) (ContainerID, error)
	// Usage measures a container. Readers share one collection, and what it found for a
	// moment, so that many cost as much as one; At says when that was. Of an exited
	// container only what it wrote is measured. What cannot be measured is missing.
	// Errors: ErrFailedPrecondition when there is nothing to measure.
	Usage(ctx context.Context, id ContainerID) (*Usage, error)
	// Processes lists pids of a container in the host's pid namespace.
	Processes(ctx context.Context, id ContainerID) ([]int, error)
	// Events sends what happens behind the event with the sequence number after, 0 being
	// from now on, until ctx ends. The channel is closed then, when the engine is closed,
	// and when the reader is slower than what is remembered; it may go on from the last
	// sequence number it saw. ErrNotFound when what followed after is forgotten.
	Events(ctx context.Context, after uint64) (<-chan Event, error)
}

// Engine is what adapters and the command line see.
type Engine interface {
	Lifecycle
	Control
	Query
	// Rename changes the name of a root container. ErrAlreadyExists when taken.
	Rename(ctx context.Context, id ContainerID, name string) error
	// ReopenLog reopens the log file after it was renamed.
	ReopenLog(ctx context.Context, id ContainerID) error
	// Recover finds what earlier engines left: it finishes or undoes operations that
	// were cut off, and releases what nobody claims. repair false only reports.
	Recover(ctx context.Context, repair bool) (*RecoverReport, error)
}

// Filter selects containers. The zero value selects all.
type Filter struct {
	// Labels that must be there; an empty value matches any.
	Labels map[string]string
	States []State
	// Root selects the tree of one root.
	Root ContainerID
	// Brief allows leaving out what tables of containers do not show, which a list over
	// a socket need not carry then: Status.Rootfs, and of Spec all but Name, Class, Labels,
	// Image, RootfsPath, Process.Entrypoint and Args, Namespaces, Mounts and Network.
	Brief bool
}

// Status is a container as it stands.
type Status struct {
	ID    ContainerID `json:"id"`
	Spec  *Spec       `json:"spec"`
	State State       `json:"state"`
	// PID in the host's pid namespace while it runs.
	PID        int       `json:"pid,omitempty"`
	MonitorPID int       `json:"monitorPID,omitempty"`
	CreatedAt  time.Time `json:"createdAt"`
	StartedAt  time.Time `json:"startedAt,omitzero"`
	// Termination is set once exited.
	Termination *Termination `json:"termination,omitempty"`
	// ImageManifest and ImageReference are what the image resolved to.
	ImageManifest  digest.Digest   `json:"imageManifest,omitempty"`
	ImageReference string          `json:"imageReference,omitempty"`
	Rootfs         *Rootfs         `json:"rootfs,omitempty"`
	LogPath        string          `json:"logPath,omitempty"`
	Networks       []NetworkStatus `json:"networks,omitempty"`
	// Ports as published, host ports chosen.
	Ports []PortMapping `json:"ports,omitempty"`
	// RestartCount counts Start of an exited container.
	RestartCount int `json:"restartCount,omitempty"`
	// Owed lists what could not be released yet, with the last error.
	Owed []string `json:"owed,omitempty"`
	// Interrupted says that the operation in progress was cut off with its process;
	// the next Recover or Destroy clears it up.
	Interrupted bool `json:"interrupted,omitempty"`
}

// NetworkStatus is one interface of a container.
type NetworkStatus struct {
	Name      string   `json:"name"`
	Interface string   `json:"interface"`
	MAC       string   `json:"mac,omitempty"`
	IPs       []string `json:"ips"` // CIDR
	Gateways  []string `json:"gateways,omitempty"`
}

// EventType says what happened to a container.
type EventType string

// Events. Each is a state reached, or a fact without a state.
const (
	EventCreated   EventType = "created"
	EventStarted   EventType = "started"
	EventPaused    EventType = "paused"
	EventResumed   EventType = "resumed"
	EventUpdated   EventType = "updated"
	EventExited    EventType = "exited"
	EventOOM       EventType = "oom"
	EventDestroyed EventType = "destroyed"
	EventRenamed   EventType = "renamed"
)

// Event is one thing that happened.
type Event struct {
	At          time.Time    `json:"at"`
	Type        EventType    `json:"type"`
	ID          ContainerID  `json:"id"`
	Termination *Termination `json:"termination,omitempty"`
	// Sequence grows from event to event, over all engines of a node and their restarts.
	Sequence uint64 `json:"sequence,omitempty"`
}

// RecoverReport tells what Recover found, in sentences for people.
type RecoverReport struct {
	// Repaired was put right, or would be with repair.
	Repaired []string `json:"repaired,omitempty"`
	// Owed could not be put right; each says why.
	Owed []string `json:"owed,omitempty"`
	// Busy were left alone, because somebody works on them: they may be left by that still.
	Busy []ContainerID `json:"busy,omitempty"`
}
