package executor

import "testing"

// TestCgroupOf: which control group an agent made for an executor.
func TestCgroupOf(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct{ groups, want string }{
		"version 1":             {"5:freezer:/mesos/run\n4:memory:/mesos/run\n3:cpu,cpuacct:/mesos/run\n2:pids:/\n1:name=systemd:/mesos/run\n0::/init.scope\n", "/mesos/run"},
		"version 2":             {"0::/mesos/run/leaf\n", "/mesos/run"},
		"started by hand":       {"0::/user.slice/session-1.scope\n", ""},
		"memory not isolated":   {"5:freezer:/mesos/run\n4:memory:/\n3:cpu,cpuacct:/mesos/run\n", ""},
		"places differ":         {"5:freezer:/a/run\n4:memory:/b/run\n", ""},
		"another's":             {"0::/mesos/other/leaf\n", ""},
		"nonsense":              {"x\n", ""},
		"nothing":               {"", ""},
		"a namespace of groups": {"0::/\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := cgroupOf(x.groups, "run"); got != x.want {
				t.Errorf("got %q, want %q", got, x.want)
			}
		})
	}
}
