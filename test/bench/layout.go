package main

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

const (
	unifiedMount = "/sys/fs/cgroup/unified"
	inNamespace  = "BERTH_BENCH_IN_NAMESPACE"
)

// hybrid tells whether cgroup v1 controllers and a v2 mount are side by side.
func hybrid() bool {
	var fs unix.Statfs_t
	return unix.Statfs(unifiedMount, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

// rerunWithoutUnified runs this program once more, in a mount namespace of its own,
// and returns its exit status.
func rerunWithoutUnified() (int, error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:noctx // ends by the same signals as we do
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGTERM}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return 0, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// leaveUnified drops the v2 mount from our private mount namespace.
func leaveUnified() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Unmount(unifiedMount, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", unifiedMount, err)
	}
	return nil
}
