package procfs

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReadSelf(t *testing.T) {
	p, err := Read("/proc", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if p.PID != os.Getpid() || p.PPID != os.Getppid() || int(p.EUID) != os.Geteuid() || int(p.GID) != os.Getgid() {
		t.Errorf("process %+v", p)
	}
	if diff := cmp.Diff(os.Args, p.Args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	if age := time.Since(p.Started); age < -2*time.Second || age > time.Hour {
		t.Errorf("started %v ago", age)
	}
	if p.RSSBytes == 0 || p.VSizeBytes < p.RSSBytes || p.Threads < 1 {
		t.Errorf("sizes of %+v", p)
	}
}

func TestReadGone(t *testing.T) {
	if _, err := Read("/proc", 1<<30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestTTYName(t *testing.T) {
	for device, want := range map[int]string{0: "?", 136<<8 | 3: "pts/3", 137<<8 | 1: "pts/257", 4<<8 | 1: "tty1", 4<<8 | 64: "ttyS0"} {
		if got := ttyName(device); got != want {
			t.Errorf("%#x: %q, want %q", device, got, want)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("1 (a (b) c) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 10 100 200 18446744073709551615 0 0")
	f.Add("1 () S")
	f.Fuzz(func(t *testing.T, s string) {
		if p, _, err := parseStat(s); err == nil && p == nil {
			t.Error("neither process nor error")
		}
	})
}
