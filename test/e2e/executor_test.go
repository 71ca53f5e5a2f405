package e2e_test

import (
	"bytes"
	"context"
	endian "encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer/adapter/mesos/executortest"
	mesosv0 "github.com/berth-dev/berth/proto/mesos"
	externalv0 "github.com/berth-dev/berth/proto/mesos/containerizer"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
)

// mesosExecutor is the executor's program with a scripted agent.
type mesosExecutor struct {
	*executortest.Agent

	n       *node
	cmd     *exec.Cmd
	sandbox string
	stderr  *os.File
}

// mesosExecutor starts the executor of a sandbox, with what follows as its arguments.
func (n *node) mesosExecutor(a *executortest.Agent, sandbox string, env map[string]string, args ...string) *mesosExecutor {
	n.t.Helper()
	x := &mesosExecutor{Agent: a, n: n, sandbox: sandbox}
	x.cmd = exec.CommandContext(n.t.Context(), binary(n.t, "berth-mesos-executor"), append([]string{
		"--config", n.configPath(), "--root", filepath.Join(n.dir, "root"), "--state", filepath.Join(n.dir, "state"), "--log-level", "debug",
	}, args...)...)
	x.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for k, v := range a.Environment(sandbox, env) {
		x.cmd.Env = append(x.cmd.Env, k+"="+v)
	}
	var err error
	if x.stderr, err = os.CreateTemp(n.t.TempDir(), "stderr"); err != nil {
		n.t.Fatal(err)
	}
	x.cmd.Stderr = x.stderr
	if err := x.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = x.cmd.Process.Kill() // it has ended, or the test has failed
		_ = x.cmd.Wait()         // the same
		if n.t.Failed() {
			text, _ := os.ReadFile(x.stderr.Name()) // what there is
			n.t.Logf("the executor's log:\n%s", text)
		}
	})
	return x
}

// task is one that runs a command in the busybox image.
func (x *mesosExecutor) task(id, command string) *mesosv1.TaskInfo {
	t := executortest.Task(id, command)
	t.Container = &mesosv1.ContainerInfo{Type: mesosv1.ContainerInfo_MESOS.Enum(), Mesos: &mesosv1.ContainerInfo_MesosInfo{
		Image: &mesosv1.Image{Type: mesosv1.Image_DOCKER.Enum(), Docker: &mesosv1.Image_Docker{Name: &x.n.image}},
	}}
	return t
}

// file reads a file of a task's sandbox.
func (x *mesosExecutor) file(task, name string) string {
	x.n.t.Helper()
	b, err := os.ReadFile(filepath.Join(x.sandbox, "tasks", task, name))
	if err != nil {
		x.n.t.Error(err)
	}
	return string(b)
}

// wrote waits until a task has written want.
func (x *mesosExecutor) wrote(task, want string) {
	x.n.t.Helper()
	eventually(x.n.t, func() string {
		if got := x.file(task, "stdout"); got != want {
			return fmt.Sprintf("%s wrote %q, not %q", task, got, want)
		}
		return ""
	})
}

// wait waits for the executor's end.
func (x *mesosExecutor) wait() {
	x.n.t.Helper()
	if err := x.cmd.Wait(); err != nil {
		x.n.t.Errorf("the executor: %v", err)
	}
}

// TestMesosExecutor: tasks of a stock agent as containers, in both encodings.
func TestMesosExecutor(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"json", "protobuf"} {
		t.Run(encoding, func(t *testing.T) {
			n := newNode(t)
			a := executortest.New(t)
			a.Token = "token"
			x := n.mesosExecutor(a, t.TempDir(), nil, "--encoding", encoding)
			x.Subscribe(mesosv1.FrameworkInfo_Capability_TASK_KILLING_STATE)
			x.Launch(x.task("anchor", "trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done")) // the executor stays for it
			x.Expect("anchor", mesosv1.TaskState_TASK_RUNNING)
			x.ends(t)
			x.group(t)
			x.restarts(t)
			x.Kill("anchor", time.Minute)
			x.Expect("anchor", mesosv1.TaskState_TASK_KILLING)
			if u := x.Expect("anchor", mesosv1.TaskState_TASK_KILLED); !strings.Contains(u.GetMessage(), "status 0") {
				t.Errorf("the last task ended: %s", u.GetMessage())
			}
			x.wait()
			if got := x.file("anchor", "stdout"); got != "bye\n" {
				t.Errorf("it wrote %q", got)
			}
		})
	}
}

// ends: how single tasks end, and what they see.
func (x *mesosExecutor) ends(t *testing.T) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(source, []byte("#!/bin/sh\necho fetched $MESOS_TASK_ID $A $MESOS_SANDBOX $MESOS_EXECUTOR_AUTHENTICATION_TOKEN; echo err >&2; exit 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool := x.task("tool", "./tool")
	tool.Command.Uris = []*mesosv1.CommandInfo_URI{{Value: new("file://" + source), Executable: new(true)}}
	tool.Command.Environment = &mesosv1.Environment{Variables: []*mesosv1.Environment_Variable{{Name: new("A"), Value: new("b")}}}
	x.Launch(tool)
	if u := x.Expect("tool", mesosv1.TaskState_TASK_FAILED); u.GetMessage() != "Command exited with status 3" || u.Reason != nil {
		t.Errorf("tool ended %v", u)
	}
	if out, e := x.file("tool", "stdout"), x.file("tool", "stderr"); out != "fetched tool b /mnt/mesos/sandbox\n" || e != "err\n" {
		t.Errorf("tool wrote %q and %q", out, e)
	}

	x.Launch(x.task("oom", "sleep 0.2; x=x; while :; do x=$x$x; done"))
	if u := x.Expect("oom", mesosv1.TaskState_TASK_FAILED); u.GetReason() != mesosv1.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY || len(u.GetLimitation().GetResources()) != 1 {
		t.Errorf("oom ended %v", u)
	}

	deaf := x.task("deaf", "trap '' TERM; echo deaf; while :; do sleep 0.05; done")
	x.Launch(deaf)
	x.Expect("deaf", mesosv1.TaskState_TASK_RUNNING)
	x.wrote("deaf", "deaf\n") // it does not hear from now on
	x.Kill("deaf", 200*time.Millisecond)
	if u := x.Expect("deaf", mesosv1.TaskState_TASK_KILLED); !strings.Contains(u.GetMessage(), "SIGKILL") {
		t.Errorf("deaf ended %v", u)
	}

	host := executortest.Task("host", "readlink /proc/self/ns/net; tty; id -un; pwd") // the host's files
	host.Container = &mesosv1.ContainerInfo{Type: mesosv1.ContainerInfo_MESOS.Enum(), TtyInfo: &mesosv1.TTYInfo{WindowSize: &mesosv1.TTYInfo_WindowSize{Rows: new(uint32(10)), Columns: new(uint32(20))}}}
	host.Command.User = new("nobody")
	x.Launch(host)
	x.Expect("host", mesosv1.TaskState_TASK_FINISHED)
	ours, err := os.Readlink("/proc/self/ns/net")
	if got := strings.Split(x.file("host", "stdout"), "\r\n"); err != nil || len(got) != 5 || got[0] != ours || !strings.HasPrefix(got[1], "/dev/") || got[2] != "nobody" || !strings.HasPrefix(got[3], x.sandbox) {
		t.Errorf("host wrote %q, %v", got, err)
	}

	secret := x.task("secret", "echo $S; while [ ! -e go ]; do sleep 0.02; done")
	secret.Command.Environment = &mesosv1.Environment{Variables: []*mesosv1.Environment_Variable{{
		Name: new("S"), Type: mesosv1.Environment_Variable_SECRET.Enum(), Secret: &mesosv1.Secret{Type: mesosv1.Secret_VALUE.Enum(), Value: &mesosv1.Secret_Value{Data: []byte("hush-" + x.sandbox)}},
	}}}
	x.Launch(secret)
	x.Expect("secret", mesosv1.TaskState_TASK_RUNNING)
	x.wrote("secret", "hush-"+x.sandbox+"\n")
	x.n.nowhere([]byte("hush-" + x.sandbox))
	if err := os.WriteFile(filepath.Join(x.sandbox, "tasks", "secret", "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	x.Expect("secret", mesosv1.TaskState_TASK_FINISHED)

	missing := x.task("missing", "x")
	missing.Command = &mesosv1.CommandInfo{Shell: new(false), Value: new("/no/such/program")}
	x.Launch(missing)
	if u := x.Expect("missing", mesosv1.TaskState_TASK_FAILED); !strings.Contains(u.GetMessage(), "/no/such/program") && !strings.Contains(u.GetMessage(), "127") {
		t.Errorf("missing ended %v", u)
	}
}

// nowhere looks for what must not be in any file of the node.
func (n *node) nowhere(secret []byte) {
	n.t.Helper()
	seen := 0
	err := filepath.WalkDir(n.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // it went meanwhile
		}
		b, err := os.ReadFile(path)
		if err == nil {
			seen++
		}
		if bytes.Contains(b, secret) {
			n.t.Errorf("%s has the secret", path)
		}
		return nil
	})
	if err != nil || seen == 0 {
		n.t.Errorf("%d files were looked at, %v", seen, err)
	}
}

// group: tasks that share a volume of the executor's sandbox and their pid namespace, with
// a network of its own that is checked from within.
func (x *mesosExecutor) group(t *testing.T) {
	t.Helper()
	volume := []*mesosv1.Volume{{Mode: mesosv1.Volume_RW.Enum(), ContainerPath: new("shared"), Source: &mesosv1.Volume_Source{
		Type: mesosv1.Volume_Source_SANDBOX_PATH.Enum(), SandboxPath: &mesosv1.Volume_Source_SandboxPath{Type: mesosv1.Volume_Source_SandboxPath_PARENT.Enum(), Path: new("data")},
	}}}
	web := x.task("web", "while [ ! -e shared/index.html ]; do sleep 0.02; done; exec httpd -f -p 8080 -h shared")
	web.Container.Volumes = volume
	web.Container.NetworkInfos = []*mesosv1.NetworkInfo{{Name: new("berth")}}
	web.HealthCheck = &mesosv1.HealthCheck{
		Type: mesosv1.HealthCheck_HTTP.Enum(), Http: &mesosv1.HealthCheck_HTTPCheckInfo{Port: new(uint32(8080)), Path: new("/index.html")},
		DelaySeconds: new(0.0), IntervalSeconds: new(0.05), GracePeriodSeconds: new(60.0),
	}
	web.Check = &mesosv1.CheckInfo{Type: mesosv1.CheckInfo_COMMAND.Enum(), Command: &mesosv1.CheckInfo_Command{Command: &mesosv1.CommandInfo{Value: new("cat shared/index.html; exit 5")}}, DelaySeconds: new(0.0), IntervalSeconds: new(0.05)}
	writer := x.task("writer", "echo page > shared/index.html; trap 'exit 0' TERM; while :; do sleep 0.05; done")
	writer.Container.Volumes = volume
	writer.Container.LinuxInfo = &mesosv1.LinuxInfo{SharePidNamespace: new(true), ShareCgroups: new(false)}
	x.LaunchGroup(web, writer)
	u := x.Expect("web", mesosv1.TaskState_TASK_RUNNING)
	if infos := u.GetContainerStatus().GetNetworkInfos(); len(infos) != 1 || infos[0].GetName() != "berth" || len(infos[0].GetIpAddresses()) == 0 {
		t.Errorf("web is at %v", u.GetContainerStatus())
	}
	for !u.GetHealthy() || u.GetCheckStatus().GetCommand().GetExitCode() != 5 {
		u = x.Expect("web", mesosv1.TaskState_TASK_RUNNING)
	}
	x.Kill("web", -1) // the other goes with it
	ended := map[string]mesosv1.TaskState{}
	for len(ended) < 2 {
		u := x.Update()
		x.Acknowledge(u)
		if s := u.GetState(); s != mesosv1.TaskState_TASK_RUNNING && s != mesosv1.TaskState_TASK_KILLING && s != mesosv1.TaskState_TASK_STARTING {
			ended[u.GetTaskId().GetValue()] = s
		}
	}
	if ended["web"] != mesosv1.TaskState_TASK_KILLED || ended["writer"] != mesosv1.TaskState_TASK_KILLED {
		t.Errorf("the group ended %v", ended)
	}
}

// restarts: the agent dies, and a task ends before it comes back.
func (x *mesosExecutor) restarts(t *testing.T) {
	t.Helper()
	x.Launch(x.task("during", "while [ ! -e go ]; do sleep 0.02; done; touch gone"))
	x.Expect("during", mesosv1.TaskState_TASK_RUNNING)
	x.Stop()
	sandbox := filepath.Join(x.sandbox, "tasks", "during")
	if err := os.WriteFile(filepath.Join(sandbox, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		_, err := os.Stat(filepath.Join(sandbox, "gone")) // and then it has ended, or does at once
		return unless(err == nil, fmt.Sprint(err))
	})
	x.Start()
	s := x.Subscribe(mesosv1.FrameworkInfo_Capability_TASK_KILLING_STATE)
	ended := false
	for _, u := range s.Call.GetUnacknowledgedUpdates() {
		x.Acknowledge(u.GetStatus())
		ended = ended || u.GetStatus().GetState() == mesosv1.TaskState_TASK_FINISHED
	}
	if !ended { // it had not by then
		x.Expect("during", mesosv1.TaskState_TASK_FINISHED)
	}
}

// TestMesosExecutorKilled: one that is killed leaves its tree, and the next removes it. That
// is told to end ends its tasks.
func TestMesosExecutorKilled(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	first := n.mesosExecutor(executortest.New(t), t.TempDir(), nil)
	first.Subscribe()
	first.Launch(first.task("a", "sleep 1000"))
	first.Expect("a", mesosv1.TaskState_TASK_RUNNING)
	if err := first.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Wait() // it was killed
	left := func() []string { return strings.Fields(n.must("ps", "-aq", "--no-trunc")) }
	before := left()
	if len(before) == 0 {
		t.Error("nothing is left, so that this tests nothing")
	}
	second := n.mesosExecutor(executortest.New(t), t.TempDir(), nil, "--image", n.image, "--", "sh", "-c", "echo $OF_EXECUTOR; sleep 1000")
	second.Subscribe()
	task := executortest.Task("b", "")
	task.Command, task.Executor = nil, &mesosv1.ExecutorInfo{ExecutorId: &mesosv1.ExecutorID{Value: new("executor")}}
	second.Launch(task)
	second.Expect("b", mesosv1.TaskState_TASK_RUNNING)
	eventually(t, func() string {
		for _, id := range left() {
			if slices.Contains(before, id) {
				return fmt.Sprintf("%s is still there", id)
			}
		}
		return ""
	})
	second.Shutdown()
	second.Expect("b", mesosv1.TaskState_TASK_KILLED)
	second.wait()
	if got := second.file("b", "stdout"); got != "yes\n" {
		t.Errorf("it wrote %q", got)
	}
	if ids := left(); len(ids) > 0 {
		t.Errorf("left: %v", ids)
	}
}

// external is a call of an agent to its external containerizer: m in a frame, and the
// answer's message.
func (n *node) external(command string, env []string, m proto.Message) (message []byte, code int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	cmd := n.command(ctx, "mesos", "external", command)
	cmd.Env = append(os.Environ(), env...)
	r, w, err := os.Pipe()
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Close() //nolint:errcheck // only read
	defer w.Close() //nolint:errcheck // it stays open for as long as the call takes: agents do not close it
	if m != nil {
		b, err := proto.Marshal(m)
		if err != nil {
			n.t.Fatal(err)
		}
		if _, err := w.Write(append(endian.LittleEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
			n.t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		n.t.Logf("berth mesos external %s: %v: %s", command, err, &stderr)
	}
	out := stdout.Bytes()
	if len(out) > 0 && (len(out) < 4 || int(endian.LittleEndian.Uint32(out)) != len(out)-4) {
		n.t.Fatalf("berth mesos external %s answers %q, which is no frame", command, out)
	}
	return out[min(4, len(out)):], cmd.ProcessState.ExitCode()
}

// TestMesosExternal: berth as the external containerizer of an old agent.
func TestMesosExternal(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	scalar := func(name string, value float64) *mesosv0.Resource {
		return &mesosv0.Resource{Name: &name, Type: mesosv0.Value_SCALAR.Enum(), Scalar: &mesosv0.Value_Scalar{Value: &value}}
	}
	id := func(s string) *mesosv0.ContainerID { return &mesosv0.ContainerID{Value: &s} }
	launch := func(name, script string) (dir string) {
		t.Helper()
		dir = t.TempDir()
		_, code := n.external("launch", []string{"MESOS_EXECUTOR_ID=e", "MESOS_DEFAULT_CONTAINER_IMAGE=" + n.image}, &externalv0.Launch{
			ContainerId: id(name), Directory: &dir, ExecutorInfo: &mesosv0.ExecutorInfo{
				ExecutorId: &mesosv0.ExecutorID{Value: new("e")}, Command: &mesosv0.CommandInfo{Value: &script},
				Resources: []*mesosv0.Resource{scalar("cpus", 0.1), scalar("mem", 64)},
			},
		})
		if code != 0 {
			t.Fatalf("launch of %s: exit status %d", name, code)
		}
		return dir
	}
	ids := func() (all []string) {
		t.Helper()
		b, code := n.external("containers", nil, nil)
		m := &externalv0.Containers{}
		if err := proto.Unmarshal(b, m); err != nil || code != 0 {
			t.Fatalf("containers: %v, exit status %d", err, code)
		}
		for _, c := range m.GetContainers() {
			all = append(all, c.GetValue())
		}
		slices.Sort(all)
		return all
	}
	wait := func(name string) *externalv0.Termination {
		t.Helper()
		b, code := n.external("wait", nil, &externalv0.Wait{ContainerId: id(name)})
		m := &externalv0.Termination{}
		if err := proto.Unmarshal(b, m); err != nil || code != 0 {
			t.Fatalf("wait for %s: %v, exit status %d", name, err, code)
		}
		return m
	}
	if _, code := n.external("recover", nil, nil); code != 0 {
		t.Errorf("recover: exit status %d", code)
	}
	dir := launch("short", "echo $MESOS_EXECUTOR_ID; until [ -e go ]; do sleep 0.02; done; exit 3")
	launch("long", "sleep 1000")
	if got := ids(); !slices.Equal(got, []string{"long", "short"}) {
		t.Errorf("containers %q", got)
	}
	usage, code := n.external("usage", nil, &externalv0.Usage{ContainerId: id("long")})
	statistics := &mesosv0.ResourceStatistics{}
	if err := proto.Unmarshal(usage, statistics); err != nil || code != 0 || statistics.GetMemLimitBytes() != 64<<20 {
		t.Errorf("usage: %v, exit status %d, %v", err, code, statistics)
	}
	if _, code := n.external("update", nil, &externalv0.Update{ContainerId: id("long"), Resources: []*mesosv0.Resource{scalar("mem", 96)}}); code != 0 {
		t.Errorf("update: exit status %d", code)
	}
	usage, _ = n.external("usage", nil, &externalv0.Usage{ContainerId: id("long")})
	if err := proto.Unmarshal(usage, statistics); err != nil || statistics.GetMemLimitBytes() != 96<<20 {
		t.Errorf("usage after the update: %v, %v", err, statistics)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if end := wait("short"); end.GetStatus() != 3<<8 || end.State != nil {
		t.Errorf("short ended %v", end)
	}
	if out, err := os.ReadFile(filepath.Join(dir, "stdout")); err != nil || string(out) != "e\n" {
		t.Errorf("it wrote %q, %v", out, err)
	}
	launch("greedy", "sleep 0.2; x=x; while :; do x=$x$x; done")
	if end := wait("greedy"); end.GetState() != mesosv0.TaskState_TASK_FAILED || !slices.Equal(end.GetReasons(), []mesosv0.TaskStatus_Reason{mesosv0.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY}) {
		t.Errorf("greedy ended %v", end)
	}
	for range 2 { // the second time there is none
		if _, code := n.external("destroy", nil, &externalv0.Destroy{ContainerId: id("long")}); code != 0 {
			t.Errorf("destroy: exit status %d", code)
		}
	}
	if end := wait("long"); end.GetStatus() != 9 {
		t.Errorf("long ended %v", end)
	}
	if got := ids(); len(got) > 0 {
		t.Errorf("containers %q", got)
	}
	if _, code := n.external("wait", nil, &externalv0.Wait{ContainerId: id("nobody")}); code == 0 {
		t.Error("a wait for nobody succeeds")
	}
}
