package hostcap_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/isolators/security/internal/hostcap"
)

func TestPermittedIsWhatProcSays(t *testing.T) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "CapPrm:\t")
	line, _, _ := strings.Cut(after, "\n")
	want, err := strconv.ParseUint(line, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	got, err := hostcap.Permitted()
	if err != nil || got != want {
		t.Errorf("got %#x, %v; want %#x", got, err, want)
	}
	if got := hostcap.Has(1<<unix.CAP_BPF, unix.CAP_BPF); !got {
		t.Error("a mask of CAP_BPF does not have it")
	}
	if got := hostcap.Has(1<<unix.CAP_BPF, unix.CAP_CHOWN); got {
		t.Error("a mask of CAP_BPF has CAP_CHOWN")
	}
}
