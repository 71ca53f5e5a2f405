package monitor

import (
	"syscall"
	"unsafe"
)

// The monitor must notice every SIGCHLD and survive every other signal that has
// another default. It does neither through the Go runtime, which knows no way to
// learn of a signal without a further goroutine and thread, nor through signalfd,
// which needs the signal blocked in threads that are not ours: a handler of four
// instructions (signal_*.s) adds one to an eventfd that the event loop watches.
// A handler, and not SIG_IGN, because an ignored signal would stay ignored in the
// container, while CLONE_CLEAR_SIGHAND resets handlers.

// What the handler needs, which is no Go function.
//
//nolint:unused,gochecknoglobals // used by the handler in signal_*.s, which has nothing else
var (
	wakeFD  int32      // written to by the handler
	wakeOne uint64 = 1 // what it writes
)

// sigaction is struct sigaction of the kernel.
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	saRestorer = 0x04000000
	saOnStack  = 0x08000000
	saRestart  = 0x10000000
	sigDefault = 0
)

func signalHandlers() (handler, restorer uintptr)

// catchSignals makes every handled signal a tick of the event descriptor.
func catchSignals(event int) {
	wakeFD = int32(event)
	handler, restorer := signalHandlers()
	a := sigaction{handler: handler, restorer: restorer, mask: ^uint64(0), flags: saRestorer | saOnStack | saRestart}
	// SIGURG belongs to the Go runtime, and faults should end the process.
	for _, s := range [...]syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE,
		syscall.SIGALRM, syscall.SIGTERM, syscall.SIGCHLD, syscall.SIGXCPU, syscall.SIGXFSZ, syscall.SIGVTALRM,
		syscall.SIGIO, syscall.SIGPWR,
	} {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&a)), 0, 8, 0, 0) // they all may be caught
	}
	// The Go runtime leaves the signals of C libraries as they are. One that the client
	// was started with ignored would stay so in every container.
	a = sigaction{handler: sigDefault}
	for s := uintptr(firstLibrarySignal); s <= lastLibrarySignal; s++ {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, s, uintptr(unsafe.Pointer(&a)), 0, 8, 0, 0)
	}
}

// Signals that the C library keeps for itself (nptl(7)).
const (
	firstLibrarySignal = 32
	lastLibrarySignal  = 34
)
