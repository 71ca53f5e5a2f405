package apparmor_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/security/apparmor"
)

// stageEnv tells a re-executed child what to do: "enter NAME", then "act".
const stageEnv = "BERTH_TEST_APPARMOR_STAGE"

func TestMain(m *testing.M) {
	switch stage, name, _ := strings.Cut(os.Getenv(stageEnv), " "); stage {
	case "enter":
		enter(name)
	case "act":
		act()
	default:
		os.Exit(m.Run())
	}
}

// enter goes into the profile as the launcher does.
func enter(name string) {
	runtime.LockOSThread() // the attribute is the thread's
	attr := "/proc/self/task/" + strconv.Itoa(unix.Gettid()) + "/attr/apparmor/exec"
	if err := os.WriteFile(attr, []byte("exec "+name), 0); err != nil {
		panic(err)
	}
	panic(unix.Exec("/proc/self/exe", os.Args[:1], []string{stageEnv + "=act"}))
}

// act tries what the profile denies and what it allows.
func act() {
	current, err := os.ReadFile("/proc/self/attr/apparmor/current")
	fmt.Println("label", strings.TrimSpace(string(current)), err)
	for _, path := range []string{"/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/sys/kernel/shmmax", "/dev/null"} {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		fmt.Println("write", path, errnoName(err))
		_ = file.Close()
	}
	fmt.Println("mount", errnoName(unix.Mount("none", "/tmp", "tmpfs", 0, "")))
}

func errnoName(err error) string {
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return unix.ErrnoName(e)
	}
	return fmt.Sprint(err)
}

// needKernel ends the test where the kernel has no AppArmor or profiles cannot be
// loaded.
func needKernel(t *testing.T) {
	t.Helper()
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if err != nil || enabled[0] != 'Y' {
		t.Skip("the kernel runs without AppArmor")
	}
	if _, err := exec.LookPath("apparmor_parser"); err != nil {
		t.Skip("apparmor_parser is not installed")
	}
	if os.Getuid() != 0 {
		t.Skip("only root loads profiles")
	}
	const securityfs = "/sys/kernel/security"
	if _, err := os.Stat(filepath.Join(securityfs, "apparmor")); err == nil {
		return
	}
	if err := unix.Mount("securityfs", securityfs, "securityfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(securityfs, 0); err != nil {
			t.Error(err)
		}
	})
}

// TestKernelConfines loads the default profile for real and acts under it.
func TestKernelConfines(t *testing.T) {
	needKernel(t)
	name := "berth-test-" + strconv.Itoa(os.Getpid())
	i, err := apparmor.New(log.New(zaptest.NewLogger(t).Core()), apparmor.Options{Profile: name, Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile("/sys/kernel/security/apparmor/.remove", []byte(name), 0); err != nil {
			t.Error(err)
		}
	})
	for range 2 { // the second finds it loaded
		info, err := i.Prepare(t.Context(), isolatortest.NewContainer(t, &containerizer.Spec{}).Container)
		if err != nil || info.AppArmorProfile != name {
			t.Fatalf("got %v, %v; want profile %q", info, err, name)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = []string{stageEnv + "=enter " + name}
	out, err := cmd.CombinedOutput()
	want := []string{
		"label " + name + " (enforce) <nil>",
		"write /proc/sys/kernel/hostname EACCES",
		"write /proc/sysrq-trigger EACCES",
		"write /proc/sys/kernel/shmmax <nil>",
		"write /dev/null <nil>",
		"mount EACCES",
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(string(out)), "\n")); err != nil || diff != "" {
		t.Errorf("%v, under the profile (-want +got):\n%s", err, diff)
	}
}
