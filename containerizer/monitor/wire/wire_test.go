package wire_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer/monitor/wire"
)

var launch = wire.Launch{
	Flags: wire.LaunchHold | wire.LaunchRecord, Session: wire.SessionStdin | wire.SessionPause,
	Stdio: wire.StdioPty, Stdin: wire.StdinOnce, Log: wire.LogFile,
	ProgramSize: 4096, FDs: 7, UID: 1, GID: wire.NoID,
	LogMaxBytes: 10 << 20, LogMaxFiles: 5, Name: []byte("a.b"), LogName: []byte("log"),
}

// bodies has one value of every body and how it is parsed.
var bodies = []struct {
	name  string
	body  wire.Body
	parse func([]byte) (wire.Body, error)
}{
	{"launch", launch, func(b []byte) (wire.Body, error) { return wire.ParseLaunch(b) }},
	{"name", wire.Name("root.child"), func(b []byte) (wire.Body, error) { return wire.ParseName(b) }},
	{"signal", wire.Signal{Signal: 15, Name: []byte("x")}, func(b []byte) (wire.Body, error) { return wire.ParseSignal(b) }},
	{"resize", wire.Resize{Columns: 1, Rows: 65535}, func(b []byte) (wire.Body, error) { return wire.ParseResize(b) }},
	{"ack", wire.Ack{Bytes: 1 << 31}, func(b []byte) (wire.Body, error) { return wire.ParseAck(b) }},
	{"hold", wire.HoldNamespaces{Kinds: 1 << 40, End: 1, Name: []byte("x")}, func(b []byte) (wire.Body, error) { return wire.ParseHoldNamespaces(b) }},
	{"error", wire.Error{Errno: 2, Reason: wire.ReasonLog}, func(b []byte) (wire.Body, error) { return wire.ParseError(b) }},
	{"process", wire.Process{PID: 1, StartTicks: 2, StartedAt: 1 << 63}, func(b []byte) (wire.Body, error) { return wire.ParseProcess(b) }},
	{"failed", wire.Failed{Op: 0xfffffff0, Errno: 1}, func(b []byte) (wire.Body, error) { return wire.ParseFailed(b) }},
	{"exited", wire.Exited{WaitStatus: 9, FinishedAt: 3, LogLost: 4}, func(b []byte) (wire.Body, error) { return wire.ParseExited(b) }},
	{"element", wire.Element{State: wire.StateHeld, Exec: 1, Sessions: 2, LogLost: 3, Name: []byte("n")}, func(b []byte) (wire.Body, error) { return wire.ParseElement(b) }},
	{"namespaces", wire.Namespaces{Held: []wire.HeldNamespace{{Kind: 1, FD: 2}, {Kind: 3, FD: 4}}}, func(b []byte) (wire.Body, error) { return wire.ParseNamespaces(b) }},
}

func TestRoundTrip(t *testing.T) {
	for _, tt := range bodies {
		t.Run(tt.name, func(t *testing.T) {
			header := wire.Header{Type: wire.TypeLaunch, Flags: 0x1234, Tag: 0xfedcba98}
			h, body, err := wire.Parse(wire.Append(nil, header, tt.body))
			if err != nil || h != header {
				t.Fatalf("header %+v, %v, want %+v", h, err, header)
			}
			got, err := tt.parse(body)
			if diff := cmp.Diff(tt.body, got); diff != "" || err != nil {
				t.Errorf("%v, -want +got:\n%s", err, diff)
			}
			// A later version may add fields.
			if got, err = tt.parse(append(slices.Clip(body), 1, 2, 3)); err != nil || !cmp.Equal(tt.body, got) {
				t.Errorf("with later fields: %+v, %v", got, err)
			}
			for n := range body {
				if _, err := tt.parse(body[:n]); err == nil {
					t.Errorf("accepted %d of %d bytes", n, len(body))
				}
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	good := wire.Append(nil, wire.Header{Type: wire.TypeList}, nil)
	other := append([]byte{wire.Version + 1}, good[1:]...)
	for name, frame := range map[string][]byte{
		"nothing":       nil,
		"half a header": good[:4],
		"other version": other,
		"too long":      make([]byte, wire.MaxFrame+1),
	} {
		var format wire.FormatError
		if _, _, err := wire.Parse(frame); !errors.As(err, &format) {
			t.Errorf("%s: error %v, want a FormatError", name, err)
		}
	}
}

func TestLaunchRefuses(t *testing.T) {
	for name, change := range map[string]func(*wire.Launch){
		"no name":          func(m *wire.Launch) { m.Name = nil },
		"NUL in name":      func(m *wire.Launch) { m.Name = []byte("a\x00b") },
		"long name":        func(m *wire.Launch) { m.Name = bytes.Repeat([]byte("a"), wire.MaxName+1) },
		"stdio":            func(m *wire.Launch) { m.Stdio = 17 },
		"stdin":            func(m *wire.Launch) { m.Stdin = 3 },
		"log":              func(m *wire.Launch) { m.Log = 2 },
		"no descriptors":   func(m *wire.Launch) { m.FDs = 0 },
		"no log directory": func(m *wire.Launch) { m.FDs = 2 },
		"no streams":       func(m *wire.Launch) { m.FDs, m.Stdio = 5, wire.StdioPassthrough },
		"many descriptors": func(m *wire.Launch) { m.FDs = wire.MaxLaunchFDs + 1 },
		"log name":         func(m *wire.Launch) { m.LogName = []byte("../log") },
		"log name ..":      func(m *wire.Launch) { m.LogName = []byte("..") },
		"no log name":      func(m *wire.Launch) { m.LogName = nil },
		"log size":         func(m *wire.Launch) { m.LogMaxBytes = 1 << 63 },
	} {
		m := launch
		change(&m)
		if got, err := wire.ParseLaunch(m.Append(nil)); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range bodies {
		f.Add(wire.Append(nil, wire.Header{Type: wire.TypeLaunch}, tt.body))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		h, body, err := wire.Parse(frame)
		if err != nil {
			return
		}
		if again, _, err := wire.Parse(wire.Append(nil, h, nil)); err != nil || again != h {
			t.Errorf("header %+v became %+v, %v", h, again, err)
		}
		for _, tt := range bodies {
			got, err := tt.parse(body)
			if err != nil {
				continue
			}
			again, err := tt.parse(got.Append(nil))
			if err != nil || !cmp.Equal(got, again) {
				t.Errorf("%s %+v became %+v, %v", tt.name, got, again, err)
			}
		}
	})
}
