package executor_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/executor"
)

func TestEnvironment(t *testing.T) {
	t.Parallel()
	usual := map[string]string{"MESOS_FRAMEWORK_ID": "f", "MESOS_EXECUTOR_ID": "e", "MESOS_DIRECTORY": "/d", "MESOS_AGENT_ENDPOINT": "1.2.3.4:5051"}
	base := executor.Environment{FrameworkID: "f", ExecutorID: "e", Directory: "/d", Endpoint: "1.2.3.4:5051", RecoveryTimeout: 15 * time.Minute, BackoffMax: 2 * time.Second, ShutdownGrace: 5 * time.Second}
	for name, x := range map[string]struct {
		change map[string]string
		want   func(*executor.Environment)
		fails  string
	}{
		"usual": {nil, func(*executor.Environment) {}, ""},
		"all": {map[string]string{
			"MESOS_CHECKPOINT": "1", "MESOS_RECOVERY_TIMEOUT": "1.025mins", "MESOS_SUBSCRIPTION_BACKOFF_MAX": "500ms", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "90secs",
			"MESOS_DOMAIN_SOCKET": "/s", "MESOS_EXECUTOR_AUTHENTICATION_TOKEN": "t",
		}, func(e *executor.Environment) {
			e.Checkpoint, e.RecoveryTimeout, e.BackoffMax, e.ShutdownGrace, e.DomainSocket, e.Token = true, 61500*time.Millisecond, 500*time.Millisecond, 90*time.Second, "/s", "t"
		}, ""},
		"old agent":     {map[string]string{"MESOS_AGENT_ENDPOINT": "", "MESOS_SLAVE_PID": "slave(1)@5.6.7.8:5051"}, func(e *executor.Environment) { e.Endpoint = "5.6.7.8:5051" }, ""},
		"no directory":  {map[string]string{"MESOS_DIRECTORY": "", "MESOS_SANDBOX": "/mnt"}, func(e *executor.Environment) { e.Directory = "/mnt" }, ""},
		"no agent":      {map[string]string{"MESOS_AGENT_ENDPOINT": ""}, nil, "MESOS_AGENT_ENDPOINT"},
		"no framework":  {map[string]string{"MESOS_FRAMEWORK_ID": ""}, nil, "MESOS_FRAMEWORK_ID"},
		"relative":      {map[string]string{"MESOS_DIRECTORY": "d"}, nil, "absolute"},
		"go's duration": {map[string]string{"MESOS_RECOVERY_TIMEOUT": "1m30s"}, nil, "1m30s"},
		"no unit":       {map[string]string{"MESOS_RECOVERY_TIMEOUT": "15"}, nil, "15"},
		"negative":      {map[string]string{"MESOS_RECOVERY_TIMEOUT": "-1secs"}, nil, "-1secs"},
		"too long":      {map[string]string{"MESOS_RECOVERY_TIMEOUT": "99999999999weeks"}, nil, "weeks"},
		"checkpoint":    {map[string]string{"MESOS_CHECKPOINT": "maybe"}, nil, "maybe"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := maps.Clone(usual)
			maps.Copy(env, x.change)
			got, err := executor.ParseEnvironment(func(n string) string { return env[n] })
			if x.want == nil {
				if !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), x.fails) {
					t.Errorf("error %v, want one with %q", err, x.fails)
				}
				return
			}
			want := base
			x.want(&want)
			if err != nil || !cmp.Equal(got, &want) {
				t.Errorf("%v, %s", err, cmp.Diff(&want, got))
			}
		})
	}
}
