package executor_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/executor"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/executortest"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// TestRefused: what is not carried is refused by name, and nothing of it is launched.
func TestRefused(t *testing.T) {
	t.Parallel()
	mesos := func() *mesosv1.ContainerInfo {
		return &mesosv1.ContainerInfo{Type: mesosv1.ContainerInfo_MESOS.Enum()}
	}
	with := func(f func(*mesosv1.ContainerInfo)) func(*mesosv1.TaskInfo) {
		return func(t *mesosv1.TaskInfo) {
			t.Container = mesos()
			f(t.Container)
		}
	}
	invalid, launch := mesosv1.TaskStatus_REASON_TASK_INVALID, mesosv1.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED
	for name, x := range map[string]struct {
		change func(*mesosv1.TaskInfo)
		reason mesosv1.TaskStatus_Reason
		text   string
	}{
		"docker's own": {func(t *mesosv1.TaskInfo) {
			t.Container = &mesosv1.ContainerInfo{Type: mesosv1.ContainerInfo_DOCKER.Enum(), Docker: &mesosv1.ContainerInfo_DockerInfo{Image: new("x"), Parameters: []*mesosv1.Parameter{{Key: new("volumes-from"), Value: new("y")}}}}
		}, launch, "volumes-from"},
		"privileged": {func(t *mesosv1.TaskInfo) {
			t.Container = &mesosv1.ContainerInfo{Type: mesosv1.ContainerInfo_DOCKER.Enum(), Docker: &mesosv1.ContainerInfo_DockerInfo{Image: new("x"), Privileged: new(true)}}
		}, launch, "privileged"},
		"secret": {func(t *mesosv1.TaskInfo) {
			t.Command.Environment = &mesosv1.Environment{Variables: []*mesosv1.Environment_Variable{{Name: new("S"), Type: mesosv1.Environment_Variable_SECRET.Enum(), Secret: &mesosv1.Secret{Type: mesosv1.Secret_REFERENCE.Enum(), Reference: &mesosv1.Secret_Reference{Name: new("r")}}}}}
		}, launch, `"S"`},
		"persistent volume": {func(t *mesosv1.TaskInfo) {
			r := executortest.Scalar("disk", 10)
			r.Disk = &mesosv1.Resource_DiskInfo{Persistence: &mesosv1.Resource_DiskInfo_Persistence{Id: new("p")}}
			t.Resources = append(t.Resources, r)
		}, invalid, "persistent"},
		"gpus":                 {func(t *mesosv1.TaskInfo) { t.Resources = append(t.Resources, executortest.Scalar("gpus", 1)) }, mesosv1.TaskStatus_REASON_CONTAINER_UPDATE_FAILED, "gpus"},
		"low limit":            {func(t *mesosv1.TaskInfo) { t.Limits = map[string]*mesosv1.Value_Scalar{"mem": {Value: new(1.0)}} }, mesosv1.TaskStatus_REASON_CONTAINER_UPDATE_FAILED, "below the request"},
		"shared control group": {with(func(c *mesosv1.ContainerInfo) { c.LinuxInfo = &mesosv1.LinuxInfo{ShareCgroups: new(true)} }), invalid, "control group"},
		"docker volume": {with(func(c *mesosv1.ContainerInfo) {
			c.Volumes = []*mesosv1.Volume{{Mode: mesosv1.Volume_RW.Enum(), ContainerPath: new("v"), Source: &mesosv1.Volume_Source{Type: mesosv1.Volume_Source_DOCKER_VOLUME.Enum(), DockerVolume: &mesosv1.Volume_Source_DockerVolume{Name: new("n")}}}}
		}), launch, "DOCKER_VOLUME"},
		"sandbox path out of it": {with(func(c *mesosv1.ContainerInfo) {
			c.Volumes = []*mesosv1.Volume{{Mode: mesosv1.Volume_RW.Enum(), ContainerPath: new("v"), HostPath: new("../../x")}}
		}), launch, "sandbox"},
		"uri":          {func(t *mesosv1.TaskInfo) { t.Command.Uris = []*mesosv1.CommandInfo_URI{{Value: new("http://missing")}} }, launch, "not found"},
		"health check": {func(t *mesosv1.TaskInfo) { t.HealthCheck = &mesosv1.HealthCheck{Type: mesosv1.HealthCheck_HTTP.Enum()} }, invalid, "HTTP"},
		"health of ports": {func(t *mesosv1.TaskInfo) {
			t.HealthCheck = &mesosv1.HealthCheck{Type: mesosv1.HealthCheck_TCP.Enum(), Tcp: &mesosv1.HealthCheck_TCPCheckInfo{Port: new(uint32(70000))}}
		}, invalid, "70000"},
		"check without type": {func(t *mesosv1.TaskInfo) { t.Check = &mesosv1.CheckInfo{} }, invalid, "UNKNOWN"},
		"negative delay": {func(t *mesosv1.TaskInfo) {
			t.Check = &mesosv1.CheckInfo{Type: mesosv1.CheckInfo_TCP.Enum(), Tcp: &mesosv1.CheckInfo_Tcp{Port: new(uint32(1))}, DelaySeconds: new(-1.0)}
		}, invalid, "-1"},
		"no shell command": {func(t *mesosv1.TaskInfo) { t.Command = &mesosv1.CommandInfo{} }, launch, "shell"},
		"data": {func(t *mesosv1.TaskInfo) {
			t.Command, t.Data, t.Executor = nil, []byte("a framework's own"), &mesosv1.ExecutorInfo{ExecutorId: &mesosv1.ExecutorID{Value: new("executor")}}
		}, invalid, "data"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, executor.Options{}, nil)
			f.Subscribe()
			task := executortest.Task("a", "x")
			x.change(task)
			f.Launch(task)
			u := f.Expect("a", failed)
			if u.GetReason() != x.reason || !strings.Contains(u.GetMessage(), x.text) {
				t.Errorf("refused with %s %q, want %s and %q in it", u.GetReason(), u.GetMessage(), x.reason, x.text)
			}
			f.endsWell()
			if slices.Contains(f.engine.launched, "a") {
				t.Error("its container was launched")
			}
		})
	}
}

// TestCommands: what tasks run that have no command, as the master wants of those that
// name an executor.
func TestCommands(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		o     executor.Options
		data  string
		image string
		entry []string
		args  []string
		env   string
	}{
		"executor's arguments": {executor.Options{Command: &mesosv1.CommandInfo{Shell: new(false), Value: new("serve"), Arguments: []string{"serve", "-p", "80"}}, Image: "nginx"}, `{"id":"/app"}`, "nginx", []string{"serve"}, []string{"-p", "80"}, "OF_EXECUTOR=yes"},
		"data":                 {executor.Options{}, `{"value":"run","environment":{"variables":[{"name":"OF_EXECUTOR","value":"no"}]}}`, "", []string{"/bin/sh", "-c", "run"}, nil, "OF_EXECUTOR=no"},
		"image's":              {executor.Options{Image: "nginx"}, "", "nginx", nil, nil, "OF_EXECUTOR=yes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, x.o, nil)
			f.Subscribe()
			task := executortest.Task("a", "x")
			task.Command, task.Data, task.Executor = nil, []byte(x.data), &mesosv1.ExecutorInfo{ExecutorId: &mesosv1.ExecutorID{Value: new("executor")}}
			f.Launch(task)
			if name == "image's" { // that of the stand-in has no command
				if u := f.Expect("a", failed); !strings.Contains(u.GetMessage(), "neither the call nor the image") {
					t.Errorf("ended %v", u)
				}
				return
			}
			f.Expect("a", running)
			spec := f.container("a").spec
			image := ""
			if spec.Image != nil {
				image = spec.Image.Reference
			}
			if image != x.image || !slices.Equal(spec.Process.Entrypoint, x.entry) || !slices.Equal(spec.Process.Args, x.args) {
				t.Errorf("runs %q %q in %q", spec.Process.Entrypoint, spec.Process.Args, image)
			}
			last := ""
			for _, v := range spec.Process.Env {
				if strings.HasPrefix(v, "OF_EXECUTOR=") {
					last = v
				}
			}
			if last != x.env {
				t.Errorf("variables %q", spec.Process.Env)
			}
		})
	}
}

// TestTree: the root stands for the executor, with the resources of all that is in it; a
// memory limit is not lowered under those who use it.
func TestTree(t *testing.T) {
	t.Parallel()
	f := start(t, executor.Options{CgroupParent: "/mesos/run"}, nil)
	f.Subscribe()
	alone := executortest.Task("alone", "x")
	f.Launch(alone)
	f.Expect("alone", running)
	shares, own := executortest.Task("shares", "x"), executortest.Task("own", "x")
	own.Container = &mesosv1.ContainerInfo{Type: mesosv1.ContainerInfo_MESOS.Enum(), LinuxInfo: &mesosv1.LinuxInfo{ShareCgroups: new(false), SharePidNamespace: new(true)}}
	own.Limits = map[string]*mesosv1.Value_Scalar{"mem": {Value: new(128.0)}}
	f.LaunchGroup(shares, own)
	for range 4 {
		f.Acknowledge(f.Update())
	}
	limit := func(s *containerizer.Spec) int64 {
		if m := s.Resources.Linux.Memory; m != nil && m.Limit != nil {
			return *m.Limit >> 20
		}
		return 0
	}
	got := map[string]int64{"alone": limit(f.container("alone").spec), "shares": limit(f.container("shares").spec), "own": limit(f.container("own").spec)}
	if want := map[string]int64{"alone": 64, "shares": 0, "own": 128}; !cmp.Equal(got, want) {
		t.Errorf("limits %v, want %v", got, want)
	}
	if m := f.container("shares").spec.Namespaces.PID.Mode; m != containerizer.NamespacePrivate {
		t.Errorf("pid namespace %s", m)
	}
	if s := f.container("own").spec; s.Namespaces.PID.Mode != containerizer.NamespaceParent || s.Process.Init {
		t.Errorf("pid namespace %s, init %v", s.Namespaces.PID.Mode, s.Process.Init)
	}
	root := f.container("own").id.Root()
	f.engine.mu.Lock()
	spec := f.engine.containers[root].spec
	f.engine.mu.Unlock()
	if spec.Class != containerizer.ClassPodSandbox || spec.CgroupParent != "/mesos/run" || limit(spec) != 64 {
		t.Errorf("the root is %+v", spec)
	}
	f.container("alone").ends(exited(0))
	f.Expect("alone", finished)
	f.container("shares").ends(exited(0))
	f.Expect("shares", finished)
	f.container("own").ends(exited(0))
	f.Expect("own", finished)
	f.endsWell()
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	most := int64(0)
	for _, u := range f.engine.updates {
		now := *u.Linux.Memory.Limit >> 20
		if now < most {
			t.Errorf("the memory limit went from %d to %d", most, now)
		}
		most = now
	}
	if most != 64+64+128 {
		t.Errorf("at most %d MB", most)
	}
}

// TestLeft: what executors left that were killed is removed; that of those who live stays.
func TestLeft(t *testing.T) {
	t.Parallel()
	f := prepare(t)
	living := start(t, executor.Options{}, nil)
	living.Subscribe()
	living.Launch(executortest.Task("a", "x"))
	living.Expect("a", running)
	other := living.container("a").id.Root()
	living.engine.mu.Lock()
	alive := living.engine.containers[other]
	living.engine.mu.Unlock()
	put := func(id containerizer.ContainerID, adapter, dir string) {
		f.engine.containers[id] = &container{id: id, end: make(chan struct{}), spec: &containerizer.Spec{
			Origin: &containerizer.Origin{Adapter: adapter}, Labels: map[string]string{"dev.berth.mesos/class": "executor", "dev.berth.mesos/directory": dir},
		}}
	}
	put("dead", "mesos-executor", t.TempDir())
	put("collected", "mesos-executor", "/no/such/sandbox")
	put("foreign", "mesos", t.TempDir())
	f.engine.containers["alive"] = alive
	f.engine.containers["alive"].id = "alive"
	f.run(executor.Options{}, nil)
	f.Subscribe()
	f.Launch(executortest.Task("b", "x"))
	f.Expect("b", running)
	f.Shutdown()
	f.Expect("b", killed)
	if err := <-f.over; err != nil {
		t.Error(err)
	}
	f.over <- nil
	if got, want := f.engine.destroyed, []containerizer.ContainerID{"dead", "collected"}; !slices.Contains(got, want[0]) || !slices.Contains(got, want[1]) || slices.Contains(got, "foreign") || slices.Contains(got, "alive") {
		t.Errorf("removed %v", got)
	}
}

// TestTwice: a sandbox has one executor.
func TestTwice(t *testing.T) {
	t.Parallel()
	f := start(t, executor.Options{}, nil)
	f.Subscribe()
	second := &fixture{Agent: f.Agent, t: t, dir: f.dir, engine: f.engine, artifacts: f.artifacts}
	second.run(executor.Options{}, nil)
	if err := second.ended(); err == nil || !strings.Contains(err.Error(), "another executor") {
		t.Errorf("ended: %v", err)
	}
}

// TestDocker: a container that was meant for Docker.
func TestDocker(t *testing.T) {
	t.Parallel()
	f := start(t, executor.Options{}, nil)
	f.Subscribe()
	task := executortest.Task("a", "serve")
	task.Container = &mesosv1.ContainerInfo{Type: mesosv1.ContainerInfo_DOCKER.Enum(), Docker: &mesosv1.ContainerInfo_DockerInfo{
		Image: new("nginx"), Network: mesosv1.ContainerInfo_DockerInfo_BRIDGE.Enum(), ForcePullImage: new(true),
		PortMappings: []*mesosv1.ContainerInfo_DockerInfo_PortMapping{{HostPort: new(uint32(31000)), ContainerPort: new(uint32(80)), Protocol: new("tcp")}},
	}}
	f.Launch(task)
	f.Expect("a", running)
	s := f.container("a").spec
	want := containerizer.Network{Networks: []containerizer.NetworkAttachment{{Name: "berth"}}, Ports: []containerizer.PortMapping{{Protocol: "tcp", HostPort: 31000, ContainerPort: 80}}}
	if s.Image == nil || s.Image.Reference != "nginx" || s.Image.Pull != containerizer.PullMissing || !cmp.Equal(s.Network, want) || s.Namespaces.Network.Mode != containerizer.NamespacePrivate {
		t.Errorf("image %+v, network %+v", s.Image, s.Network)
	}
}

// TestSecret: a secret by value is for the process, and in no description.
func TestSecret(t *testing.T) {
	t.Parallel()
	f := start(t, executor.Options{}, nil)
	f.Subscribe()
	task := executortest.Task("a", "x")
	task.Command.Environment = &mesosv1.Environment{Variables: []*mesosv1.Environment_Variable{
		{Name: new("S"), Type: mesosv1.Environment_Variable_SECRET.Enum(), Secret: &mesosv1.Secret{Type: mesosv1.Secret_VALUE.Enum(), Value: &mesosv1.Secret_Value{Data: []byte("hush")}}},
		{Name: new("P"), Value: new("plain")},
	}}
	f.Launch(task)
	f.Expect("a", running)
	c := f.container("a")
	if text, err := json.Marshal(c.spec); err != nil || strings.Contains(string(text), "hush") || !strings.Contains(string(text), "P=plain") {
		t.Errorf("the description is %s, %v", text, err)
	}
	if want := []string{"S=hush"}; !slices.Equal(c.secret, want) {
		t.Errorf("secrets %q, want %q", c.secret, want)
	}
}
