package seccomp_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/launch/seccomp"
)

// script is what a re-executed child does: load a filter, then make calls.
type script struct {
	Program []byte
	Flags   uint
	Calls   []scriptCall
}

type scriptCall struct {
	// ABI is "native" (x32 with bit 30 of NR), or "int80": the 32-bit entry.
	ABI  string
	NR   uintptr
	Args [3]uintptr
}

const scriptEnv = "BERTH_TEST_SECCOMP_SCRIPT"

func TestMain(m *testing.M) {
	if s := os.Getenv(scriptEnv); s != "" {
		child(s)
		return
	}
	os.Exit(m.Run())
}

// child loads the filter into its one locked thread and prints a line a call.
func child(text string) {
	runtime.LockOSThread()
	var s script
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		panic(err)
	}
	entry32 := newInt80()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	if err := load(s.Program, s.Flags); err != nil {
		panic(err)
	}
	if loops, err := strconv.Atoi(os.Getenv("BERTH_TEST_SECCOMP_LOOPS")); err == nil {
		start := time.Now()
		for range loops {
			_, _, _ = syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
		fmt.Print(time.Since(start).Nanoseconds())
	}
	for _, c := range s.Calls {
		var e syscall.Errno
		if c.ABI == "int80" {
			e = entry32.call(c.NR, c.Args[0])
		} else {
			_, _, e = syscall.RawSyscall(c.NR, c.Args[0], c.Args[1], c.Args[2])
		}
		fmt.Println(int(e))
	}
}

func load(program []byte, flags uint) error {
	prog := unix.SockFprog{Len: uint16(len(program) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&program[0]))}
	_, _, e := syscall.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return fmt.Errorf("load %d instructions: %w", prog.Len, e)
	}
	return nil
}

// int80 makes system calls through the 32-bit entry of the kernel from this
// 64-bit process, the way that evades a filter for 64-bit numbers.
type int80 struct{ page []byte }

func newInt80() int80 {
	if runtime.GOARCH != "amd64" {
		return int80{}
	}
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	return int80{page}
}

// call runs number nr with ebx (and the upper half of rbx) from arg.
func (i int80) call(nr, arg uintptr) syscall.Errno {
	result := uintptr(unsafe.Pointer(&i.page[2048]))
	code := []byte{0x48, 0xbb} // mov rbx, arg
	code = appendWord(code, arg)
	code = append(code, 0xb8, byte(nr), byte(nr>>8), byte(nr>>16), byte(nr>>24)) // mov eax, nr
	code = append(code, 0xcd, 0x80, 0x48, 0xa3)                                  // int 0x80; mov [result], rax
	code = append(appendWord(code, result), 0xc3)                                // ret
	copy(i.page, code)
	entry := unsafe.Pointer(&i.page[0])
	closure := unsafe.Pointer(&entry)
	(*(*func())(unsafe.Pointer(&closure)))()
	if r := int32(binary.NativeEndian.Uint32(i.page[2048:])); r < 0 {
		return syscall.Errno(-r)
	}
	return 0
}

func appendWord(b []byte, w uintptr) []byte {
	for range 8 {
		b, w = append(b, byte(w)), w>>8
	}
	return b
}

// runScript returns the errors of the calls, one a line, and the signal that
// killed the child, if one did.
func runScript(t *testing.T, p *specs.LinuxSeccomp, calls ...scriptCall) (lines []string, killed syscall.Signal) {
	t.Helper()
	f, err := seccomp.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(script{Program: f.Bytes(), Flags: f.Flags, Calls: calls})
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), scriptEnv+"="+string(text))
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		killed = exit.Sys().(syscall.WaitStatus).Signal()
	}
	if strings.Contains(stderr.String(), "fatal error: fault") && calls[0].ABI == "int80" {
		t.Skip("int $0x80 faults here: the machine (some hypervisors) has no such call for 64-bit programs, so nobody can evade by it")
	}
	if err != nil && killed != syscall.SIGSYS {
		t.Fatalf("child: %v\n%s", err, stderr.Bytes())
	}
	return strings.Fields(string(out)), killed
}

func native(nr uintptr, args ...uintptr) scriptCall {
	c := scriptCall{ABI: "native", NR: nr}
	copy(c.Args[:], args)
	return c
}

// TestKernelEnforcesDockerProfile checks real verdicts of the kernel for the
// default profile, the classes of escapes among them.
func TestKernelEnforcesDockerProfile(t *testing.T) {
	p := dockerProfile(t)
	got, killed := runScript(t, p,
		native(unix.SYS_GETPID),
		native(unix.SYS_PERSONALITY, 0xffffffff),                   // allowed: only asks
		native(unix.SYS_PERSONALITY, 0x0400000),                    // ADDR_NO_RANDOMIZE and others are not
		native(unix.SYS_PERSONALITY, 0x1_00000000),                 // the upper half counts
		native(unix.SYS_CLONE3, 0, 0),                              // flags are in memory: ENOSYS makes libc use clone
		native(unix.SYS_UNSHARE, unix.CLONE_NEWUSER),               // CVE-2022-0185 and others begin so
		native(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM),   // not confined by namespaces
		native(unix.SYS_SOCKET, unix.AF_ALG, unix.SOCK_SEQPACKET),  // crypto API
		native(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM),    // allowed
		native(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, 0), // allowed
		native(unix.SYS_KEYCTL, 0),                                 // keyrings have no namespace
		native(unix.SYS_BPF, 0),
		native(unix.SYS_IO_URING_SETUP, 1),
		native(unix.SYS_MOUNT, 0),
		native(unix.SYS_OPEN_BY_HANDLE_AT, 0), // CVE-2014-3519 "shocker"
		native(1000),                          // newer than the profile
	)
	want := []string{"0", "0", "1", "1", "38", "1", "1", "1", "0", "0", "1", "1", "1", "1", "1", "38"}
	if diff := cmp.Diff(want, got); diff != "" || killed != 0 {
		t.Errorf("errors of the calls (-want +got), signal %v:\n%s", killed, diff)
	}
}

// TestKernelLoadsEveryShape loads programs of many shapes; the kernel's checker
// is the judge.
func TestKernelLoadsEveryShape(t *testing.T) {
	many := specs.LinuxSyscall{Names: []string{"personality", "keyctl"}, Action: specs.ActErrno}
	for i := range uint64(500) {
		many.Args = append(many.Args, specs.LinuxSeccompArg{Index: uint(i % 6), Value: i * 3, Op: specs.OpEqualTo})
	}
	masked := specs.LinuxSyscall{Names: []string{"keyctl"}, Action: specs.ActErrno}
	for i := range uint64(300) {
		masked.Args = append(masked.Args, specs.LinuxSeccompArg{Index: 1, Value: 0xf0f0, ValueTwo: i << 4 & 0xf0f0, Op: specs.OpMaskedEqual})
	}
	for name, p := range map[string]*specs.LinuxSeccomp{
		"no rules":     {DefaultAction: specs.ActAllow},
		"log":          {DefaultAction: specs.ActLog, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}},
		"no flags":     {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{}},
		"many values":  {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{many}},
		"trampolines":  {DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{many, masked}, Architectures: []specs.Arch{specs.ArchX86, specs.ArchX32, specs.ArchARM}},
		"Docker's":     dockerProfile(t),
		"Docker's all": dockerProfile(t, "CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE", "CAP_SYSLOG"),
	} {
		t.Run(name, func(t *testing.T) {
			lines, killed := runScript(t, p, native(unix.SYS_GETPID))
			if diff := cmp.Diff([]string{"0"}, lines); diff != "" || killed != 0 {
				t.Errorf("getpid (-want +got), signal %v:\n%s", killed, diff)
			}
		})
	}
}

// TestForeignABIsCannotEvade makes the calls that a filter for 64-bit numbers
// would miss.
func TestForeignABIsCannotEvade(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the ABIs are those of amd64; arm64's differ by seccomp_data.arch, which the property test covers")
	}
	const (
		getpid64, getpid32          = 39, 20
		personality32, socketcall32 = 136, 102
		chroot32, chroot64          = 61, 161
	)
	int80 := func(nr, arg uintptr) scriptCall { return scriptCall{ABI: "int80", NR: nr, Args: [3]uintptr{arg}} }
	deny := func(name string, args ...specs.LinuxSeccompArg) *specs.LinuxSeccomp {
		nr := uint(99)
		return &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86, specs.ArchX32},
			Syscalls: []specs.LinuxSyscall{{Names: []string{name}, Action: specs.ActErrno, ErrnoRet: &nr, Args: args}},
		}
	}
	unlisted := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	for name, tc := range map[string]struct {
		profile *specs.LinuxSeccomp
		call    scriptCall
		want    []string
		killed  syscall.Signal
	}{
		"native is fine":                      {unlisted, native(getpid64), []string{"0"}, 0},
		"i386 is killed unless listed":        {unlisted, int80(getpid32, 0), nil, syscall.SIGSYS},
		"x32 is killed unless listed":         {unlisted, native(getpid64 | x32Bit), nil, syscall.SIGSYS},
		"i386 listed":                         {deny("chroot"), int80(getpid32, 0), []string{"0"}, 0},
		"i386 has its own numbers":            {deny("chroot"), int80(chroot32, 0), []string{"99"}, 0},
		"x32 listed":                          {deny("chroot"), native(chroot64 | x32Bit), []string{"99"}, 0},
		"x32 numbers of its own":              {deny("ptrace"), native(521 | x32Bit), []string{"99"}, 0},
		"x32 by the number of x86-64":         {deny("ptrace"), native(101 | x32Bit), []string{"99"}, 0},
		"i386 ignores upper halves":           {deny("personality", specs.LinuxSeccompArg{Index: 0, Value: 8, Op: specs.OpEqualTo}), int80(personality32, 0xdead_00000008), []string{"99"}, 0},
		"socketcall reaches a denied socket":  {deny("socket"), int80(socketcall32, 1), []string{"99"}, 0},
		"socketcall of other calls goes on":   {deny("socket"), int80(socketcall32, 99), []string{"22"}, 0}, // EINVAL by the kernel
		"ipc's version does not hide a call":  {deny("shmat"), int80(117, 0x1_0015), []string{"99"}, 0},
		"a condition holds without arguments": {deny("socket", specs.LinuxSeccompArg{Index: 0, Value: unix.AF_VSOCK, Op: specs.OpEqualTo}), int80(socketcall32, 1), []string{"99"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, killed := runScript(t, tc.profile, tc.call)
			if diff := cmp.Diff(tc.want, got, cmp.Transformer("nil", func(s []string) string { return strings.Join(s, " ") })); diff != "" || killed != tc.killed {
				t.Errorf("errors (-want +got), signal %v, want %v:\n%s", killed, tc.killed, diff)
			}
		})
	}
}
