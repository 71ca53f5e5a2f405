package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// kubelet speaks to a daemon as a kubelet does.
type kubelet struct {
	runtimeapi.RuntimeServiceClient
	runtimeapi.ImageServiceClient

	n     *node
	image string
	logs  string
}

// kubelet connects to the daemon of the node, which it starts, and pulls the image.
func (n *node) kubelet() *kubelet {
	n.t.Helper()
	socket := filepath.Join(n.dir, "cri.sock")
	n.dropIn(fmt.Sprintf("[cri]\nsocket = %q\nnetwork = \"berth\"\n", socket))
	n.serve()
	c, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = c.Close() })
	k := &kubelet{runtimeapi.NewRuntimeServiceClient(c), runtimeapi.NewImageServiceClient(c), n, "", n.t.TempDir()}
	pulled, err := k.PullImage(n.t.Context(), &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: n.image}})
	if err != nil {
		n.t.Fatal(err)
	}
	k.image = pulled.GetImageRef()
	return k
}

// pod is the configuration of a pod sandbox as kubelets send it.
func (k *kubelet) pod(name string) *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Uid: "uid-" + name, Namespace: "default"},
		Hostname: name, LogDirectory: k.logs, DnsConfig: &runtimeapi.DNSConfig{Servers: []string{"10.1.2.3"}, Searches: []string{"svc.example"}},
		Labels: map[string]string{"io.kubernetes.pod.name": name}, Annotations: map[string]string{"a": "b"},
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: "/" + k.n.parent + "/kubepods", SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
			},
		},
	}
}

// container is that of a container that runs a script.
func (k *kubelet) container(name, script string) *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: name}, Image: &runtimeapi.ImageSpec{Image: k.image, UserSpecifiedImage: k.n.image},
		Command: []string{"sh", "-c", script}, Labels: map[string]string{"io.kubernetes.container.name": name}, LogPath: name + ".log",
		Linux: &runtimeapi.LinuxContainerConfig{
			Resources: &runtimeapi.LinuxContainerResources{CpuShares: 102, MemoryLimitInBytes: 64 << 20, OomScoreAdj: 500},
			SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
				Seccomp:          &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
			},
		},
	}
}

// runPod runs a pod sandbox.
func (k *kubelet) runPod(config *runtimeapi.PodSandboxConfig) string {
	k.n.t.Helper()
	r, err := k.RunPodSandbox(k.n.t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		k.n.t.Fatalf("RunPodSandbox: %v", err)
	}
	return r.GetPodSandboxId()
}

func (k *kubelet) removePod(id string) {
	ctx := context.WithoutCancel(k.n.t.Context())
	if _, err := k.StopPodSandbox(ctx, &runtimeapi.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		k.n.t.Errorf("StopPodSandbox: %v", err)
	}
	if _, err := k.RemovePodSandbox(ctx, &runtimeapi.RemovePodSandboxRequest{PodSandboxId: id}); err != nil {
		k.n.t.Errorf("RemovePodSandbox: %v", err)
	}
}

func (k *kubelet) create(pod string, config *runtimeapi.ContainerConfig) (string, error) {
	r, err := k.CreateContainer(k.n.t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: pod, Config: config})
	return r.GetContainerId(), err
}

// start creates and starts a container.
func (k *kubelet) start(pod string, config *runtimeapi.ContainerConfig) string {
	k.n.t.Helper()
	id, err := k.create(pod, config)
	if err != nil {
		k.n.t.Fatalf("CreateContainer: %v", err)
	}
	if _, err := k.StartContainer(k.n.t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		k.n.t.Fatalf("StartContainer: %v", err)
	}
	return id
}

func (k *kubelet) status(id string) *runtimeapi.ContainerStatus {
	k.n.t.Helper()
	r, err := k.ContainerStatus(k.n.t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
	if err != nil {
		k.n.t.Fatalf("ContainerStatus: %v", err)
	}
	return r.GetStatus()
}

func (k *kubelet) exec(id string, seconds int64, command ...string) (*runtimeapi.ExecSyncResponse, error) {
	return k.ExecSync(k.n.t.Context(), &runtimeapi.ExecSyncRequest{ContainerId: id, Cmd: command, Timeout: seconds})
}

// TestDaemonCRIPod is the life of a pod, as a kubelet leads it.
func TestDaemonCRIPod(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	k := n.kubelet()
	config := k.pod("web")
	pod := k.runPod(config)
	defer k.removePod(pod)
	if again := k.runPod(config); again != pod {
		t.Errorf("the same request made pod sandbox %s and then %s", pod, again)
	}
	ps, err := k.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: pod})
	if err != nil || ps.GetStatus().GetState() != runtimeapi.PodSandboxState_SANDBOX_READY || net.ParseIP(ps.GetStatus().GetNetwork().GetIp()) == nil {
		t.Fatalf("the pod sandbox is %v, %v", ps, err)
	}

	id, err := k.create(pod, k.container("main", "hostname; cat /etc/resolv.conf; echo $HOSTNAME; id -u; grep Seccomp: /proc/self/status; cat; sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	if s := k.status(id); s.GetState() != runtimeapi.ContainerState_CONTAINER_CREATED || s.GetImageRef() != k.image || s.GetImage().GetImage() != n.image {
		t.Errorf("a created container is %v", s)
	}
	if _, err := k.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err != nil {
		t.Fatal(err)
	}
	if s := k.status(id); s.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING || s.GetUser().GetLinux().GetUid() != 0 {
		t.Errorf("a started container is %v", s)
	}
	eventually(t, func() string {
		b, _ := os.ReadFile(filepath.Join(k.logs, "main.log"))
		for _, want := range []string{" stdout F web\n", " stdout F nameserver 10.1.2.3\n", " stdout F search svc.example\n", " stdout F 0\n", "Seccomp:\t2\n"} {
			if !bytes.Contains(b, []byte(want)) {
				return fmt.Sprintf("the log lacks %q: %q", want, b)
			}
		}
		return ""
	})

	out, err := k.exec(id, 10, "sh", "-c", "echo out; echo err >&2; exit 3")
	if err != nil || string(out.GetStdout()) != "out\n" || string(out.GetStderr()) != "err\n" || out.GetExitCode() != 3 {
		t.Errorf("ExecSync: %v, %v", out, err)
	}
	if _, err := k.exec(id, 1, "sh", "-c", "sleep 4321 & sleep 4321"); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("ExecSync beyond its time: %v", err)
	}
	if out, err := k.exec(id, 10, "sh", "-c", "ps | grep '[4]321'"); err != nil || out.GetExitCode() != 1 {
		t.Errorf("what a command had started lives on: %v, %v", out, err)
	}

	if _, err := k.StopContainer(t.Context(), &runtimeapi.StopContainerRequest{ContainerId: id, Timeout: 1}); err != nil {
		t.Error(err)
	}
	if s := k.status(id); s.GetState() != runtimeapi.ContainerState_CONTAINER_EXITED || s.GetExitCode() == 0 || s.GetFinishedAt() < s.GetStartedAt() {
		t.Errorf("a stopped container is %v", s)
	}
	list, err := k.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{PodSandboxId: pod}})
	if err != nil || len(list.GetContainers()) != 1 || list.GetContainers()[0].GetImageId() != k.image {
		t.Errorf("ListContainers: %v, %v", list, err)
	}
}

// TestDaemonCRISharedPIDs holds that containers that share the pod's pid namespace see its
// init, which reaps, and through it nothing of the host.
func TestDaemonCRISharedPIDs(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	k := n.kubelet()
	config := k.pod("shared")
	config.Linux.SecurityContext.NamespaceOptions = nil // the zero value is a shared namespace
	config.Linux.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "100"}
	pod := k.runPod(config)
	defer k.removePod(pod)
	c := k.container("main", "sleep 1000")
	c.Linux.SecurityContext.NamespaceOptions = nil
	id := k.start(pod, c)
	out, err := k.exec(id, 10, "sh", "-c", "ls -A /proc/1/root/ /proc/1/cwd/; cat /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max; cat /proc/1/cmdline")
	if want := "/proc/1/cwd/:\n\n/proc/1/root/:\n1\n100\nberth-init\x00"; err != nil || string(out.GetStdout()) != want {
		t.Errorf("the pod's init shows %q, %v, want %q", out.GetStdout(), err, want)
	}
}

// TestDaemonCRISurvives holds that a killed daemon forgets nothing that a kubelet wants to see.
func TestDaemonCRISurvives(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	k := n.kubelet()
	config := k.pod("stays")
	pod := k.runPod(config)
	defer k.removePod(pod)
	id := k.start(pod, k.container("main", "sleep 1000"))
	before := k.status(id)
	n.daemon.end(syscall.SIGKILL)
	n.serve()
	var after *runtimeapi.ContainerStatus
	eventually(t, func() string {
		r, err := k.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
		if err != nil {
			return err.Error()
		}
		after = r.GetStatus()
		return ""
	})
	if before.String() != after.String() {
		t.Errorf("the container was\n%v\nand is\n%v", before, after)
	}
	if again := k.runPod(config); again != pod {
		t.Errorf("the same request made another pod sandbox, %s", again)
	}
	if out, err := k.exec(id, 5, "true"); err != nil || out.GetExitCode() != 0 {
		t.Errorf("ExecSync: %v, %v", out, err)
	}
}

// TestDaemonCRIRefuses holds the codes by which a kubelet knows what happened, and that
// nothing is left of what was refused.
func TestDaemonCRIRefuses(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	k := n.kubelet()
	pod := k.runPod(k.pod("refuses"))
	defer k.removePod(pod)
	for name, change := range map[string]func(*runtimeapi.ContainerConfig){
		"group without user": func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 5}
		},
		"unknown user": func(c *runtimeapi.ContainerConfig) { c.Linux.SecurityContext.RunAsUsername = "nobody-knows" },
		"privileged in a pod that is not": func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.Privileged = true
		},
		"profile that is missing": func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "/nonexistent"}
		},
		"recursive read-only, not read-only": func(c *runtimeapi.ContainerConfig) {
			c.Mounts = []*runtimeapi.Mount{{HostPath: k.logs, ContainerPath: "/mnt", RecursiveReadOnly: true}}
		},
		"image that is missing": func(c *runtimeapi.ContainerConfig) { c.Image.Image = "registry.invalid/missing:1" },
	} {
		c := k.container("refused", "true")
		change(c)
		if id, err := k.create(pod, c); err == nil {
			t.Errorf("%s: container %s was made", name, id)
		}
	}
	c := k.container("no-command", "")
	c.Command = []string{"/nonexistent"}
	id, err := k.create(pod, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: id}); err == nil {
		t.Error("a command that does not exist was started")
	}
	if s := k.status(id); s.GetState() != runtimeapi.ContainerState_CONTAINER_EXITED || s.GetExitCode() != 128 || s.GetReason() != "StartError" {
		t.Errorf("afterwards it is %v", s)
	}
	list, err := k.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
	if err != nil || len(list.GetContainers()) != 1 {
		t.Errorf("there are containers: %v, %v", list, err)
	}
	for name, call := range map[string]func(string) error{
		"ContainerStatus": func(id string) error {
			_, err := k.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id})
			return err
		},
		"PodSandboxStatus": func(id string) error {
			_, err := k.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: id})
			return err
		},
	} {
		if err := call("0123456789"); status.Code(err) != codes.NotFound {
			t.Errorf("%s of an unknown id: %v", name, err)
		}
	}
	for range 2 { // both are idempotent
		k.removePod("0123456789")
	}
}

// TestDaemonCRIImages holds what image garbage collection rests on: one id everywhere.
func TestDaemonCRIImages(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	k := n.kubelet()
	for _, ref := range []string{n.image, k.image, strings.TrimPrefix(k.image, "sha256:")[:12]} {
		r, err := k.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: ref}})
		if err != nil || r.GetImage().GetId() != k.image || r.GetImage().GetSize() == 0 {
			t.Errorf("ImageStatus of %q: %v, %v", ref, r, err)
		}
	}
	if r, err := k.ImageStatus(t.Context(), &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: "registry.invalid/missing:1"}}); err != nil || r.GetImage() != nil {
		t.Errorf("ImageStatus of none: %v, %v", r, err)
	}
	fs, err := k.ImageFsInfo(t.Context(), &runtimeapi.ImageFsInfoRequest{})
	if err != nil || fs.GetImageFilesystems()[0].GetUsedBytes().GetValue() == 0 {
		t.Errorf("ImageFsInfo: %v, %v", fs, err)
	}
	for range 2 {
		if _, err := k.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: n.image}}); err != nil {
			t.Error(err)
		}
	}
	if l, err := k.ListImages(t.Context(), &runtimeapi.ListImagesRequest{}); err != nil || len(l.GetImages()) != 0 {
		t.Errorf("ListImages: %v, %v", l, err)
	}
}
