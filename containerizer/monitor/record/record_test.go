package record_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer/monitor/record"
)

func TestProcess(t *testing.T) {
	want := record.Process{PID: 42, StartTicks: 1 << 60, MonitorPID: 41, MonitorStartTicks: 7, StartedAt: 1<<64 - 1}
	text := want.Append(nil)
	if line := "berth-process 1 42 1152921504606846976 41 7 18446744073709551615\n"; string(text) != line {
		t.Errorf("encoded %q, want %q", text, line)
	}
	got, err := record.ParseProcess(text)
	if err != nil || got != want {
		t.Errorf("parsed %+v, %v, want %+v", got, err, want)
	}
}

func TestExit(t *testing.T) {
	want := record.Exit{WaitStatus: 9, FinishedAt: 5, LogLost: 3}
	got, err := record.ParseExit(want.Append(nil))
	if err != nil || got != want {
		t.Errorf("parsed %+v, %v, want %+v", got, err, want)
	}
	if got, err = record.ParseExit([]byte("berth-exit 1 9 5 3 of a later version\n")); err != nil || got != want {
		t.Errorf("with later fields: %+v, %v", got, err)
	}
}

func TestBadRecords(t *testing.T) {
	for name, text := range map[string]string{
		"empty":         "",
		"cut short":     "berth-exit 1 9 5",
		"one missing":   "berth-exit 1 9 5\n",
		"other version": "berth-exit 2 9 5 3\n",
		"process":       "berth-process 1 1 2 3 4 5\n",
		"negative":      "berth-exit 1 -9 5 3\n",
		"too big":       "berth-exit 1 18446744073709551616 5 3\n",
		"two spaces":    "berth-exit 1  9 5 3\n",
		"long":          "berth-exit 1 9 5 3" + strings.Repeat(" 0", 200) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			if e, err := record.ParseExit([]byte(text)); err == nil {
				t.Errorf("%q was accepted as %+v", text, e)
			}
		})
	}
}

func TestStartTicks(t *testing.T) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	want, _ := strconv.ParseUint(fields[19], 10, 64)
	if got, err := record.StartTicks(stat); err != nil || got != want || got == 0 {
		t.Errorf("start ticks %d, %v, want %d", got, err, want)
	}
	hostile := "1 (a) b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20\n"
	if got, err := record.StartTicks([]byte(hostile)); err != nil || got != 777 {
		t.Errorf("with a hostile command: %d, %v, want 777", got, err)
	}
	for _, bad := range []string{"", "1 (x", "1 (x)", "1 (x) R 1 2 3"} {
		if _, err := record.StartTicks([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(record.Process{PID: 1}.Append(nil))
	f.Add(record.Exit{WaitStatus: 1}.Append(nil))
	f.Add([]byte("1 (x) R 1 2 3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = record.StartTicks(b)
		if p, err := record.ParseProcess(b); err == nil {
			if again, err := record.ParseProcess(p.Append(nil)); err != nil || !cmp.Equal(p, again) {
				t.Errorf("%+v became %+v, %v", p, again, err)
			}
		}
		if e, err := record.ParseExit(b); err == nil {
			if again, err := record.ParseExit(e.Append(nil)); err != nil || !cmp.Equal(e, again) {
				t.Errorf("%+v became %+v, %v", e, again, err)
			}
		}
	})
}
