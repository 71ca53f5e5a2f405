package apply

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
)

// memoryLimit is where the collector works harder; the kernel's limit is twice that.
const memoryLimit = 256 << 20

// ChildMain is the main function of the child process, which [unpack.Run] starts.
// args is what Run appended to the command. It returns the exit status: 0 when a
// reply was sent, be it an error.
func ChildMain(args []string) int {
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(200)
	reply := unpack.NewReply(child(args))
	b, err := json.Marshal(reply)
	if err != nil {
		return 2
	}
	if err := writeAll(unpack.ResultFD, b); err != nil {
		return 2
	}
	return 0
}

func child(args []string) (*unpack.Result, error) {
	if len(args) == 2 && args[0] == unpack.ArchiveMode {
		useProcessors(0)
		return archiveChild(args[1])
	}
	var limits unpack.Limits
	if len(args) != 1 {
		return nil, fmt.Errorf("unpack has %d arguments, not one (it is started by berth itself): %w", len(args), containerizer.ErrInvalid)
	}
	if err := json.Unmarshal([]byte(args[0]), &limits); err != nil {
		return nil, fmt.Errorf("unpack limits %q: %w: %w", args[0], err, containerizer.ErrInvalid)
	}
	useProcessors(limits.Processors)
	root, err := confine(unpack.TargetFD)
	if err != nil {
		return nil, fmt.Errorf("confine the unpacking process: %w", err)
	}
	defer func() { _ = unix.Close(root) }()
	return Layer(root, os.Stdin, limits)
}

// useProcessors lets n processors be used at once; 0 is all. Not one: without an idle P
// the Go runtime takes the only one away from each system call longer than 20 us, and
// wakes a thread that finds nothing to do.
func useProcessors(n int) {
	if n == 0 {
		n = runtime.NumCPU()
	}
	runtime.GOMAXPROCS(max(2, n))
}
