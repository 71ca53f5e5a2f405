package agent_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/agent"
)

// launch launches what rest says of a standalone container, and returns its description.
func (f *fixture) launch(t *testing.T, rest string) *containerizer.Spec {
	t.Helper()
	r := f.do(t, headers(), `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"}`+rest+`}}`)
	if r.StatusCode != 200 {
		t.Fatalf("%d %s", r.StatusCode, text(t, r))
	}
	return f.engine.containers["a"].Spec
}

const dockerImage = `,"container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"x"}}}}`

// TestCommands is the table of Mesos's docker/runtime isolator.
func TestCommands(t *testing.T) {
	t.Parallel()
	none, e, c, both := v1.ImageConfig{}, v1.ImageConfig{Entrypoint: []string{"E"}}, v1.ImageConfig{Cmd: []string{"C", "c"}}, v1.ImageConfig{Entrypoint: []string{"E"}, Cmd: []string{"C"}}
	for name, x := range map[string]struct {
		command          string
		image            v1.ImageConfig
		entrypoint, args []string
		fails            bool
	}{
		"shell":                        {`{"value":"v"}`, both, []string{"/bin/sh", "-c", "v"}, nil, false},
		"shell without value":          {`{}`, both, nil, nil, true},
		"value":                        {`{"shell":false,"value":"v","arguments":["argv0","x"]}`, both, []string{"v"}, []string{"x"}, false},
		"value alone":                  {`{"shell":false,"value":"v"}`, both, []string{"v"}, nil, false},
		"image":                        {`{"shell":false}`, both, nil, nil, false},
		"arguments behind entrypoint":  {`{"shell":false,"arguments":["x"]}`, both, nil, []string{"x"}, false},
		"arguments, entrypoint only":   {`{"shell":false,"arguments":["x"]}`, e, nil, []string{"x"}, false},
		"image's command":              {`{"shell":false}`, c, nil, nil, false},
		"arguments of image's command": {`{"shell":false,"arguments":["x"]}`, c, []string{"C"}, []string{"x"}, false},
		"nothing":                      {`{"shell":false}`, none, nil, nil, true},
		"arguments of nothing":         {`{"shell":false,"arguments":["x"]}`, none, nil, nil, true},
		"no command":                   {`null`, both, nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, agent.Options{})
			f.images.config = x.image
			if x.fails {
				r := f.do(t, headers(), `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"a"},"command":`+x.command+dockerImage+`}}`)
				if r.StatusCode != 400 {
					t.Errorf("status %d, want 400", r.StatusCode)
				}
				return
			}
			p := f.launch(t, `,"command":`+x.command+dockerImage).Process
			if !cmp.Equal(p.Entrypoint, x.entrypoint) || strings.Join(p.Args, " ") != strings.Join(x.args, " ") {
				t.Errorf("got %q %q, want %q %q", p.Entrypoint, p.Args, x.entrypoint, x.args)
			}
		})
	}
}

func TestResources(t *testing.T) {
	t.Parallel()
	request := func(cpus, mem string) string {
		return `,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":` + cpus + `}},{"name":"mem","type":"SCALAR","scalar":{"value":` + mem + `}}]`
	}
	const mb = 1 << 20
	for name, x := range map[string]struct {
		in   string
		cfs  bool
		want specs.LinuxResources
	}{
		"nothing":  {"", false, specs.LinuxResources{}},
		"requests": {request("0.5", "64"), false, specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(512))}, Memory: &specs.LinuxMemory{Reservation: new(int64(64 * mb)), Limit: new(int64(64 * mb))}}},
		"CFS":      {request("0.5", "64"), true, specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(512)), Quota: new(int64(50000)), Period: new(uint64(100000))}, Memory: &specs.LinuxMemory{Reservation: new(int64(64 * mb)), Limit: new(int64(64 * mb))}}},
		"floors":   {request("0.0001", "1"), true, specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(2)), Quota: new(int64(1000)), Period: new(uint64(100000))}, Memory: &specs.LinuxMemory{Reservation: new(int64(32 * mb)), Limit: new(int64(32 * mb))}}},
		"limits": {
			request("1", "64") + `,"limits":{"cpus":{"value":2},"mem":{"value":128}}`, false,
			specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(1024)), Quota: new(int64(200000)), Period: new(uint64(100000))}, Memory: &specs.LinuxMemory{Reservation: new(int64(64 * mb)), Limit: new(int64(128 * mb))}},
		},
		"no limits": {
			request("1", "64") + `,"limits":{"cpus":{"value":"Infinity"},"mem":{"value":"Infinity"}}`, true,
			specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(1024)), Quota: new(int64(-1))}, Memory: &specs.LinuxMemory{Reservation: new(int64(64 * mb)), Limit: new(int64(-1))}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, agent.Options{EnableCFS: x.cfs})
			got := f.launch(t, `,"command":{"value":"true"}`+x.in).Resources.Linux
			if diff := cmp.Diff(x.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestContainers: where things are, and what comes first.
func TestContainers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, agent.Options{})
	f.images.config = v1.ImageConfig{Cmd: []string{"C"}, WorkingDir: "/work"}
	s := f.launch(t, `,"command":{"shell":false,"environment":{"variables":[{"name":"MESOS_SANDBOX","value":"mine"}]}},"container":{"type":"MESOS","mesos":{"image":{"type":"DOCKER","docker":{"name":"x"}}},
		"volumes":[{"mode":"RO","container_path":"rel","host_path":"/usr"},{"mode":"RW","container_path":"/abs","source":{"type":"SANDBOX_PATH","sandbox_path":{"type":"SELF","path":"x/y"}}},
		{"mode":"RW","container_path":"/h","source":{"type":"HOST_PATH","host_path":{"path":"/srv","mount_propagation":{"mode":"BIDIRECTIONAL"}}}}],
		"linux_info":{"effective_capabilities":{"capabilities":["NET_ADMIN"]},"bounding_capabilities":{"capabilities":["NET_ADMIN","CHOWN"]},"ipc_mode":"PRIVATE","shm_size":8},
		"rlimit_info":{"rlimits":[{"type":"RLMT_CORE"}]},"tty_info":{"window_size":{"rows":24,"columns":80}}}`)
	box := f.dir + "/containers/a"
	want := []containerizer.Mount{
		{Type: containerizer.MountTmpfs, Destination: "/dev/shm", Options: []string{"nosuid", "nodev", "noexec", "mode=1777", "size=8m"}},
		{Type: containerizer.MountBind, Source: box, Destination: "/mnt/mesos/sandbox"},
		{Type: containerizer.MountBind, Source: "/usr", Destination: "/mnt/mesos/sandbox/rel", Options: []string{"ro"}},
		{Type: containerizer.MountBind, Source: box, SubPath: "x/y", Destination: "/abs"},
		{Type: containerizer.MountBind, Source: "/srv", Destination: "/h", Options: []string{"rshared"}},
	}
	if diff := cmp.Diff(want, s.Mounts); diff != "" {
		t.Errorf("mounts (-want +got)\n%s", diff)
	}
	p := s.Process
	if p.WorkingDir != "" || !cmp.Equal(p.Env, []string{"MESOS_SANDBOX=/mnt/mesos/sandbox", "MESOS_SANDBOX=mine"}) || p.User != "0:0" || !p.Terminal || !p.Stdin {
		t.Errorf("process %+v", p)
	}
	if !cmp.Equal(s.Security.CapDrop, []string{"ALL"}) || !cmp.Equal(s.Security.CapAdd, []string{"CAP_NET_ADMIN"}) || s.Namespaces.IPC.Mode != containerizer.NamespacePrivate {
		t.Errorf("security %+v, namespaces %+v", s.Security, s.Namespaces)
	}
	if s.Namespaces.Network.Mode != containerizer.NamespaceHost || s.Image == nil || s.RootfsPath != "" {
		t.Errorf("namespaces %+v, image %v", s.Namespaces, s.Image)
	}
}

// TestSession: everything of its parent, and the client hears all of it.
func TestSession(t *testing.T) {
	t.Parallel()
	f := newFixture(t, agent.Options{})
	f.parent("p")
	f.engine.begun = func(c *containerizer.IO) {
		_, _ = c.Stdout.Write([]byte("out"))
		_, _ = c.Stderr.Write([]byte("err"))
	}
	const call = `{"type":"LAUNCH_NESTED_CONTAINER_SESSION","launch_nested_container_session":{"container_id":{"value":"s","parent":{"value":"p"}},"command":{"value":"x","environment":{"variables":[{"name":"A","value":"b"}]}}}}`
	r := f.do(t, headers("Accept", "application/recordio"), call)
	want := record(`{"type":"DATA","data":{"type":"STDOUT","data":"b3V0"}}`) + record(`{"type":"DATA","data":{"type":"STDERR","data":"ZXJy"}}`)
	if got := text(t, r); got != want || r.Header.Get("Content-Type") != "application/recordio" || r.Header.Get("Message-Content-Type") != "application/json" {
		t.Errorf("%d %v %q, want %q", r.StatusCode, r.Header, got, want)
	}
	st := f.engine.containers["p.s"]
	if p := st.Spec.Process; !cmp.Equal(p.Env, []string{"FROM=parent", "A=b"}) || p.WorkingDir != "/parent" || !p.Stdin {
		t.Errorf("process %+v", p)
	}
	if st.Spec.ShareCgroup || st.Spec.Namespaces.PID.Mode != containerizer.NamespaceParent || st.State != containerizer.StateExited {
		t.Errorf("session %+v is %s", st.Spec, st.State)
	}
	// Again: the id is known, and there is no stream.
	if r := f.do(t, headers(), call); r.StatusCode != 202 || text(t, r) != "" {
		t.Errorf("again: %d", r.StatusCode)
	}
	// One that an earlier server left ends.
	f.engine.containers["p.s"].State = containerizer.StateRunning
	if err := f.server.Recover(t.Context()); err != nil || f.engine.containers["p.s"].State != containerizer.StateExited {
		t.Errorf("recover: %v", err)
	}
}
