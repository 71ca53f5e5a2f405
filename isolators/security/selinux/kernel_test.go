package selinux_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/security/selinux"
)

// labelEnv tells a re-executed child the label to enter; "" to tell its own.
const labelEnv = "BERTH_TEST_SELINUX_LABEL"

func TestMain(m *testing.M) {
	label, child := os.LookupEnv(labelEnv)
	switch {
	case !child:
		os.Exit(m.Run())
	case label == "":
		current, err := os.ReadFile("/proc/self/attr/current")
		if err != nil {
			panic(err)
		}
		fmt.Print(strings.TrimRight(string(current), "\x00\n"))
	default:
		runtime.LockOSThread() // the attribute is the thread's
		attr := "/proc/self/task/" + strconv.Itoa(unix.Gettid()) + "/attr/exec"
		if err := os.WriteFile(attr, []byte(label), 0); err != nil {
			panic(err)
		}
		panic(unix.Exec("/proc/self/exe", os.Args[:1], []string{labelEnv + "="}))
	}
}

// TestKernel asks the policy of a kernel with SELinux, and runs a process and
// reads files under the labels.
func TestKernel(t *testing.T) {
	if _, err := os.Stat("/sys/fs/selinux/context"); err != nil {
		t.Skip("the kernel runs without SELinux")
	}
	i := selinux.New(log.New(zaptest.NewLogger(t).Core()), filepath.Join(t.TempDir(), "levels"), selinux.Options{})
	tree := t.TempDir()
	c := isolatortest.NewContainer(t, &containerizer.Spec{Mounts: []containerizer.Mount{
		{Type: containerizer.MountBind, Source: tree, Destination: "/data", Relabel: "private"},
	}})
	process, mount := prepare(t, i, c.Container)
	if !strings.HasPrefix(process, "system_u:system_r:") || !ownLevel.MatchString(process) {
		t.Errorf("process label %q", process)
	}
	if got := labelOf(t, tree); got != mount {
		t.Errorf("the directory has the label %q, want %q", got, mount)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = []string{labelEnv + "=" + process}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != process {
		t.Errorf("the process has the label %q, %v; want %q", out, err, process)
	}
	for _, parts := range [][]string{{"type", "no_such_t"}, {"user", "nobody_u"}, {"role", "no_r"}, {"level", "s15:c0"}} {
		bad := isolatortest.NewContainer(t, spec(parts...)())
		if _, err := i.Prepare(t.Context(), bad.Container); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("%s %q: %v, want ErrInvalid", parts[0], parts[1], err)
		}
	}
}
