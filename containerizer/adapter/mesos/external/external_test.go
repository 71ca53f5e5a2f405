package external_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/external"
	mesosv0 "github.com/berth-dev/berth/proto/mesos"
	externalv0 "github.com/berth-dev/berth/proto/mesos/containerizer"
)

// engine has one container at most.
type engine struct {
	containerizer.Engine // what is not here is not called

	id        containerizer.ContainerID
	spec      *containerizer.Spec
	end       *containerizer.Termination
	fail      error
	updated   *containerizer.Resources
	destroyed []containerizer.ContainerID
	recovered bool
}

func (e *engine) Launch(_ context.Context, id containerizer.ContainerID, s *containerizer.Spec, o containerizer.LaunchOptions) (containerizer.Session, error) {
	if e.fail != nil {
		return nil, e.fail
	}
	e.id, e.spec = id, s
	_, err := o.Attach.Files[1].WriteString("hello\n")
	return nil, err
}

func (e *engine) Status(_ context.Context, id containerizer.ContainerID) (*containerizer.Status, error) {
	if e.spec == nil || id != e.id {
		return nil, containerizer.ErrNotFound
	}
	return &containerizer.Status{ID: id, Spec: e.spec, State: containerizer.StateRunning}, nil
}

func (e *engine) List(context.Context, containerizer.Filter) ([]containerizer.Status, error) {
	if e.spec == nil {
		return nil, nil
	}
	foreign := containerizer.Status{ID: "foreign", Spec: &containerizer.Spec{}, State: containerizer.StateRunning}
	return []containerizer.Status{foreign, {ID: e.id, Spec: e.spec, State: containerizer.StateRunning}, {ID: "ended", Spec: e.spec, State: containerizer.StateExited}}, nil
}

func (e *engine) Wait(_ context.Context, id containerizer.ContainerID) (*containerizer.Termination, error) {
	if e.end == nil || id != e.id {
		return nil, containerizer.ErrNotFound
	}
	return e.end, nil
}

func (e *engine) Update(_ context.Context, _ containerizer.ContainerID, r *containerizer.Resources) error {
	e.updated = r
	return nil
}

func (e *engine) Destroy(_ context.Context, id containerizer.ContainerID) error {
	e.destroyed = append(e.destroyed, id)
	return nil
}

func (e *engine) Usage(context.Context, containerizer.ContainerID) (*containerizer.Usage, error) {
	return &containerizer.Usage{At: time.Unix(100, 0), CPU: &containerizer.CPUUsage{User: 2 * time.Second}, Memory: &containerizer.MemoryUsage{RSSBytes: 4096}}, nil
}

func (e *engine) Recover(_ context.Context, repair bool) (*containerizer.RecoverReport, error) {
	e.recovered = repair
	return &containerizer.RecoverReport{}, nil
}

type images struct{ containerizer.Images }

func (images) Pull(context.Context, containerizer.ImageSource, containerizer.PullOptions) (*containerizer.Image, error) {
	return &containerizer.Image{}, nil
}

type artifacts struct{}

func (artifacts) Fetch(_ context.Context, dir string, list []containerizer.Artifact, _ containerizer.FetchOptions) ([]containerizer.FetchedArtifact, error) {
	for _, a := range list {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(a.URI)), []byte("fetched"), 0o600); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// frame is a message as agents send it.
func frame(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// open is input that stays open behind its bytes: who reads on fails the test.
type open struct {
	t *testing.T
	b *bytes.Reader
}

func (o *open) Read(p []byte) (int, error) {
	if o.b.Len() == 0 {
		o.t.Error("more is read than the message has")
		return 0, io.EOF
	}
	return o.b.Read(p)
}

func serve(t *testing.T, e *engine, environ []string, command string, m proto.Message) ([]byte, error) {
	t.Helper()
	in := &open{t: t, b: bytes.NewReader(nil)}
	if m != nil {
		in.b = bytes.NewReader(frame(t, m))
	}
	var out bytes.Buffer
	c := external.New(external.Parts{Engine: e, Images: images{}, Artifacts: artifacts{}}, external.Options{Environ: environ})
	err := c.Serve(t.Context(), command, in, &out)
	return out.Bytes(), err
}

func id(value string) *mesosv0.ContainerID { return &mesosv0.ContainerID{Value: &value} }

// launch is an executor as agents describe it.
func launch(dir string) *externalv0.Launch {
	scalar := func(name string, value float64) *mesosv0.Resource {
		return &mesosv0.Resource{Name: &name, Type: mesosv0.Value_SCALAR.Enum(), Scalar: &mesosv0.Value_Scalar{Value: &value}}
	}
	return &externalv0.Launch{
		ContainerId: id("c"), Directory: &dir, Checkpoint: new(true),
		ExecutorInfo: &mesosv0.ExecutorInfo{
			ExecutorId: &mesosv0.ExecutorID{Value: new("e")},
			Command: &mesosv0.CommandInfo{
				Value: new("./executor"), Uris: []*mesosv0.CommandInfo_URI{{Value: new("http://host/executor"), Executable: new(true)}},
				Environment: &mesosv0.Environment{Variables: []*mesosv0.Environment_Variable{{Name: new("OWN"), Value: new("1")}, {Name: new("MESOS_X"), Value: new("own")}}},
			},
			Resources: []*mesosv0.Resource{scalar("cpus", 0.5), scalar("mem", 32)},
		},
		TaskInfo: &mesosv0.TaskInfo{
			Name: new("t"), TaskId: &mesosv0.TaskID{Value: new("t")}, SlaveId: &mesosv0.SlaveID{Value: new("s")},
			Resources: []*mesosv0.Resource{scalar("mem", 96)},
		},
	}
}

func TestLaunch(t *testing.T) {
	t.Parallel()
	environ := []string{"PATH=/bin", "MESOS_X=agent", "LIBPROCESS_IP=1.2.3.4", "BERTH_ROOT=/x", "HOME=/root"}
	for name, x := range map[string]struct {
		change  func(*externalv0.Launch)
		environ []string
		image   string
		env     []string
	}{
		"host": {func(*externalv0.Launch) {}, nil, "", []string{"PATH=/bin", "MESOS_X=agent", "LIBPROCESS_IP=1.2.3.4", "HOME=/root", "OWN=1", "MESOS_X=own"}},
		"docker": {func(m *externalv0.Launch) {
			m.ExecutorInfo.Container = &mesosv0.ContainerInfo{Type: mesosv0.ContainerInfo_DOCKER.Enum(), Docker: &mesosv0.ContainerInfo_DockerInfo{Image: new("debian")}}
		}, nil, "debian", []string{"MESOS_X=agent", "LIBPROCESS_IP=1.2.3.4", "OWN=1", "MESOS_X=own"}},
		"default image": {func(*externalv0.Launch) {}, []string{"MESOS_DEFAULT_CONTAINER_IMAGE=docker:///busybox:1"}, "busybox:1", []string{"MESOS_X=agent", "LIBPROCESS_IP=1.2.3.4", "MESOS_DEFAULT_CONTAINER_IMAGE=docker:///busybox:1", "OWN=1", "MESOS_X=own"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, e := t.TempDir(), &engine{}
			m := launch(dir)
			x.change(m)
			out, err := serve(t, e, append(slices.Clone(environ), x.environ...), "launch", m)
			if err != nil || len(out) > 0 {
				t.Fatalf("answered %q, %v", out, err)
			}
			image := ""
			if e.spec.Image != nil {
				image = e.spec.Image.Reference
			}
			env := slices.DeleteFunc(slices.Clone(e.spec.Process.Env), func(v string) bool { return strings.HasPrefix(v, "MESOS_SANDBOX=") })
			if e.id != "c" || image != x.image || !e.spec.AutoRemove || !cmp.Equal(env, x.env) {
				t.Errorf("launched %q of image %q, variables %q", e.id, image, env)
			}
			if m := e.spec.Resources.Linux.Memory; m == nil || *m.Limit != 128<<20 {
				t.Errorf("memory %+v", m)
			}
			for file, want := range map[string]string{"executor": "fetched", "stdout": "hello\n", "stderr": ""} {
				if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != want {
					t.Errorf("%s has %q, %v", file, got, err)
				}
			}
		})
	}
}

// TestLaunchRefused: what cannot be launched is not, and leaves nothing.
func TestLaunchRefused(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		change func(*externalv0.Launch)
		text   string
	}{
		"relative directory": {func(m *externalv0.Launch) { m.Directory = new("d") }, "absolute"},
		"no directory":       {func(m *externalv0.Launch) { m.Directory = nil }, "absolute"},
		"no executor":        {func(m *externalv0.Launch) { m.ExecutorInfo = nil }, "no executor"},
		"bad id":             {func(m *externalv0.Launch) { m.ContainerId = id("a.b") }, "a.b"},
		"long id":            {func(m *externalv0.Launch) { m.ContainerId = id(strings.Repeat("x", 300)) }, "300"},
		"no user":            {func(m *externalv0.Launch) { m.User = new("no-such-user") }, "no-such-user"},
		"volume": {func(m *externalv0.Launch) {
			m.ExecutorInfo.Container = &mesosv0.ContainerInfo{Type: mesosv0.ContainerInfo_MESOS.Enum(), Volumes: []*mesosv0.Volume{{ContainerPath: new("/no/such"), HostPath: new("/x"), Mode: mesosv0.Volume_RW.Enum()}}}
		}, "/no/such"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &engine{}
			m := launch(t.TempDir())
			x.change(m)
			if _, err := serve(t, e, nil, "launch", m); err == nil || !strings.Contains(err.Error(), x.text) || e.spec != nil {
				t.Errorf("error %v, launched %v", err, e.spec != nil)
			}
		})
	}
	failing := &engine{fail: errors.New("mount: no")}
	if _, err := serve(t, failing, nil, "launch", launch(t.TempDir())); err == nil || !slices.Equal(failing.destroyed, []containerizer.ContainerID{"c"}) {
		t.Errorf("error %v, removed %v", err, failing.destroyed)
	}
	taken := &engine{fail: containerizer.ErrAlreadyExists}
	if _, err := serve(t, taken, nil, "launch", launch(t.TempDir())); err == nil || len(taken.destroyed) > 0 {
		t.Errorf("error %v, removed %v", err, taken.destroyed)
	}
}

// TestAnswers: frames byte by byte.
func TestAnswers(t *testing.T) {
	t.Parallel()
	running := func() *engine {
		e := &engine{}
		if _, err := serve(t, e, nil, "launch", launch(t.TempDir())); err != nil {
			t.Fatal(err)
		}
		return e
	}
	ended := func(end containerizer.Termination) *engine {
		e := running()
		e.end = &end
		return e
	}
	for name, x := range map[string]struct {
		engine  *engine
		command string
		message proto.Message
		want    string
	}{
		"no containers":  {&engine{}, "containers", nil, "00000000"},
		"containers":     {running(), "containers", nil, "050000000a030a0163"},
		"recover":        {running(), "recover", nil, ""},
		"ended well":     {ended(containerizer.Termination{Reason: containerizer.ReasonCompleted}), "wait", &externalv0.Wait{ContainerId: id("c")}, "1c0000001216546865206578656375746f722068617320656e64656418000800"},
		"killed":         {ended(containerizer.Termination{Reason: containerizer.ReasonKilled, Signal: 9, WaitStatus: 9, Message: "k"}), "wait", &externalv0.Wait{ContainerId: id("c")}, "0700000012016b18090801"},
		"out of memory":  {ended(containerizer.Termination{Reason: containerizer.ReasonOOMKilled, OOMKilled: true, WaitStatus: 9, Message: "m"}), "wait", &externalv0.Wait{ContainerId: id("c")}, "0b00000012016d1809200328080801"},
		"unknown end":    {ended(containerizer.Termination{Reason: containerizer.ReasonUnknown, Message: "u"}), "wait", &externalv0.Wait{ContainerId: id("c")}, "050000001201750800"},
		"destroy nobody": {&engine{}, "destroy", &externalv0.Destroy{ContainerId: id("c")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := serve(t, x.engine, nil, x.command, x.message)
			if got := hex.EncodeToString(out); err != nil || got != x.want {
				t.Errorf("answered %s, %v; want %s", got, err, x.want)
			}
		})
	}
}

func TestControl(t *testing.T) {
	t.Parallel()
	e := &engine{}
	if _, err := serve(t, e, nil, "launch", launch(t.TempDir())); err != nil {
		t.Fatal(err)
	}
	mem := &mesosv0.Resource{Name: new("mem"), Type: mesosv0.Value_SCALAR.Enum(), Scalar: &mesosv0.Value_Scalar{Value: new(256.0)}, Reservations: []*mesosv0.Resource_ReservationInfo{{Role: new("prod")}}}
	if _, err := serve(t, e, nil, "update", &externalv0.Update{ContainerId: id("c"), Resources: []*mesosv0.Resource{mem}}); err != nil || *e.updated.Linux.Memory.Limit != 256<<20 {
		t.Errorf("update: %v, %+v", err, e.updated)
	}
	out, err := serve(t, e, nil, "usage", &externalv0.Usage{ContainerId: id("c")})
	usage := &mesosv0.ResourceStatistics{}
	if err != nil || proto.Unmarshal(out[4:], usage) != nil || usage.GetTimestamp() != 100 || usage.GetCpusUserTimeSecs() != 2 || usage.GetMemRssBytes() != 4096 {
		t.Errorf("usage: %v, %v", err, usage)
	}
	if _, err := serve(t, e, nil, "destroy", &externalv0.Destroy{ContainerId: id("c")}); err != nil || !slices.Equal(e.destroyed, []containerizer.ContainerID{"c"}) {
		t.Errorf("destroy: %v, %v", err, e.destroyed)
	}
	if _, err := serve(t, e, nil, "recover", nil); err != nil || !e.recovered {
		t.Errorf("recover: %v", err)
	}
	for command, m := range map[string]proto.Message{"update": &externalv0.Update{ContainerId: id("x")}, "usage": &externalv0.Usage{ContainerId: id("x")}, "wait": &externalv0.Wait{ContainerId: id("x")}} {
		if _, err := serve(t, e, nil, command, m); !errors.Is(err, containerizer.ErrNotFound) {
			t.Errorf("%s of a stranger: %v", command, err)
		}
	}
	if _, err := serve(t, e, nil, "observe", nil); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("observe: %v", err)
	}
}

// TestFrames: input that is no message.
func TestFrames(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		in   string
		want error
	}{
		"nothing":           {"", io.ErrUnexpectedEOF},
		"half a length":     {"\x01\x00", io.ErrUnexpectedEOF},
		"half a message":    {"\x05\x00\x00\x00\x0a", io.ErrUnexpectedEOF},
		"too long":          {"\xff\xff\xff\xff", containerizer.ErrResourceExhausted},
		"big-endian":        {"\x00\x00\x00\x05\x0a\x03\x0a\x01c", containerizer.ErrResourceExhausted},
		"no message":        {"\x02\x00\x00\x00\xff\xff", containerizer.ErrInvalid},
		"nothing in it":     {"\x00\x00\x00\x00", containerizer.ErrInvalid},
		"of the wrong type": {"\x02\x00\x00\x00\x08\x01", containerizer.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := external.New(external.Parts{Engine: &engine{}}, external.Options{})
			if err := c.Serve(t.Context(), "destroy", strings.NewReader(x.in), io.Discard); !errors.Is(err, x.want) {
				t.Errorf("error %v, want %v", err, x.want)
			}
		})
	}
}

// FuzzServe: whatever comes is served or refused, and nothing is launched that the
// description does not carry.
func FuzzServe(f *testing.F) {
	b, err := proto.Marshal(launch("/nonexistent"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("launch", append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...))
	f.Add("wait", []byte("\x05\x00\x00\x00\x0a\x03\x0a\x01c"))
	f.Add("update", []byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, command string, in []byte) {
		e := &engine{fail: errors.New("nothing is launched here")}
		c := external.New(external.Parts{Engine: e, Images: images{}, Artifacts: nothing{}}, external.Options{})
		if command == "launch" { // into a folder that may be written to
			m := &externalv0.Launch{}
			if len(in) < 4 || proto.Unmarshal(in[4:], m) != nil {
				t.Skip("other commands have the same frames")
			}
			m.Directory = new(t.TempDir())
			in = frame(t, m)
		}
		reader := bytes.NewReader(in)
		err := c.Serve(t.Context(), command, reader, io.Discard)
		if read := len(in) - reader.Len(); err == nil && len(in) >= 4 && read > 0 && read != 4+int(binary.LittleEndian.Uint32(in)) {
			t.Errorf("%d bytes were read of a message of %d", read, binary.LittleEndian.Uint32(in))
		}
	})
}

// nothing fetches nothing.
type nothing struct{}

func (nothing) Fetch(context.Context, string, []containerizer.Artifact, containerizer.FetchOptions) ([]containerizer.FetchedArtifact, error) {
	return nil, errors.New("nothing is fetched here")
}
