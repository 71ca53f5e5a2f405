package kubelet_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// api is where the kubelet listens, in the network namespace of the tests.
const api = "127.0.0.1:10250"

// configuration is the kubelet's (kubelet-config.v1beta1).
func (n *node) configuration() string {
	c := map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"containerRuntimeEndpoint": "unix://" + n.path("cri.sock"),
		"staticPodPath":            n.path("manifests"), "fileCheckFrequency": "1s",
		"podLogsDir": n.path("logs"), "volumePluginDir": n.path("plugins"), "resolvConf": n.path("resolv.conf"),
		"address": "127.0.0.1", "healthzBindAddress": "127.0.0.1",
		"authentication": map[string]any{"anonymous": map[string]any{"enabled": true}, "webhook": map[string]any{"enabled": false}},
		"authorization":  map[string]any{"mode": "AlwaysAllow"},
		"cgroupRoot":     "/" + n.parent, "cgroupsPerQOS": true, "enforceNodeAllocatable": []string{"pods"},
		"failCgroupV1": false, "failSwapOn": false, "makeIPTablesUtilChains": false, "protectKernelDefaults": false,
		// The disk of the machine is none of ours: nothing is evicted or removed for its sake.
		"evictionHard":                map[string]string{"memory.available": "1Mi"},
		"imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
		"containerLogMaxSize": "64Ki", "containerLogMaxFiles": 3, "containerLogMonitorInterval": "3s",
		"serializeImagePulls": false, "registryPullQPS": 0, "syncFrequency": "5s",
		// What crashes is started again within seconds.
		"crashLoopBackOff": map[string]any{"maxContainerRestartPeriod": "2s"},
		"featureGates":     map[string]bool{"KubeletCrashLoopBackOffMax": true, "ImageVolume": true},
	}
	maps.Copy(c, n.settings)
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		n.Fatal(err)
	}
	return string(text)
}

// startKubelet starts the kubelet and waits until it serves.
func (n *node) startKubelet() {
	n.Helper()
	n.write("resolv.conf", "nameserver 192.0.2.53\n")
	n.write("manifests/.keep", "") // files with a dot are left alone
	n.write("kubelet.json", n.configuration())
	cmd := exec.CommandContext(context.WithoutCancel(n.Context()), "/proc/self/exe", kubeletPath(n.T), //nolint:gosec // ours
		"--config", n.path("kubelet.json"), "--root-dir", n.path("kubelet"), "--cert-dir", n.path("kubelet/pki"),
		"--hostname-override", "node", "--node-ip", nodeAddress, "--v", "2")
	cmd.Env = append(cmd.Environ(), kubeletVariable+"="+n.dir)
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	n.kubelet = n.start("kubelet", cmd)
	eventually(n.T, func() string {
		select {
		case <-n.kubelet.done:
			n.Fatalf("the kubelet has ended:\n%s", n.kubelet.tail())
		default:
		}
		return answers(n.Context(), api)
	})
}

// insecureTLS is for the certificate that the kubelet signs itself.
func insecureTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} } //nolint:gosec // loopback

// get asks the kubelet.
func (n *node) get(path string) (string, error) {
	return n.request(http.MethodGet, path)
}

func (n *node) request(method, path string) (string, error) {
	ctx, cancel := context.WithTimeout(n.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "https://"+api+path, http.NoBody)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: insecureTLS(), DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %s: %s: %s", method, path, response.Status, strings.TrimSpace(string(b)))
	}
	return string(b), nil
}

// pod is what the kubelet tells of a pod (core/v1, as much as is looked at).
type pod struct {
	Metadata struct{ Name, UID string }
	Status   struct {
		Phase, Reason, Message, PodIP, HostIP string
		Conditions                            []struct{ Type, Status string }
		InitContainerStatuses                 []container
		ContainerStatuses                     []container
	}
}

type container struct {
	Name, ContainerID, Image, ImageID string
	Ready                             bool
	Started                           *bool
	RestartCount                      int
	State, LastState                  state
}

type state struct {
	Running *struct{ StartedAt time.Time }
	Waiting *struct{ Reason, Message string }

	Terminated *struct {
		ExitCode        int
		Reason, Message string
	}
}

func (s state) String() string {
	switch {
	case s.Running != nil:
		return "running"
	case s.Waiting != nil:
		return "waiting: " + s.Waiting.Reason + ": " + s.Waiting.Message
	case s.Terminated != nil:
		return fmt.Sprintf("terminated: %d %s: %s", s.Terminated.ExitCode, s.Terminated.Reason, s.Terminated.Message)
	default:
		return "none"
	}
}

// ready says whether the pod is.
func (p *pod) ready() bool {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// container finds one by name, an empty one if there is none yet.
func (p *pod) container(name string) container {
	for _, list := range [][]container{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for _, c := range list {
			if c.Name == name {
				return c
			}
		}
	}
	return container{}
}

func (p *pod) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %s %s ip %s", p.Metadata.Name, p.Status.Phase, p.Status.Reason, p.Status.Message, p.Status.PodIP)
	for _, list := range [][]container{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, c := range list {
			fmt.Fprintf(&b, "\n  %s: %s (before: %s), ready %t, %d restarts", c.Name, c.State, c.LastState, c.Ready, c.RestartCount)
		}
	}
	return b.String()
}

// pods asks the kubelet for its pods, by the names of their manifests.
func (n *node) pods() (map[string]*pod, error) {
	var list struct{ Items []*pod }
	if err := n.decode("/pods", &list); err != nil {
		return nil, err
	}
	found := map[string]*pod{}
	for _, p := range list.Items {
		found[strings.TrimSuffix(p.Metadata.Name, "-node")] = p
	}
	return found, nil
}

// decode asks the kubelet for a JSON document.
func (n *node) decode(path string, into any) error {
	text, err := n.get(path)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), into)
}
