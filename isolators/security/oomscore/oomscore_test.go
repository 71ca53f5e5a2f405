package oomscore_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/security/internal/hostcap"
	"github.com/berth-dev/berth/isolators/security/oomscore"
)

func spec(value int) *containerizer.Spec {
	return &containerizer.Spec{Process: containerizer.Process{OOMScoreAdj: &value}}
}

func TestConformance(t *testing.T) {
	isolatortest.Run(t, isolatortest.Config{
		New: func(t *testing.T) containerizer.Isolator {
			t.Helper()
			return oomscore.New(log.New(zaptest.NewLogger(t).Core()), oomscore.Options{})
		},
		Spec:      func() *containerizer.Spec { return spec(1000) },
		ChildSpec: func() *containerizer.Spec { return &containerizer.Spec{} },
		Refused: map[string]func() *containerizer.Spec{
			"too high": func() *containerizer.Spec { return spec(1001) },
			"too low":  func() *containerizer.Spec { return spec(-1001) },
		},
	})
}

func TestLoweringTheScore(t *testing.T) {
	permitted, err := hostcap.Permitted()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	own, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	may := hostcap.Has(permitted, unix.CAP_SYS_RESOURCE)
	value := own - 1

	c := isolatortest.NewContainer(t, spec(value))
	info, err := oomscore.New(log.New(zaptest.NewLogger(t).Core()), oomscore.Options{}).Prepare(t.Context(), c.Container)
	if may && (err != nil || *info.OOMScoreAdj != value) || !may && !errors.Is(err, containerizer.ErrPermission) {
		t.Errorf("strict: %v, %v; allowed: %t", info, err, may)
	}

	info, err = oomscore.New(log.New(zaptest.NewLogger(t).Core()), oomscore.Options{Clamp: true}).Prepare(t.Context(), c.Container)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[bool]int{true: value, false: own}[may]; *info.OOMScoreAdj != want {
		t.Errorf("clamped to %d, want %d", *info.OOMScoreAdj, want)
	}
	if *c.Spec.Process.OOMScoreAdj != value {
		t.Error("the specification was changed")
	}
}
