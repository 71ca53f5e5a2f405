package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/test/vm/internal/plan"
)

// machine is one run of the emulator.
type machine struct {
	dir     string
	kernel  string
	ramdisk string
	options *options
}

// run boots the machine, copies the program's output to ours and returns its exit
// status once the emulator has ended.
func (m *machine) run(ctx context.Context) (int, error) {
	output, err := m.listen(ctx, "output")
	if err != nil {
		return 0, err
	}
	defer output.Close() //nolint:errcheck // also closed below; its file goes with the directory
	status, err := m.listen(ctx, "status")
	if err != nil {
		return 0, err
	}
	defer status.Close() //nolint:errcheck // as above

	emulator, end := context.WithCancel(ctx)
	defer end()
	var answer plan.Status
	answered := false
	var group errgroup.Group
	power := &breaker{w: os.Stdout, after: m.options.cut, cut: end}
	got := newCounter(power)
	group.Go(func() error { return receive(output, func(c net.Conn) error { _, err := io.Copy(got, c); return err }) })
	group.Go(func() error {
		defer end() // nothing more to come: the guest waits to be ended
		return receive(status, func(c net.Conn) error {
			if err := json.NewDecoder(c).Decode(&answer); err != nil {
				return fmt.Errorf("the machine ended without reporting an exit status: %w", err)
			}
			answered = true
			return got.wait(ctx, answer.Output)
		})
	})
	qemu := m.command(emulator)
	err = qemu.Run()
	// An emulator that never started has not connected; accept ends with the listener.
	_ = output.Close()
	_ = status.Close()
	failed := group.Wait()
	switch {
	case power.done.Load():
		return 0, nil
	case ctx.Err() != nil:
		return 0, m.died(ctx.Err())
	case !answered && failed != nil:
		return 0, m.died(failed)
	case !answered:
		return 0, m.died(fmt.Errorf("run %s: %w", qemu.Path, err))
	case answer.Error != "":
		return 0, fmt.Errorf("in the machine: %s", answer.Error)
	}
	return answer.Exit, failed
}

func (m *machine) listen(ctx context.Context, name string) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "unix", filepath.Join(m.dir, name))
}

// receive hands the machine's end of a port to read.
func receive(l net.Listener, read func(net.Conn) error) error {
	conn, err := l.Accept()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // only read from
	return read(conn)
}

func (m *machine) command(ctx context.Context) *exec.Cmd {
	binary, board, console := "qemu-system-x86_64", "pc", "ttyS0"
	if runtime.GOARCH == "arm64" {
		binary, board, console = "qemu-system-aarch64", "virt", "ttyAMA0"
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none",
		"-machine", board, "-accel", m.options.accelerator, "-cpu", "max",
		"-smp", strconv.Itoa(m.options.cpus), "-m", strconv.Itoa(m.options.memoryMiB),
		"-kernel", m.kernel, "-initrd", m.ramdisk,
		"-append", "console=" + console + " quiet panic=-1 rdinit=/init mitigations=off random.trust_cpu=on no_timer_check",
		"-chardev", "file,id=console,path=" + m.consolePath(), "-serial", "chardev:console",
		"-device", "virtio-serial",
		"-chardev", "socket,id=output,path=" + filepath.Join(m.dir, "output"),
		"-device", "virtserialport,chardev=output,name=" + plan.OutputPort,
		"-chardev", "socket,id=status,path=" + filepath.Join(m.dir, "status"),
		"-device", "virtserialport,chardev=status,name=" + plan.StatusPort,
	}
	if m.options.diskMiB > 0 {
		args = append(args, "-drive", "if=virtio,format=raw,cache=unsafe,file="+m.options.diskImage)
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd
}

func (m *machine) consolePath() string {
	if m.options.verbose {
		return "/dev/stderr"
	}
	return filepath.Join(m.dir, "console")
}

// died adds the kernel's last words to err.
func (m *machine) died(err error) error {
	const most = 4096
	data, readErr := os.ReadFile(filepath.Join(m.dir, "console"))
	if readErr != nil || len(data) == 0 {
		return err
	}
	return fmt.Errorf("%w; the end of its console:\n%s", err, data[max(0, len(data)-most):])
}
