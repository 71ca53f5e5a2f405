package executor

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/berth-dev/berth/containerizer"
)

// Environment is what an agent tells an executor by variables.
type Environment struct {
	FrameworkID, ExecutorID string
	// Directory is the executor's sandbox, as the host sees it.
	Directory string
	// Endpoint is the agent's HOST:PORT; DomainSocket, if set, is the path of a socket
	// that leads there.
	Endpoint, DomainSocket string
	// Checkpoint says that tasks outlive a restart of the agent, for RecoveryTimeout.
	Checkpoint      bool
	RecoveryTimeout time.Duration
	// BackoffMax bounds the pause before another subscription.
	BackoffMax time.Duration
	// ShutdownGrace is how long the executor may take once it is told to end.
	ShutdownGrace time.Duration
	// Token authenticates the executor; "" is without.
	Token string
}

// VariableToken is the variable that has the token. It is for nobody else.
const VariableToken = "MESOS_EXECUTOR_AUTHENTICATION_TOKEN"

// ParseEnvironment reads the variables that get gives. Errors: ErrInvalid.
func ParseEnvironment(get func(string) string) (*Environment, error) {
	e := &Environment{
		FrameworkID: get("MESOS_FRAMEWORK_ID"), ExecutorID: get("MESOS_EXECUTOR_ID"),
		Directory: cmp.Or(get("MESOS_DIRECTORY"), get("MESOS_SANDBOX")),
		Endpoint:  get("MESOS_AGENT_ENDPOINT"), DomainSocket: get("MESOS_DOMAIN_SOCKET"),
		RecoveryTimeout: 15 * time.Minute, BackoffMax: 2 * time.Second, ShutdownGrace: 5 * time.Second,
		Token: get(VariableToken),
	}
	if e.Endpoint == "" { // older agents: slave(1)@ip:port
		_, e.Endpoint, _ = strings.Cut(get("MESOS_SLAVE_PID"), "@")
	}
	for name, value := range map[string]string{"MESOS_FRAMEWORK_ID": e.FrameworkID, "MESOS_EXECUTOR_ID": e.ExecutorID, "MESOS_DIRECTORY": e.Directory, "MESOS_AGENT_ENDPOINT": cmp.Or(e.Endpoint, e.DomainSocket)} {
		if value == "" {
			return nil, fmt.Errorf("%s is not set; a Mesos agent starts executors with it: %w", name, containerizer.ErrInvalid)
		}
	}
	if !filepath.IsAbs(e.Directory) {
		return nil, fmt.Errorf("MESOS_DIRECTORY %q is not an absolute path: %w", e.Directory, containerizer.ErrInvalid)
	}
	switch v := get("MESOS_CHECKPOINT"); v {
	case "", "0", "false":
	case "1", "true":
		e.Checkpoint = true
	default:
		return nil, fmt.Errorf("MESOS_CHECKPOINT is %q, neither 0 nor 1: %w", v, containerizer.ErrInvalid)
	}
	for name, to := range map[string]*time.Duration{
		"MESOS_RECOVERY_TIMEOUT": &e.RecoveryTimeout, "MESOS_SUBSCRIPTION_BACKOFF_MAX": &e.BackoffMax,
		"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": &e.ShutdownGrace,
	} {
		v := get(name)
		if v == "" {
			continue
		}
		d, err := parseDuration(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		*to = d
	}
	return e, nil
}

// parseDuration reads a duration as Mesos writes it, such as "1.5mins".
func parseDuration(s string) (time.Duration, error) {
	end := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' && r != '-' && r != '+' })
	if end < 0 {
		end = len(s)
	}
	unit, known := map[string]time.Duration{
		"ns": time.Nanosecond, "us": time.Microsecond, "ms": time.Millisecond, "secs": time.Second, "mins": time.Minute,
		"hrs": time.Hour, "days": 24 * time.Hour, "weeks": 7 * 24 * time.Hour,
	}[s[end:]]
	number, err := strconv.ParseFloat(s[:end], 64)
	const most = 1 << 62
	if d := number * float64(unit); !known || err != nil || d < 0 || d > most {
		return 0, fmt.Errorf("%.100q is not a duration such as 5secs: %w", s, containerizer.ErrInvalid)
	}
	return time.Duration(math.Round(number * float64(unit))), nil
}
