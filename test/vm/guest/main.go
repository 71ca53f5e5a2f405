// Command guest is process 1 of a test machine, and its modprobe. As process 1 it
// makes a usual Linux environment out of an initial ramdisk, runs the program of
// its plan and reports the exit status through a virtio port. The kernel calls it as /sbin/modprobe when it
// wants a module.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/test/vm/internal/plan"
)

func main() {
	if filepath.Base(os.Args[0]) == "modprobe" {
		if err := modprobe(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "modprobe:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is process 1 of a test machine; run `go run ./test/vm` instead")
		os.Exit(2)
	}
	err := boot()
	if err == nil {
		// The host ends the machine once it has read everything.
		_ = unix.Pause()
	}
	// Without a status port the console is all there is; the host shows it.
	fmt.Fprintln(os.Stderr, "guest:", err)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// boot runs the plan; an error means that not even the status could be sent.
func boot() error {
	if err := enterImage(); err != nil {
		return err
	}
	if err := mountBasics(); err != nil {
		return err
	}
	// The last three have device nodes, which kmod(8) makes before they are needed.
	for _, name := range []string{"virtio_pci", "virtio_mmio", "virtio_console", "virtio_blk", "loop", "fuse", "tun"} {
		if err := load(name); err != nil && !errors.Is(err, errNoModule) {
			return err
		}
	}
	output, err := openPort(plan.OutputPort)
	if err != nil {
		return err
	}
	status, err := openPort(plan.StatusPort)
	if err != nil {
		return err
	}

	var answer plan.Status
	answer.Exit, answer.Output, err = run(output)
	if err != nil {
		answer.Error = err.Error()
	}
	return json.NewEncoder(status).Encode(answer)
}

// openPort waits for the virtio port called name: ports appear a moment after
// their driver is loaded.
func openPort(name string) (*os.File, error) {
	const patience = 10 * time.Second
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		entries, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, e := range entries {
			text, err := os.ReadFile(e)
			if err != nil || string(text) != name+"\n" {
				continue
			}
			f, err := os.OpenFile("/dev/"+filepath.Base(filepath.Dir(e)), os.O_RDWR, 0)
			if err == nil {
				return f, nil
			}
		}
	}
	return nil, fmt.Errorf("virtio port %q did not appear within %s", name, patience)
}
