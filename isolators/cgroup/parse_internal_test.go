package cgroup

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
)

func TestParseLimit(t *testing.T) {
	for in, want := range map[string]uint64{
		"0": 0, "4096\n": 4096, "max": 0, "-1": 0, "9223372036854771712": 0, "9223372036854710272": 0, "9223372036854000000": 9223372036854000000,
	} {
		if got, err := parseLimit(in); err != nil || got != want {
			t.Errorf("parseLimit(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
}

func TestParsePressure(t *testing.T) {
	got, err := parsePressure("some avg10=1.50 avg60=0.25 avg300=0.00 total=123456\nfull avg10=0.10 avg60=0.00 avg300=99.99 total=7\n")
	want := &containerizer.Pressure{
		Some: containerizer.PressureLine{Avg10: 1.5, Avg60: 0.25, Total: 123456 * time.Microsecond},
		Full: containerizer.PressureLine{Avg10: 0.1, Avg300: 99.99, Total: 7 * time.Microsecond},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("parsePressure: %v (-want +got):\n%s", err, diff)
	}
}

func TestParseIO(t *testing.T) {
	got, err := parseIOStat("8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=5 dios=6\n253:1 rbytes=5 wbytes=0 rios=1 wios=0\n7:0 \n")
	want := containerizer.IOUsage{ReadBytes: 15, WriteBytes: 20, Reads: 2, Writes: 2, Devices: []containerizer.DeviceIO{
		{Major: 8, ReadBytes: 10, WriteBytes: 20, Reads: 1, Writes: 2}, {Major: 253, Minor: 1, ReadBytes: 5, Reads: 1},
	}}
	if diff := cmp.Diff(want, got.usage()); err != nil || diff != "" {
		t.Errorf("parseIOStat: %v (-want +got):\n%s", err, diff)
	}
	var d perDevice
	err = parseBlkioStat("8:0 Read 100\n8:0 Write 7\n8:0 Sync 107\n8:16 Read 1\nTotal 215\n", func(device, operation string, v uint64) {
		if one := d.of(device); one != nil && operation == "Read" {
			one.ReadBytes += v
		}
	})
	if diff := cmp.Diff(perDevice{{Major: 8, ReadBytes: 100}, {Major: 8, Minor: 16, ReadBytes: 1}}, d); err != nil || diff != "" {
		t.Errorf("parseBlkioStat: %v (-want +got):\n%s", err, diff)
	}
}

func TestParseMark(t *testing.T) {
	want := mark{owner: "/run/berth\nodd", id: "root.child", made: time.Unix(1234567, 0)}
	got, err := parseMark(want.encode())
	if err != nil || got != want {
		t.Errorf("parseMark(encode(%+v)) = %+v, %v", want, got, err)
	}
}

// FuzzParse feeds foreign bytes to every parser of control files: they return
// something sane or ErrDataCorrupt.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "max", "12\n13\n", "usage_usec 100\nuser_usec 50\n", "8:0 rbytes=1 wbytes=2\n", "8:0 Read 1\nTotal 1\n",
		"some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", "1234567\nroot.child\n/run/berth",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, limitErr := parseLimit(s)
		list, pidsErr := parsePIDs(s)
		for _, pid := range list {
			if pid <= 0 || pid > math.MaxInt32 {
				t.Errorf("parsePIDs(%q) has the pid %d", s, pid)
			}
		}
		flatErr := parseFlat(s, func(string, uint64) {})
		_, ioErr := parseIOStat(s)
		blkioErr := parseBlkioStat(s, func(device, _ string, _ uint64) { _ = new(perDevice).of(device) })
		p, pressureErr := parsePressure(s)
		if pressureErr == nil && (p.Some.Total < 0 || p.Full.Total < 0) {
			t.Errorf("parsePressure(%q) = %+v", s, *p)
		}
		m, markErr := parseMark([]byte(s))
		if markErr == nil {
			if again, err := parseMark(m.encode()); err != nil || again != m {
				t.Errorf("parseMark(%q), written again = %+v, %v; want %+v", s, again, err, m)
			}
		}
		for _, err := range []error{limitErr, pidsErr, flatErr, ioErr, blkioErr, pressureErr, markErr} {
			if err != nil && !errors.Is(err, containerizer.ErrDataCorrupt) {
				t.Errorf("%q: %v, want ErrDataCorrupt", s, err)
			}
		}
	})
}
