package bridge_test

import (
	"errors"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/bridge"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

// withoutNetfilter runs f on a thread for which the kernel has no netfilter.
func withoutNetfilter(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := forbidNetfilter()
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// forbidNetfilter makes socket(AF_NETLINK, _, NETLINK_NETFILTER) fail as it does
// without CONFIG_NETFILTER_NETLINK.
func forbidNetfilter() error {
	const nr, domain, protocol = 0, 16, 16 + 2*8 // seccomp_data, little endian
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	unless := func(value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skip}
	}
	ret := func(value uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
	}
	filter := []unix.SockFilter{
		load(nr), unless(unix.SYS_SOCKET, 5),
		load(domain), unless(unix.AF_NETLINK, 3),
		load(protocol), unless(unix.NETLINK_NETFILTER, 1),
		ret(unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)),
		ret(unix.SECCOMP_RET_ALLOW),
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}

// TestWithoutNAT checks a kernel that cannot translate addresses: containers have
// the network of the host, once said, and publishing a port is an error.
func TestWithoutNAT(t *testing.T) {
	h := newHost(t)
	var warnings []error
	h.Warn = func(_ string, err error) { warnings = append(warnings, err) }
	a, b := nettest.New(t), nettest.New(t)
	p := h.reserve(t, "b", bridge.PortMapping{ContainerPort: 80, Protocol: "tcp"})
	plain, published := h.request(t, "a", a), h.request(t, "b", b, p)
	withoutNetfilter(t, func() {
		if _, err := h.Add(t.Context(), plain); err != nil {
			t.Errorf("Add() without ports = %v", err)
		}
		if len(warnings) != 1 || !errors.Is(warnings[0], containerizer.ErrUnsupported) {
			t.Errorf("warnings %v, want one ErrUnsupported", warnings)
		}
		if _, err := h.Add(t.Context(), published); !errors.Is(err, containerizer.ErrUnsupported) {
			t.Errorf("Add() with a port = %v, want ErrUnsupported", err)
		}
	})
	a.Serve(t, "tcp", "0.0.0.0:80")
	if _, err := nettest.Dial("tcp", "10.99.0.2:80"); err != nil {
		t.Errorf("host to container: %v", err)
	}
	withoutNetfilter(t, func() {
		for _, r := range []bridge.Request{plain, published} {
			if err := h.Del(r); err != nil {
				t.Errorf("Del(%s) = %v", r.ContainerID, err)
			}
		}
		if err := h.Recover(func(string) bool { return false }, h.config.Subnets); err != nil {
			t.Errorf("Recover() = %v", err)
		}
	})
	h.mustBeClean(t)
}
