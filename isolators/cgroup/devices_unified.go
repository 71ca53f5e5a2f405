package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// With version 2 an eBPF program attached to the group decides about devices
// (Documentation/admin-guide/cgroup-v2.rst, "Device controller"). Every program
// on the way up has to agree, so a child has no more than its parent.

// programName is how the program is told from systemd's on the same group, and
// what bpftool prints.
const programName = "berth_devices"

// Parts of union bpf_attr (linux/bpf.h).
type (
	bpfProgLoad struct {
		progType    uint32
		insnCount   uint32
		insns       uint64
		license     uint64
		logLevel    uint32
		logSize     uint32
		logBuf      uint64
		kernVersion uint32
		flags       uint32
		name        [16]byte
	}
	bpfProgAttach struct {
		target, prog, attachType, flags, replace uint32
	}
	bpfProgQuery struct {
		target, attachType, queryFlags, attachFlags uint32
		ids                                         uint64
		count                                       uint32
		_                                           uint32
	}
	bpfGetFD struct{ id, next, flags uint32 }
	bpfInfo  struct {
		fd, length uint32
		info       uint64
	}
	// bpfProgInfo is struct bpf_prog_info up to the name.
	bpfProgInfo struct {
		_    [64]byte
		name [16]byte
	}
)

func bpf(cmd int, attr unsafe.Pointer, size uintptr) (fd int, err error) {
	err = retry(func() error {
		r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(attr), size)
		fd = int(r)
		if errno != 0 {
			return errno
		}
		return nil
	})
	return fd, err
}

// loadDevices loads a device filter and returns its descriptor.
func loadDevices(rules []deviceRule) (int, error) {
	program := deviceProgram(rules)
	license := []byte("Apache-2.0\x00") // any does: no helper is called
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&program[0])
	pin.Pin(&license[0])
	attr := bpfProgLoad{
		progType:  unix.BPF_PROG_TYPE_CGROUP_DEVICE,
		insnCount: uint32(len(program)),
		insns:     uint64(uintptr(unsafe.Pointer(&program[0]))),
		license:   uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	copy(attr.name[:15], programName)
	fd, err := -1, error(unix.EAGAIN)
	// The verifier gives up when a signal is pending, and Go's scheduler sends many.
	for tries := 0; tries < 100 && errors.Is(err, unix.EAGAIN); tries++ {
		fd, err = bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	}
	if err == nil {
		return fd, nil
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return -1, fmt.Errorf("load the eBPF device filter: %w; the kernel needs CONFIG_CGROUP_BPF: %w", err, containerizer.ErrUnsupported)
	}
	return -1, fmt.Errorf("load the eBPF device filter (%d rules): %w", len(rules), err)
}

// attachDevices makes rules those of the group dir, in place of the ones that
// berth attached before, if any; nothing is ever allowed or denied in between
// that neither of both does. Rules that allow everything take the filter away.
func attachDevices(dir string, rules []deviceRule) error {
	group, err := open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(group) }()
	old, err := attachedDevices(group)
	if err != nil {
		return err
	}
	if old >= 0 {
		defer func() { _ = unix.Close(old) }()
	}
	if allowsAll(rules) {
		if old < 0 {
			return nil
		}
		return detachDevices(dir, group, old)
	}
	return attach(dir, group, old, rules)
}

// attach loads a filter and attaches it in place of old, -1 for none.
func attach(dir string, group, old int, rules []deviceRule) error {
	prog, err := loadDevices(rules)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(prog) }()
	attr := bpfProgAttach{target: uint32(group), prog: uint32(prog), attachType: unix.BPF_CGROUP_DEVICE, flags: unix.BPF_F_ALLOW_MULTI}
	if old >= 0 {
		attr.flags |= unix.BPF_F_REPLACE
		attr.replace = uint32(old)
	}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("attach the eBPF device filter to %q: %w", dir, err)
	}
	return nil
}

// attachNewDevices is attachDevices for a group just made, which has no filter of
// its own.
func attachNewDevices(dir string, rules []deviceRule) error {
	group, err := open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(group) }()
	return attach(dir, group, -1, rules)
}

func detachDevices(dir string, group, prog int) error {
	attr := bpfProgAttach{target: uint32(group), prog: uint32(prog), attachType: unix.BPF_CGROUP_DEVICE}
	if _, err := bpf(unix.BPF_PROG_DETACH, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("detach the eBPF device filter from %q: %w", dir, err)
	}
	return nil
}

// attachedDevices opens the filter of ours on a group, -1 when there is none.
func attachedDevices(group int) (int, error) {
	ids := make([]uint32, 64) // the kernel's limit (BPF_CGROUP_MAX_PROGS)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&ids[0])
	query := bpfProgQuery{
		target:     uint32(group),
		attachType: unix.BPF_CGROUP_DEVICE,
		ids:        uint64(uintptr(unsafe.Pointer(&ids[0]))),
		count:      uint32(len(ids)),
	}
	_, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&query), unsafe.Sizeof(query))
	if err != nil {
		return -1, fmt.Errorf("list the device filters of a group: %w", err)
	}
	for _, id := range ids[:query.count] {
		get := bpfGetFD{id: id}
		fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&get), unsafe.Sizeof(get))
		if errors.Is(err, unix.ENOENT) {
			continue // replaced meanwhile
		}
		if err != nil {
			return -1, fmt.Errorf("open device filter %d: %w", id, err)
		}
		name, err := programNameOf(fd)
		if err == nil && name == programName {
			return fd, nil
		}
		_ = unix.Close(fd)
		if err != nil {
			return -1, err
		}
	}
	return -1, nil
}

func programNameOf(fd int) (string, error) {
	info := new(bpfProgInfo)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(info)
	attr := bpfInfo{fd: uint32(fd), length: uint32(unsafe.Sizeof(*info)), info: uint64(uintptr(unsafe.Pointer(info)))}
	_, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return "", fmt.Errorf("read the name of a device filter: %w", err)
	}
	name, _, _ := bytes.Cut(info.name[:], []byte{0})
	return string(name), nil
}
