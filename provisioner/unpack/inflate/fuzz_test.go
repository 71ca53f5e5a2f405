package inflate_test

import (
	"bytes"
	stdflate "compress/flate"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/flate"
)

// FuzzStream compares the Reader with two others on any bytes.
func FuzzStream(f *testing.F) {
	for _, s := range samples(f) {
		if len(s.data) < 4<<10 {
			f.Add(s.data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) { agree(t, data) })
}

// FuzzDeflate does so with bytes that are a deflate stream, so that no checksum
// stands before what is behind it.
func FuzzDeflate(f *testing.F) {
	for _, s := range samples(f) {
		if len(s.data) < 4<<10 && len(s.data) > 18 {
			f.Add(s.data[10 : len(s.data)-8])
		}
	}
	for _, c := range handmade() {
		f.Add(c.deflate)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		whole := asMember(data)
		agree(t, whole)
		// In small portions it is the careful loop that decodes.
		reader.Reset(bytes.NewReader(whole))
		want, wantErr := all(reader)
		reader.Reset(&portions{src: whole, rnd: rand.New(rand.NewPCG(uint64(len(data)), 2)), most: 19})
		got, err := all(reader)
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("in portions: %d bytes, error %v; at once: %d bytes, error %v\n%x", len(got), err, len(want), wantErr, whole)
		}
	})
}

// FuzzContent compresses content in many ways, spoils it perhaps, and reads it in portions.
func FuzzContent(f *testing.F) {
	f.Add([]byte("hello hello hello"), uint64(1), int8(6), uint16(0), uint16(0))
	f.Add(content(1, 3000), uint64(2), int8(-2), uint16(0), uint16(77))
	f.Add(content(2, 3000), uint64(3), int8(9), uint16(900), uint16(0))
	f.Fuzz(func(t *testing.T, piece []byte, seed uint64, level int8, flip, cut uint16) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		// Pieces among noise reach all distances of the window, and beyond it.
		var text []byte
		for range rnd.IntN(5) {
			text = append(text, piece...)
			text = append(text, content(rnd.Uint64(), rnd.IntN(60<<10))...)
		}
		text = append(text, piece...)
		data := encode(t, text, rnd, level)
		if flip > 0 {
			data[int(flip)%len(data)] ^= 1 << rnd.IntN(8)
		}
		if cut > 0 {
			data = data[:int(cut)*len(data)>>16]
		}
		reader.Reset(&portions{src: data, rnd: rnd, most: 1 + rnd.IntN(100<<10)})
		got, err := all(reader)
		want, wantErr := expect(oracles["compress/gzip"], data)
		if knownDifference(err, wantErr, data) {
			return
		}
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("got %d bytes, error %v; want %d, %v (seed %d)", len(got), err, len(want), wantErr, seed)
		}
		if flip == 0 && cut == 0 && !bytes.Equal(got, text) {
			t.Fatalf("got %d bytes, not the %d that were compressed (seed %d)", len(got), len(text), seed)
		}
	})
}

// encode makes one or two members with one of two compressors.
func encode(t *testing.T, text []byte, rnd *rand.Rand, level int8) []byte {
	t.Helper()
	level = (level%12+12)%12 - 2 // -2 to 9
	half := len(text)
	if rnd.IntN(3) == 0 {
		half = rnd.IntN(len(text) + 1)
	}
	var data []byte
	for _, part := range [][]byte{text[:half], text[half:]} {
		var b bytes.Buffer
		var w interface {
			io.WriteCloser
			Flush() error
		}
		var err error
		if rnd.IntN(2) == 0 {
			w, err = stdflate.NewWriter(&b, int(level))
		} else {
			w, err = flate.NewWriter(&b, int(level))
		}
		if err != nil {
			t.Fatal(err)
		}
		for rest := part; len(rest) > 0; {
			n := min(len(rest), 1+rnd.IntN(200<<10))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			if rnd.IntN(3) == 0 {
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		data = append(data, member(b.Bytes(), part)...)
		if half == len(text) {
			break
		}
	}
	return data
}

// portions reads from src in random portions.
type portions struct {
	src  []byte
	rnd  *rand.Rand
	most int
}

func (p *portions) Read(b []byte) (int, error) {
	if len(p.src) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.src[:min(len(p.src), 1+p.rnd.IntN(p.most))])
	p.src = p.src[n:]
	return n, nil
}
