package inflate_test

import (
	"bufio"
	"bytes"
	stdflate "compress/flate"
	stdgzip "compress/gzip"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/berth-dev/berth/provisioner/unpack/inflate"
)

const maxContent = 8 << 20 // of one stream in a test

var errTooMuch = errors.New("more than a test wants")

// read decompresses with the Reader.
func read(r io.Reader) ([]byte, error) { return all(inflate.New(r)) }

func all(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxContent+1))
	if len(b) > maxContent {
		return b, errTooMuch
	}
	return b, err
}

// oracle is another decoder of gzip members.
type oracle interface {
	io.Reader
	Reset(r io.Reader) error
	Multistream(on bool)
}

// oracles are the two we compare with, and reader is one to use again and again
// as they are, also because making them is most of the work on a small input.
var (
	oracles = map[string]oracle{"compress/gzip": new(stdgzip.Reader), "klauspost": new(gzip.Reader)}
	reader  = inflate.New(nil)
)

// expect decompresses with z by this package's rules of what follows a member: z
// stops after each.
func expect(z oracle, data []byte) ([]byte, error) {
	src := bufio.NewReader(bytes.NewReader(data))
	var out []byte
	for members := 0; ; members++ {
		head, _ := src.Peek(1) // the only error here is the end
		switch {
		case len(head) == 0 && members == 0:
			return out, io.ErrUnexpectedEOF
		case len(head) == 0:
			return out, nil
		case members > 0 && head[0] == 0:
			rest, _ := io.ReadAll(src)
			if len(bytes.Trim(rest, "\x00")) > 0 {
				return out, stdgzip.ErrHeader
			}
			return out, nil
		}
		if err := z.Reset(src); err != nil {
			return out, err
		}
		z.Multistream(false)
		b, err := io.ReadAll(io.LimitReader(z, int64(maxContent+1-len(out))))
		out = append(out, b...)
		switch {
		case len(out) > maxContent:
			return out, errTooMuch
		case err != nil:
			return out, err
		}
	}
}

// agree fails where the Reader and an oracle differ about data.
func agree(t *testing.T, data []byte) {
	t.Helper()
	reader.Reset(bytes.NewReader(data))
	got, err := all(reader)
	for name, z := range oracles {
		want, wantErr := expect(z, data)
		if knownDifference(err, wantErr, data) {
			continue
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("got error %v, %s says %v\n%x", err, name, wantErr, data)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("got %d bytes, want the %d of %s\n%x", len(got), len(want), name, data)
		}
		n := min(len(got), len(want))
		if !bytes.Equal(got[:n], want[:n]) {
			t.Fatalf("before the fault, the bytes differ from those of %s\n%x", name, data)
		}
	}
	checkError(t, err, len(data))
}

// knownDifference says whether it is one that doc.go names: the oracles accept
// reserved flags, and no names above 512 bytes.
func knownDifference(err, oracle error, data []byte) bool {
	var corrupt *inflate.CorruptError
	if errors.As(err, &corrupt) && len(corrupt.Reason) > 8 && corrupt.Reason[:8] == "reserved" {
		return true
	}
	return errors.Is(oracle, stdgzip.ErrHeader) || errors.Is(oracle, gzip.ErrHeader) && len(data) > 512
}

// checkError fails where err is not of the kinds that are documented.
func checkError(t *testing.T, err error, size int) {
	t.Helper()
	var corrupt *inflate.CorruptError
	switch {
	case err == nil, errors.Is(err, errTooMuch), errors.Is(err, io.ErrUnexpectedEOF):
	case !errors.As(err, &corrupt):
		t.Fatalf("unexpected error %v", err)
	case corrupt.Offset < 0 || corrupt.Offset > int64(size), corrupt.Member < 1, corrupt.Reason == "":
		t.Fatalf("the error has wrong details: %#v", corrupt)
	}
}

// compress makes a member with compress/gzip.
func compress(tb testing.TB, content []byte, level int) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := stdgzip.NewWriterLevel(&b, level)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// member wraps a deflate stream, with the checksum and length of content.
func member(deflate, content []byte) []byte {
	b := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, deflate...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(content))
	return binary.LittleEndian.AppendUint32(b, uint32(len(content)))
}

// asMember wraps a deflate stream with what compress/flate says it contains, and
// leaves out what comes after its end.
func asMember(deflate []byte) []byte {
	src := bytes.NewReader(deflate)
	content, err := all(stdflate.NewReader(src))
	if err == nil {
		deflate = deflate[:len(deflate)-src.Len()]
	}
	return member(deflate, content)
}

// content makes n bytes that compress well in many ways, the same for each seed:
// words, runs, noise of few and of many values, repetitions from near and far.
func content(seed uint64, n int) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	words := make([][]byte, 200)
	for i := range words {
		words[i] = make([]byte, 2+rnd.IntN(12))
		for j := range words[i] {
			words[i][j] = byte('a' + rnd.IntN(26)*rnd.IntN(26)/26)
		}
	}
	var b []byte
	for len(b) < n {
		switch k := rnd.IntN(100); {
		case k < 70:
			b = append(b, words[rnd.IntN(1+rnd.IntN(len(words)))]...)
			b = append(b, ' ')
		case k < 80:
			for range rnd.IntN(40) {
				b = append(b, byte(rnd.IntN(256)))
			}
		case k < 85:
			b = append(b, bytes.Repeat([]byte{byte(rnd.IntN(256))}, rnd.IntN(700))...)
		case k < 90:
			b = append(b, bytes.Repeat(words[rnd.IntN(len(words))][:2], rnd.IntN(60))...)
		case len(b) > 0:
			from := len(b) - 1 - rnd.IntN(min(len(b), 40<<10))
			b = append(b, b[from:min(len(b), from+rnd.IntN(400))]...)
		}
	}
	return b[:n]
}

// bitWriter makes deflate streams by hand.
type bitWriter struct {
	b []byte
	n uint
}

// put writes the low n bits of v, the lowest first.
func (w *bitWriter) put(v uint64, n uint) *bitWriter {
	for i := range n {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(v>>i&1) << (w.n % 8)
		w.n++
	}
	return w
}

// code writes a Huffman code, the highest of n bits first.
func (w *bitWriter) code(v uint64, n uint) *bitWriter {
	for i := range n {
		w.put(v>>(n-1-i), 1)
	}
	return w
}

// dynamic begins a block with the given code lengths, each written as it is with
// a code of code lengths that has 16 codes of 4 bits.
func (w *bitWriter) dynamic(lits, dists []uint8) *bitWriter {
	w.put(1, 1).put(2, 2).put(uint64(len(lits)-257), 5).put(uint64(len(dists)-1), 5).put(15, 4)
	for i := range 19 {
		n := uint64(4)
		if i < 3 {
			n = 0 // no repetitions: 16, 17, 18
		}
		w.put(n, 3)
	}
	for _, l := range append(append([]uint8{}, lits...), dists...) {
		w.code(uint64(l), 4)
	}
	return w
}

// lengths returns n code lengths that are zero but for those given.
func lengths(n int, of map[int]uint8) []uint8 {
	l := make([]uint8, n)
	for i, v := range of {
		l[i] = v
	}
	return l
}
