package external

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	mesosv0 "github.com/berth-dev/berth/proto/mesos"
	externalv0 "github.com/berth-dev/berth/proto/mesos/containerizer"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// adapterName marks our containers, as their origin.
const adapterName = "mesos-external"

// Parts are what calls are served over. All are needed. The engine is one of this process:
// containers get their files by descriptor.
type Parts struct {
	Engine    containerizer.Engine
	Images    containerizer.Images
	Artifacts containerizer.ArtifactFetcher
}

// Options are settings. The zero value works.
type Options struct {
	// Environ is what the agent gives, as KEY=VALUE.
	Environ []string
	// EnableCFS bounds processor time by requests.
	EnableCFS bool
}

// Containerizer serves one call.
type Containerizer struct {
	Parts

	o Options
}

// New returns a containerizer.
func New(parts Parts, o Options) *Containerizer { return &Containerizer{parts, o} }

// handler serves a command with a message from in, and its answer to out.
type handler func(ctx context.Context, in io.Reader, out io.Writer) error

// with is a handler of a command with a message.
func with[M any, P interface {
	*M
	proto.Message
}](serve func(context.Context, P) (proto.Message, error),
) handler {
	return func(ctx context.Context, in io.Reader, out io.Writer) error {
		m := P(new(M))
		if err := readFrame(in, m); err != nil {
			return err
		}
		return answer(ctx, out, func(ctx context.Context) (proto.Message, error) { return serve(ctx, m) })
	}
}

// without is a handler of a command that has none.
func without(serve func(context.Context) (proto.Message, error)) handler {
	return func(ctx context.Context, _ io.Reader, out io.Writer) error { return answer(ctx, out, serve) }
}

// answer writes what serve returns, unless that is nothing.
func answer(ctx context.Context, out io.Writer, serve func(context.Context) (proto.Message, error)) error {
	m, err := serve(ctx)
	if err != nil || m == nil {
		return err
	}
	return writeFrame(out, m)
}

func (c *Containerizer) commands() map[string]handler {
	return map[string]handler{
		"launch": with(c.launch), "update": with(c.update), "usage": with(c.usage), "wait": with(c.wait), "destroy": with(c.destroy),
		"containers": without(c.containers), "recover": without(c.recover),
	}
}

// Serve does what command says, which an agent gives as an argument. An error is all
// that an agent learns of a failure.
func (c *Containerizer) Serve(ctx context.Context, command string, in io.Reader, out io.Writer) error {
	all := c.commands()
	do, known := all[command]
	if !known {
		return fmt.Errorf("command %.100q: %s exist: %w", command, strings.Join(slices.Sorted(maps.Keys(all)), ", "), containerizer.ErrInvalid)
	}
	return do(ctx, in, out)
}

// later is m in the words of the later API, whose numbers are the same.
func later[M any, P interface {
	*M
	proto.Message
}](m proto.Message,
) (P, error) {
	if !m.ProtoReflect().IsValid() {
		return nil, nil
	}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	p := P(new(M))
	return p, proto.Unmarshal(b, p)
}

// idOf is the id of the vocabulary for that of a message. Nothing was nested then.
func idOf(m *mesosv0.ContainerID) (containerizer.ContainerID, error) {
	return translate.IDOf(&mesosv1.ContainerID{Value: m.Value})
}

// find returns a container of ours. Errors: ErrNotFound.
func (c *Containerizer) find(ctx context.Context, m *mesosv0.ContainerID) (containerizer.ContainerID, error) {
	id, err := idOf(m)
	if err != nil {
		return "", err
	}
	st, err := c.Engine.Status(ctx, id)
	if err == nil && !ours(st) {
		err = fmt.Errorf("container %q is not one of an agent: %w", id, containerizer.ErrNotFound)
	}
	return id, err
}

func ours(st *containerizer.Status) bool {
	return st.Spec != nil && st.Spec.Origin != nil && st.Spec.Origin.Adapter == adapterName
}

// update changes what a container may use.
func (c *Containerizer) update(ctx context.Context, m *externalv0.Update) (proto.Message, error) {
	id, err := c.find(ctx, m.GetContainerId())
	if err != nil {
		return nil, err
	}
	resources, err := resourcesOf(m.GetResources())
	if err != nil {
		return nil, err
	}
	linux, err := c.translator("").Sum([]*translate.Order{{Resources: resources}})
	if err != nil {
		return nil, err
	}
	return nil, c.Engine.Update(ctx, id, &containerizer.Resources{Linux: linux})
}

func resourcesOf(list []*mesosv0.Resource) ([]*mesosv1.Resource, error) {
	var all []*mesosv1.Resource
	for _, r := range list {
		one, err := later[mesosv1.Resource](r)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// usage measures a container.
func (c *Containerizer) usage(ctx context.Context, m *externalv0.Usage) (proto.Message, error) {
	id, err := c.find(ctx, m.GetContainerId())
	if err != nil {
		return nil, err
	}
	u, err := c.Engine.Usage(ctx, id)
	if err != nil {
		return nil, err
	}
	return translate.StatisticsOf(u), nil
}

// wait waits for the end of a container: one that has ended tells how as long as that is
// remembered.
func (c *Containerizer) wait(ctx context.Context, m *externalv0.Wait) (proto.Message, error) {
	id, err := idOf(m.GetContainerId())
	if err != nil {
		return nil, err
	}
	end, err := c.Engine.Wait(ctx, id)
	if err != nil {
		return nil, err
	}
	t := &externalv0.Termination{Message: new("The executor has ended")}
	if end.Message != "" {
		t.Message = &end.Message
	}
	if end.Reason != containerizer.ReasonUnknown {
		t.Status = new(int32(end.WaitStatus)) //nolint:gosec // 16 bits of it are used
	}
	limit := translate.LimitationOf(end)
	if limit != nil {
		t.State = mesosv0.TaskState_TASK_FAILED.Enum()
		t.Reasons = []mesosv0.TaskStatus_Reason{mesosv0.TaskStatus_Reason(translate.ReasonOf(limit))}
		if end.Message == "" {
			t.Message = &limit.Message
		}
	}
	// Agents before 0.26 require a field that later ones do not know: whether it was killed.
	const killed = 1
	old := protowire.AppendVarint(protowire.AppendTag(nil, killed, protowire.VarintType), protowire.EncodeBool(limit != nil || end.Reason == containerizer.ReasonKilled))
	t.ProtoReflect().SetUnknown(old)
	return t, nil
}

// destroy ends a container. It is a no-op for one that is gone.
func (c *Containerizer) destroy(ctx context.Context, m *externalv0.Destroy) (proto.Message, error) {
	id, err := c.find(ctx, m.GetContainerId())
	if errors.Is(err, containerizer.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return nil, c.Engine.Destroy(ctx, id)
}

// containers lists those that live.
func (c *Containerizer) containers(ctx context.Context) (proto.Message, error) {
	all, err := c.Engine.List(ctx, containerizer.Filter{Labels: map[string]string{translate.LabelClass: translate.ClassStandalone}})
	if err != nil {
		return nil, err
	}
	m := &externalv0.Containers{}
	for i := range all {
		if st := &all[i]; ours(st) && st.State.Alive() {
			m.Containers = append(m.Containers, &mesosv0.ContainerID{Value: new(st.ID.String())})
		}
	}
	return m, nil
}

// recover puts right what calls left that were cut off.
func (c *Containerizer) recover(ctx context.Context) (proto.Message, error) {
	_, err := c.Engine.Recover(ctx, true)
	return nil, err
}

// translator is that of a container whose sandbox is directory.
func (c *Containerizer) translator(directory string) *translate.Translator {
	sandbox := func(id containerizer.ContainerID) translate.Sandbox { return translate.SandboxOf(directory, id) }
	return translate.New(c.Images, sandbox, translate.Options{Adapter: adapterName, EnableCFS: c.o.EnableCFS, Reserved: true, Docker: true})
}

// launch launches an executor, and returns once that runs.
func (c *Containerizer) launch(ctx context.Context, m *externalv0.Launch) (proto.Message, error) {
	if !filepath.IsAbs(m.GetDirectory()) {
		return nil, fmt.Errorf("directory %.200q is not an absolute path: %w", m.GetDirectory(), containerizer.ErrInvalid)
	}
	o, err := c.order(m)
	if err != nil {
		return nil, err
	}
	p, err := c.translator(m.GetDirectory()).Plan(ctx, o, nil)
	if err != nil {
		return nil, err
	}
	p.Spec.AutoRemove = true
	p.Spec.StopSignal = "SIGTERM"
	p.Spec.Process.Init = true
	if p.Spec.Process.Terminal {
		return nil, fmt.Errorf("nobody would read a terminal: %w", containerizer.ErrUnsupported)
	}
	if err := p.PrepareSandbox(); err != nil {
		return nil, err
	}
	if err := p.Fetch(ctx, c.Artifacts); err != nil {
		return nil, err
	}
	return nil, c.start(ctx, p)
}

// start launches what is planned, with its output in the sandbox.
func (c *Containerizer) start(ctx context.Context, p *translate.Plan) error {
	files := [3]*os.File{}
	var err error
	defer func() {
		for _, f := range files {
			if f != nil {
				_ = f.Close() // the container has its own
			}
		}
	}()
	if files[0], err = os.Open(os.DevNull); err != nil {
		return err
	}
	for i, name := range []string{"stdout", "stderr"} {
		if files[i+1], err = p.Sandbox.Output(name, p.Owner); err != nil {
			return err
		}
	}
	_, err = c.Engine.Launch(ctx, p.ID, p.Spec, containerizer.LaunchOptions{Attach: &containerizer.IO{Files: &files}})
	if err != nil && !errors.Is(err, containerizer.ErrAlreadyExists) {
		err = errors.Join(err, c.Engine.Destroy(context.WithoutCancel(ctx), p.ID))
	}
	return err
}

// order is what a message asks for: an executor, which for a task that is a command is
// the agent's own.
func (c *Containerizer) order(m *externalv0.Launch) (*translate.Order, error) {
	id, err := idOf(m.GetContainerId())
	if err != nil {
		return nil, err
	}
	if m.GetExecutorInfo().GetCommand() == nil {
		return nil, fmt.Errorf("there is no executor, or it has no command: %w", containerizer.ErrInvalid)
	}
	executor, err := later[mesosv1.ExecutorInfo](m.GetExecutorInfo())
	if err != nil {
		return nil, err
	}
	task, err := later[mesosv1.TaskInfo](m.GetTaskInfo())
	if err != nil {
		return nil, err
	}
	o := &translate.Order{
		ID: id, Class: translate.ClassStandalone, Command: executor.GetCommand(), Container: executor.GetContainer(),
		Resources: append(executor.GetResources(), task.GetResources()...),
	}
	if o.Container == nil {
		o.Container = task.GetContainer()
	}
	if image := c.variable("MESOS_DEFAULT_CONTAINER_IMAGE"); o.Container == nil && image != "" {
		o.Container = &mesosv1.ContainerInfo{Type: mesosv1.ContainerInfo_MESOS.Enum(), Mesos: &mesosv1.ContainerInfo_MesosInfo{Image: &mesosv1.Image{
			Type: mesosv1.Image_DOCKER.Enum(), Docker: &mesosv1.Image_Docker{Name: new(strings.TrimPrefix(image, "docker:///"))},
		}}}
	}
	if o.Command.User == nil && m.User != nil {
		o.Command.User = m.User
	}
	o.Env = c.environment(o.Container.GetMesos().GetImage() != nil || o.Container.GetDocker() != nil)
	return o, nil
}

func (c *Containerizer) variable(name string) string {
	for _, v := range c.o.Environ {
		if value, is := strings.CutPrefix(v, name+"="); is {
			return value
		}
	}
	return ""
}

// environment is what the agent gives to the executor. An image has paths of its own.
func (c *Containerizer) environment(image bool) []string { //nolint:revive // it is a fact, not a mode
	var env []string
	for _, v := range c.o.Environ {
		name, _, _ := strings.Cut(v, "=")
		about := strings.HasPrefix(name, "MESOS_") || strings.HasPrefix(name, "LIBPROCESS_")
		if (about || !image) && !strings.HasPrefix(name, "BERTH_") {
			env = append(env, v)
		}
	}
	return env
}
