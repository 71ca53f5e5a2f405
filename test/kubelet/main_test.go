package kubelet_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// Set for this program where it is in its namespaces, and where it becomes the kubelet.
	insideVariable  = "BERTH_KUBELET_INSIDE"
	kubeletVariable = "BERTH_KUBELET_DIR"
	// nodeAddress is that of the node, on a bridge without ports.
	nodeAddress = "192.0.2.1"
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if dir := os.Getenv(kubeletVariable); dir != "" {
			fmt.Fprintln(os.Stderr, becomeKubelet(dir, os.Args[1:]))
			return 1
		}
		if os.Getuid() != 0 { // the test says what is missing
			return m.Run()
		}
		if os.Getenv(insideVariable) == "" {
			return enterNamespaces()
		}
		if err := prepareNamespaces(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// enterNamespaces runs this program again in namespaces of its own.
func enterNamespaces() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:noctx // as long as the tests
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// prepareNamespaces keeps mounts here, and gives the node a network: loopback, and an
// address on the default route, which kubelets look for.
func prepareNamespaces() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "node"}}
	if err := errors.Join(netlink.LinkSetUp(lo), netlink.LinkAdd(link), netlink.LinkSetUp(link)); err != nil {
		return err
	}
	network := &net.IPNet{IP: net.ParseIP(nodeAddress), Mask: net.CIDRMask(24, 32)}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: network}); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Index, Gw: net.IPv4(192, 0, 2, 254)})
}

// kernelSettings are what a kubelet wants of the kernel, and would write where it differs.
var kernelSettings = map[string]string{
	"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
	"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
}

// becomeKubelet replaces this program by the kubelet. It has a mount namespace of its own, which shares
// the mounts below dir with the tests'.
func becomeKubelet(dir string, args []string) error {
	settings := filepath.Join(dir, "settings")
	for name, value := range kernelSettings {
		path := filepath.Join(settings, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(value+"\n"), 0o600)); err != nil {
			return err
		}
		if err := unix.Mount(path, "/proc/sys/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover %q: %w", name, err)
		}
	}
	for _, path := range []string{"/var/lib", "/var/log"} {
		if err := unix.Mount("none", path, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("cover %q: %w", path, err)
		}
	}
	if err := os.Unsetenv(kubeletVariable); err != nil {
		return err
	}
	return unix.Exec(args[0], args, os.Environ())
}
