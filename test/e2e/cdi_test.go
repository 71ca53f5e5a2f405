package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// deviceSpecs makes a folder of device specifications, which the node reads.
func (n *node) deviceSpecs() {
	n.t.Helper()
	dir := n.t.TempDir()
	host := filepath.Join(dir, "of-the-host")
	spec := fmt.Sprintf(`
cdiVersion: "1.0.0"
kind: vendor.com/dev
containerEdits:
  env: [VENDOR=every]
devices:
- name: x
  containerEdits:
    deviceNodes: [{path: /dev/x, hostPath: /dev/loop-control, fileMode: 0o640, gid: 7}]
    mounts: [{hostPath: %q, containerPath: /vendor, options: [ro, bind]}]
    hooks: [{hookName: poststop, path: /bin/sh, args: [sh, -c, "echo stopped >> %s/said"]}]
    additionalGids: [4711]
`, host, dir)
	for path, text := range map[string]string{host: "a file of the vendor\n", filepath.Join(dir, "vendor.yaml"): spec, filepath.Join(dir, "damaged.yaml"): "kind: broken.com/dev\nno: sense\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			n.t.Fatal(err)
		}
	}
	f, err := os.OpenFile(n.configPath(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "[cdi]\nspec_dirs = [\"/nowhere\", %q]\n", dir)
	if err := errors.Join(err, f.Close()); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if said, err := os.ReadFile(filepath.Join(dir, "said")); err != nil || string(said) != "stopped\n" {
			n.t.Errorf("the device's hook said %q, %v", said, err)
		}
	})
}

// useDevice says what there is of the device x.
const useDevice = `echo "$VENDOR"; cat /vendor; ( : < /dev/x ) && stat -c '%t:%T %a %g' /dev/x; id -G; touch /vendor || echo read-only`

func saysDevice(got string) bool {
	return strings.Contains(got, "every\na file of the vendor\na:ed 640 7\n0 ") && strings.Contains(got, "4711\n") && strings.HasSuffix(got, "read-only")
}

// TestDeviceNames: devices by names of the Container Device Interface, with and without a
// daemon.
func TestDeviceNames(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.deviceSpecs()
	n.restart()
	got := n.must(n.run([]string{"--rm", "-e", "VENDOR=mine", "--device", "vendor.com/dev=x"}, "sh", "-c", useDevice+" 2>/dev/null")...)
	if !saysDevice(got) {
		t.Errorf("the container says:\n%s", got)
	}
	r := n.berth(n.run([]string{"--rm", "--device", "vendor.com/dev=y"}, "true")...)
	if r.code == 0 || !strings.Contains(r.stderr, `"vendor.com/dev=y"`) || !strings.Contains(r.stderr, "damaged.yaml") {
		t.Errorf("a device that nobody has: exit %d, %s", r.code, r.stderr)
	}
}

// TestDaemonCRIDevices: the same as kubelets ask for it, by field and by annotation.
func TestDaemonCRIDevices(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.deviceSpecs()
	k := n.kubelet()
	pod := k.runPod(k.pod("devices"))
	t.Cleanup(func() { k.removePod(pod) })
	config := k.container("field", useDevice+"; exec sleep 1000")
	config.CDIDevices = []*runtimeapi.CDIDevice{{Name: "vendor.com/dev=x"}}
	id := k.start(pod, config)
	eventually(t, func() string {
		log, _ := os.ReadFile(filepath.Join(k.logs, "field.log"))
		return unless(strings.Contains(string(log), "a:ed 640 7") && strings.Contains(string(log), "F read-only"), "it says:\n"+string(log))
	})
	if _, err := k.RemoveContainer(t.Context(), &runtimeapi.RemoveContainerRequest{ContainerId: id}); err != nil {
		t.Error(err)
	}
	config = k.container("annotation", "true")
	config.Annotations = map[string]string{"cdi.k8s.io/vendor_claim": "vendor.com/dev=missing"}
	if _, err := k.create(pod, config); err == nil || !strings.Contains(err.Error(), "vendor.com/dev=missing") {
		t.Errorf("CreateContainer = %v, want that nobody has the device", err)
	}
}
