package containerizer

import (
	"fmt"
	"time"
)

// State is where a container is in its life.
//
//	preparing ──> created ──> running <──> paused
//	 ^  │  │         │        ^  │           │
//	 │  │  └─────────┼────────┘  │           │    Launch does not stop at created
//	 │  v            v           v           v
//	 └─ exited <─────┴───────────┴───────────┘    Start prepares an exited one anew
//
//	any of these ──> destroying ──> destroyed     (never listed; Wait on it still answers for a while)
//
// A Destroy that was cut off begins anew: destroying may become destroying.
type State string

// The states. See [State] for the transitions.
const (
	StatePreparing  State = "preparing"
	StateCreated    State = "created"
	StateRunning    State = "running"
	StatePaused     State = "paused"
	StateExited     State = "exited"
	StateDestroying State = "destroying"
	StateDestroyed  State = "destroyed"
)

// CanBecome says whether the diagram of [State] has an arrow from s to next.
func (s State) CanBecome(next State) bool {
	switch next {
	case StateCreated:
		return s == StatePreparing
	case StateRunning:
		return s == StatePreparing || s == StateCreated || s == StatePaused
	case StatePaused:
		return s == StateRunning
	case StateExited:
		return s == StatePreparing || s == StateCreated || s == StateRunning || s == StatePaused
	case StateDestroying:
		return s != StateDestroyed
	case StateDestroyed:
		return s == StateDestroying
	case StatePreparing:
		return s == "" || s == StateExited
	}
	return false
}

// Alive says whether processes may exist in state s.
func (s State) Alive() bool {
	return s == StateCreated || s == StateRunning || s == StatePaused
}

// Reason classes a termination so that both CRI and Mesos can express it.
type Reason string

// Why a container ended.
const (
	ReasonCompleted    Reason = "completed"     // exit status 0
	ReasonError        Reason = "error"         // other exit status, or a signal of its own
	ReasonOOMKilled    Reason = "oom-killed"    // the kernel's OOM killer, in its cgroup
	ReasonKilled       Reason = "killed"        // by Kill or Destroy
	ReasonLimitation   Reason = "limitation"    // an isolator's limit was hit, see Termination.Limitation
	ReasonLaunchFailed Reason = "launch-failed" // it never ran
	ReasonUnknown      Reason = "unknown"       // its monitor died and took the status with it, or the node restarted
)

// Termination tells how a container ended.
type Termination struct {
	// ExitCode is the exit status, or 128 + Signal.
	ExitCode int `json:"exitCode"`
	// Signal is the number of the signal that killed it, 0 when it exited.
	Signal int `json:"signal,omitempty"`
	// WaitStatus is the raw status of wait(2), as Mesos reports it.
	WaitStatus uint32      `json:"waitStatus"`
	OOMKilled  bool        `json:"oomKilled,omitempty"`
	Limitation *Limitation `json:"limitation,omitempty"`
	Reason     Reason      `json:"reason"`
	// Message is for people: the failed operation of a launch, the limit hit.
	Message    string    `json:"message,omitempty"`
	FinishedAt time.Time `json:"finishedAt"`
}

// Limitation is a limit that a container ran into and that ends it.
type Limitation struct {
	// Resource names what ran out in the scheduler's word: "mem", "disk", "ports".
	Resource string `json:"resource"`
	// Message says how much was allowed and used.
	Message string `json:"message"`
	// Isolator is the name of the isolator that reported it.
	Isolator string `json:"isolator"`
}

func (l *Limitation) String() string {
	return fmt.Sprintf("%s limit: %s (%s)", l.Resource, l.Message, l.Isolator)
}
