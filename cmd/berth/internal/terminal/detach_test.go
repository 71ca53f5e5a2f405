package terminal_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/cmd/berth/internal/terminal"
	"github.com/berth-dev/berth/containerizer"
)

func TestParseDetachKeys(t *testing.T) {
	for s, want := range map[string][]byte{
		"":              nil,
		"ctrl-p,ctrl-q": {16, 17},
		"a,ctrl-@":      {'a', 0},
		"ctrl-[,CTRL-_": {27, 31},
	} {
		got, err := terminal.ParseDetachKeys(s)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", s, err, diff)
		}
	}
	for _, s := range []string{"ctrl-", "ctrl-1", "ab", ",", "ctrl-p,"} {
		if _, err := terminal.ParseDetachKeys(s); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("%q: error %v", s, err)
		}
	}
}

// read reads from a DetachReader until its end or until it detached.
func read(in io.Reader, keys []byte) (got []byte, detached bool) {
	left := make(chan struct{})
	r := &terminal.DetachReader{In: in, Keys: keys, Detached: func() { close(left) }}
	data := make(chan []byte)
	ended := make(chan struct{})
	go func() {
		for {
			b := make([]byte, 3)
			n, err := r.Read(b)
			if n > 0 {
				data <- b[:n]
			}
			if err != nil {
				close(ended)
				return
			}
		}
	}()
	for {
		select {
		case b := <-data:
			got = append(got, b...)
		case <-left:
			return got, true
		case <-ended:
			return got, false
		}
	}
}

func TestDetachReader(t *testing.T) {
	keys := []byte{16, 17}
	for _, c := range []struct {
		name, in, want string
		detached       bool
	}{
		{"nothing", "", "", false},
		{"plain", "hello\n", "hello\n", false},
		{"keys", "hi\x10\x11rest", "hi", true},
		{"half", "a\x10b\x11", "a\x10b\x11", false},
		{"twice the first", "\x10\x10\x11", "\x10", true},
		{"half at the end", "a\x10", "a\x10", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, in := range []io.Reader{bytes.NewBufferString(c.in), iotest.OneByteReader(bytes.NewBufferString(c.in))} {
				got, detached := read(in, keys)
				if string(got) != c.want || detached != c.detached {
					t.Errorf("got %q, detached %v; want %q, %v", got, detached, c.want, c.detached)
				}
			}
		})
	}
}

func TestDetachReaderWithoutKeys(t *testing.T) {
	got, detached := read(bytes.NewBufferString("\x10\x11"), nil)
	if string(got) != "\x10\x11" || detached {
		t.Errorf("got %q, detached %v", got, detached)
	}
}
