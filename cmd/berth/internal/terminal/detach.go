package terminal

import (
	"fmt"
	"io"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// DefaultDetachKeys are Docker's.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// ParseDetachKeys parses Docker's form: keys separated by commas, each a single
// character or ctrl- and one of a-z, @, ^, [, ], \, _; "" is no sequence.
func ParseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var out []byte
	for key := range strings.SplitSeq(s, ",") {
		b, ok := keyByte(key)
		if !ok {
			return nil, fmt.Errorf("--detach-keys %q: %q is neither a character nor ctrl- and one of a-z, @, ^, [, ], \\, _: %w",
				s, key, containerizer.ErrInvalid)
		}
		out = append(out, b)
	}
	return out, nil
}

func keyByte(key string) (byte, bool) {
	if len(key) == 1 {
		return key[0], true
	}
	c, ok := strings.CutPrefix(strings.ToLower(key), "ctrl-")
	if !ok || len(c) != 1 {
		return 0, false
	}
	switch k := c[0]; {
	case k >= 'a' && k <= 'z':
		return k - 'a' + 1, true
	case k == '@':
		return 0, true
	case k >= '[' && k <= '_':
		return k - '[' + 27, true
	}
	return 0, false
}

// DetachReader passes input on until the detach keys are typed. Then it calls
// Detached once, and blocks for ever: the container must not see the end of its
// input because somebody left.
type DetachReader struct {
	In       io.Reader
	Keys     []byte
	Detached func()

	matched int    // keys seen so far
	pending []byte // to be handed out before more is read
	left    bool   // the keys are complete
	buf     [4096]byte
}

// Read implements io.Reader.
func (r *DetachReader) Read(p []byte) (int, error) {
	for len(r.pending) == 0 {
		if r.left {
			r.Detached()
			select {}
		}
		n, err := r.In.Read(r.buf[:])
		r.filter(r.buf[:n])
		if err != nil && !r.left {
			r.pending = append(r.pending, r.Keys[:r.matched]...)
			r.matched = 0
			if len(r.pending) == 0 {
				return 0, err
			}
		}
	}
	n := copy(p, r.pending)
	r.pending = r.pending[n:]
	return n, nil // an error comes again with the next read
}

// filter appends in to pending, holding back what may be the start of the keys.
// Once these are complete it drops the rest.
func (r *DetachReader) filter(in []byte) {
	for _, b := range in {
		if len(r.Keys) == 0 {
			r.pending = append(r.pending, b)
			continue
		}
		if b != r.Keys[r.matched] {
			r.pending = append(r.pending, r.Keys[:r.matched]...)
			r.matched = 0
		}
		if b != r.Keys[r.matched] {
			r.pending = append(r.pending, b)
			continue
		}
		if r.matched++; r.matched == len(r.Keys) {
			r.left = true
			return
		}
	}
}
