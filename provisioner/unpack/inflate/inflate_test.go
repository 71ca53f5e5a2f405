package inflate_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/berth-dev/berth/provisioner/unpack/inflate"
)

type sample struct {
	name    string
	data    []byte
	content []byte
}

// samples are good streams.
func samples(tb testing.TB) []sample {
	tb.Helper()
	small, big := content(1, 2000), content(2, 1<<20)
	noise := make([]byte, 100<<10)
	rnd := rand.New(rand.NewPCG(9, 9))
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	far := append(append([]byte{}, noise[:32<<10]...), noise[:32<<10]...) // distances of exactly 32 KiB
	far = append(far, far...)
	list := []sample{
		{"no content", compress(tb, nil, 6), nil},
		{"small", compress(tb, small, 6), small},
		{"small, fixed codes", compress(tb, []byte("hello hello"), 6), []byte("hello hello")},
		{"small, stored", compress(tb, small, 0), small},
		{"fast", compress(tb, big, 1), big},
		{"best", compress(tb, big, 9), big},
		{"stored", compress(tb, big, 0), big},
		{"no matches", compress(tb, big, stdgzip.HuffmanOnly), big},
		{"noise", compress(tb, noise, 6), noise},
		{"far", compress(tb, far, 9), far},
		{"zeros", compress(tb, make([]byte, 3<<20), 9), make([]byte, 3<<20)},
		{"pattern of two", compress(tb, bytes.Repeat([]byte("ab"), 200<<10), 9), bytes.Repeat([]byte("ab"), 200<<10)},
	}
	for n := 3; n < 20; n++ { // each short distance
		b := bytes.Repeat([]byte("abcdefghijklmnopqrstuvwxyz")[:n], 500)
		list = append(list, sample{"pattern of some", compress(tb, b, 9), b})
	}
	var members, all []byte
	for i := range 40 {
		b := content(uint64(i), i*i*50)
		members = append(members, compress(tb, b, i%10)...)
		all = append(all, b...)
	}
	return append(list,
		sample{"members", members, all},
		sample{"zeros after the end", append(compress(tb, small, 6), make([]byte, 1000)...), small},
		sample{"many empty members", bytes.Repeat(compress(tb, nil, 6), 1000), nil},
	)
}

func TestRead(t *testing.T) {
	z := inflate.New(nil)
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			for name, wrap := range map[string]func(io.Reader) io.Reader{
				"whole":          func(r io.Reader) io.Reader { return r },
				"bytes":          iotest.OneByteReader,
				"halves":         iotest.HalfReader,
				"end with bytes": iotest.DataErrReader,
				"portions": func(io.Reader) io.Reader {
					return &portions{src: s.data, rnd: rand.New(rand.NewPCG(1, 4)), most: 100}
				},
			} {
				z.Reset(wrap(bytes.NewReader(s.data)))
				got, err := io.ReadAll(z)
				if err != nil || !bytes.Equal(got, s.content) {
					t.Errorf("%s: got %d bytes, error %v; want %d", name, len(got), err, len(s.content))
				}
			}
			agree(t, s.data)
			// Into a buffer of one byte, and into none.
			if len(s.data) < 2000 {
				if err := iotest.TestReader(inflate.New(bytes.NewReader(s.data)), s.content); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Every prefix of a stream is truncated, and says so; what it has comes out.
func TestTruncated(t *testing.T) {
	for _, s := range samples(t) {
		if len(s.data) > 3000 || s.name == "zeros after the end" || s.name == "members" {
			continue
		}
		for n := range len(s.data) {
			got, err := read(bytes.NewReader(s.data[:n]))
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s: the first %d of %d bytes: error %v, want %v", s.name, n, len(s.data), err, io.ErrUnexpectedEOF)
			}
			if !bytes.HasPrefix(s.content, got) {
				t.Fatalf("%s: the first %d of %d bytes give something else", s.name, n, len(s.data))
			}
			if n > 0 && !strings.Contains(err.Error(), "ends at byte") {
				t.Fatalf("the error has no offset: %v", err)
			}
		}
	}
}

// Whatever bit is wrong, the Reader agrees with two others.
func TestBitFlips(t *testing.T) {
	for _, b := range [][]byte{compress(t, content(3, 600), 6), compress(t, []byte("hello hello hello"), 6), compress(t, content(4, 60), 0)} {
		for i := range len(b) * 8 {
			flipped := bytes.Clone(b)
			flipped[i/8] ^= 1 << (i % 8)
			agree(t, flipped)
		}
	}
}

type made struct {
	name    string
	deflate []byte
	want    string
	reason  string // part of the error's text; empty: none
}

// handmade are deflate streams that compressors do not write.
func handmade() []made {
	w := func() *bitWriter { return &bitWriter{} }
	fixed := func() *bitWriter { return w().put(1, 1).put(1, 2) }
	a := func() *bitWriter { return fixed().code(0x30+'a', 8) }
	end := func(w *bitWriter) []byte { return w.code(0, 7).b }
	steps := map[int]uint8{14: 15, 256: 15}
	for i := range 14 {
		steps[i] = uint8(i + 1)
	}
	return []made{
		{"empty fixed block", end(fixed()), "", ""},
		{"type 3", w().put(1, 1).put(3, 2).b, "", "type 3"},
		{"stored, wrong complement", w().put(1, 1).put(0, 2).put(0, 5).put(1, 16).put(1, 16).b, "", "complement"},
		{"stored, empty, then fixed", append(w().put(0, 3).put(0, 5).put(0, 16).put(0xffff, 16).b, end(fixed())...), "", ""},
		{"distance before the start", end(a().code(1, 7).code(1, 5)), "", "a distance is 2 bytes, and the member has 1"},
		{"distance to the start", end(a().code(1, 7).code(0, 5)), "aaaa", ""},
		{"distance 30", end(a().code(1, 7).code(30, 5)), "", "stands for no distance"},
		{"distance 31", end(a().code(1, 7).code(31, 5)), "", "stands for no distance"},
		{"length 286", end(a().code(0xc6, 8).code(0, 5)), "", "stands for no literal"},
		{"length 287", end(a().code(0xc7, 8).code(0, 5)), "", "stands for no literal"},
		{"length 258 as 284 and 31", end(a().code(0xc4, 8).put(31, 5).code(0, 5)), strings.Repeat("a", 259), ""},
		{"length 257", end(a().code(0xc4, 8).put(30, 5).code(0, 5)), strings.Repeat("a", 258), ""},
		{"length 258", end(a().code(0xc5, 8).code(0, 5)), strings.Repeat("a", 259), ""},
		{"only the end", w().dynamic(lengths(257, map[int]uint8{256: 1}), []uint8{0}).put(0, 1).b, "", ""},
		{"only the end, other bit", w().dynamic(lengths(257, map[int]uint8{256: 1}), []uint8{0}).put(1, 1).put(0, 64).b, "", "stands for no literal"},
		{"no end", w().dynamic(lengths(257, map[int]uint8{'a': 1, 'b': 1}), []uint8{0}).b, "", "no code for its end"},
		{"no codes", w().dynamic(lengths(257, nil), []uint8{0}).b, "", "no code for its end"},
		{"incomplete literals", w().dynamic(lengths(257, map[int]uint8{'a': 2, 256: 2}), []uint8{0}).b, "", "is incomplete"},
		{"one literal code of two bits", w().dynamic(lengths(257, map[int]uint8{256: 2}), []uint8{0}).b, "", "is incomplete"},
		{"too many literals", w().dynamic(lengths(257, map[int]uint8{'a': 1, 'b': 1, 256: 1}), []uint8{0}).b, "", "too many codes"},
		{"incomplete distances", w().dynamic(lengths(257, map[int]uint8{'a': 1, 256: 1}), []uint8{2, 2}).b, "", "code of distances is incomplete"},
		{"too many distances", w().dynamic(lengths(257, map[int]uint8{'a': 1, 256: 1}), []uint8{1, 1, 1}).b, "", "code of distances has too many"},
		{"one distance", w().dynamic(lengths(258, map[int]uint8{'a': 1, 256: 2, 257: 2}), []uint8{1}).
			code(0, 1).code(3, 2).put(0, 1).code(2, 2).b, "aaaa", ""},
		{"one distance, other bit", w().dynamic(lengths(258, map[int]uint8{'a': 1, 256: 2, 257: 2}), []uint8{1}).
			code(0, 1).code(3, 2).put(1, 1).code(2, 2).put(0, 64).b, "", "stands for no distance"},
		{"no distance, and a match", w().dynamic(lengths(258, map[int]uint8{'a': 1, 256: 2, 257: 2}), []uint8{0}).
			code(0, 1).code(3, 2).put(0, 64).b, "", "stands for no distance"},
		{"287 codes of literals", w().put(1, 1).put(2, 2).put(30, 5).put(0, 5).put(0, 4).b, "", "has 287 codes"},
		{"31 codes of distances", w().put(1, 1).put(2, 2).put(0, 5).put(30, 5).put(0, 4).b, "", "31 of distances"},
		{"code lengths begin with a repetition", w().put(1, 1).put(2, 2).put(0, 10).put(0, 4).put(1, 3).put(1, 3).put(0, 6).code(0, 1).put(0, 64).b, "", "repeats one before it"},
		{"too many code lengths", w().put(1, 1).put(2, 2).put(0, 10).put(0, 4).put(0, 6).put(1, 3).put(1, 3).
			code(1, 1).put(127, 7).code(1, 1).put(127, 7).put(0, 64).b, "", "more than it has codes"},
		{"code lengths too many", w().put(1, 1).put(2, 2).put(0, 10).put(0, 4).put(1, 3).put(1, 3).put(1, 3).put(0, 3).b, "", "code lengths has too many"},
		{"no code lengths", w().put(1, 1).put(2, 2).put(0, 10).put(0, 4).put(0, 12).put(0, 64).b, "", "stands for nothing"},
		{"codes of up to 15 bits", w().dynamic(lengths(257, steps), []uint8{0}).
			code(0x7ffe, 15).code(0x3ffe, 14).code(0x7fe, 11).code(0xffe, 12).code(0, 1).code(0x7fff, 15).b, "\x0e\x0d\x0a\x0b\x00", ""},
		// Matches of three bytes at the distances 2, 1, 3 and 6.
		{"distances of up to 15 bits", w().dynamic(lengths(258, map[int]uint8{'a': 2, 'b': 2, 256: 2, 257: 2}),
			[]uint8{15, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}).
			code(0, 2).code(1, 2).code(3, 2).code(0x7fff, 15).code(3, 2).code(0x7ffe, 15).code(3, 2).code(0x7ffc>>1, 14).
			code(3, 2).code(0xffe, 12).put(1, 1).code(2, 2).b, "ab" + "aba" + "aaa" + "aaa" + "aaa", ""},
	}
}

func TestHandmade(t *testing.T) {
	for _, c := range handmade() {
		t.Run(c.name, func(t *testing.T) {
			data := member(c.deflate, []byte(c.want))
			for name, r := range map[string]io.Reader{
				"whole": bytes.NewReader(data),
				"bytes": iotest.OneByteReader(bytes.NewReader(data)),
				// Behind it there is enough for the fast loop.
				"fast": bytes.NewReader(append(bytes.Clone(data), compress(t, nil, 6)...)),
			} {
				got, err := read(r)
				if c.reason == "" {
					if err != nil || string(got) != c.want {
						t.Errorf("%s: got %q, error %v; want %q", name, got, err, c.want)
					}
					continue
				}
				var corrupt *inflate.CorruptError
				if !errors.As(err, &corrupt) || !strings.Contains(err.Error(), c.reason) {
					t.Errorf("%s: got error %v, want a CorruptError with %q", name, err, c.reason)
				}
			}
			agree(t, data)
		})
	}
}

func TestHeader(t *testing.T) {
	text := []byte("text")
	body := compress(t, text, 6)[10:]
	header := func(flags byte, rest ...byte) []byte {
		return append([]byte{0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3}, rest...)
	}
	withCRC := func(b []byte) []byte {
		sum := crc32.ChecksumIEEE(b)
		return append(b, byte(sum), byte(sum>>8))
	}
	long := bytes.Repeat([]byte{'n'}, 100<<10)
	tests := []struct {
		name   string
		header []byte
		reason string
	}{
		{"text flag", header(1), ""},
		{"name", header(8, 'a', 0), ""},
		{"long name", header(8, append(long, 0)...), ""},
		{"comment", header(16, 'c', 0), ""},
		{"extra", header(4, 3, 0, 0, 0, 0), ""},
		{"everything", withCRC(header(2|4|8|16, 1, 0, 'e', 'n', 0, 'c', 0)), ""},
		{"wrong checksum", header(2, 1, 1), "the header's checksum"},
		{"reserved flag", header(32), "reserved flags"},
		{"method", []byte{0x1f, 0x8b, 7, 0, 0, 0, 0, 0, 0, 0}, "method is 7"},
		{"no gzip", []byte("PK\x03\x04......"), "begins with 0x50 0x4b"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			got, err := read(bytes.NewReader(append(bytes.Clone(c.header), body...)))
			if c.reason == "" && (err != nil || !bytes.Equal(got, text)) {
				t.Fatalf("got %q, error %v", got, err)
			}
			if c.reason != "" && (err == nil || !strings.Contains(err.Error(), c.reason)) {
				t.Fatalf("got error %v, want %q in it", err, c.reason)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	good := compress(t, content(5, 5000), 6)
	spoil := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 0x10
		return b
	}
	tests := []struct {
		name   string
		data   []byte
		member int64
		offset int
		reason string
	}{
		{"checksum", spoil(len(good) - 8), 1, len(good) - 4, "the checksum is"},
		{"length", spoil(len(good) - 2), 1, len(good), "the length is"},
		{"garbage", append(bytes.Clone(good), "garbage"...), 2, len(good) + 2, "neither zeros nor another member"},
		{"garbage after zeros", append(bytes.Clone(good), 0, 0, 1), 1, len(good) + 2, "neither zeros nor another member"},
		{"second member", append(bytes.Clone(good), spoil(len(good)-8)...), 2, 2*len(good) - 4, "the checksum is"},
		{"distance into the member before", append(bytes.Clone(good), member((&bitWriter{}).put(3, 3).code(1, 7).code(0, 5).code(0, 7).b, []byte("aaa"))...), 2, len(good) + 12, "a distance is 1 bytes, and the member has 0"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			_, err := read(bytes.NewReader(c.data))
			var corrupt *inflate.CorruptError
			if !errors.As(err, &corrupt) || !strings.Contains(corrupt.Reason, c.reason) {
				t.Fatalf("got error %v, want %q", err, c.reason)
			}
			if corrupt.Member != c.member || corrupt.Offset != int64(c.offset) {
				t.Errorf("got member %d, offset %d; want %d, %d (%v)", corrupt.Member, corrupt.Offset, c.member, c.offset, err)
			}
		})
	}
}

func TestSourceErrors(t *testing.T) {
	good := compress(t, content(6, 5000), 6)
	boom := errors.New("boom")
	for _, n := range []int{0, 5, 30, len(good) - 1, len(good)} {
		_, err := read(io.MultiReader(bytes.NewReader(good[:n]), iotest.ErrReader(boom)))
		if !errors.Is(err, boom) {
			t.Errorf("after %d bytes: got error %v, want %v", n, err, boom)
		}
	}
	padded := append(bytes.Clone(good), 0, 0, 0)
	if _, err := read(io.MultiReader(bytes.NewReader(padded), iotest.ErrReader(boom))); !errors.Is(err, boom) {
		t.Errorf("after zeros: got error %v, want %v", err, boom)
	}
	if _, err := read(stuck{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("got error %v, want %v", err, io.ErrNoProgress)
	}
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// An error stays, and Reset ends it; nothing of the stream before is left.
func TestReset(t *testing.T) {
	text := content(7, 400<<10)
	good := compress(t, text, 6)
	z := inflate.New(bytes.NewReader(good[:len(good)/2]))
	for range 2 {
		if _, err := io.ReadAll(z); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("got error %v, want %v", err, io.ErrUnexpectedEOF)
		}
	}
	// A distance that would reach what the window still has.
	z.Reset(bytes.NewReader(member((&bitWriter{}).put(3, 3).code(1, 7).code(0, 5).code(0, 7).b, []byte("aaa"))))
	var corrupt *inflate.CorruptError
	if _, err := io.ReadAll(z); !errors.As(err, &corrupt) {
		t.Fatalf("got error %v, want a CorruptError", err)
	}
	sum, buf, src := crc32.NewIEEE(), make([]byte, 10<<10), bytes.NewReader(nil)
	allocs := testing.AllocsPerRun(5, func() {
		src.Reset(good)
		z.Reset(src)
		sum.Reset()
		for {
			n, err := z.Read(buf)
			_, _ = sum.Write(buf[:n]) // never fails (hash.Hash)
			if err == nil {
				continue
			}
			if !errors.Is(err, io.EOF) || sum.Sum32() != crc32.ChecksumIEEE(text) {
				t.Fatalf("after Reset: error %v, checksum %#x", err, sum.Sum32())
			}
			return
		}
	})
	if allocs > 0 {
		t.Errorf("reading again makes %v allocations", allocs)
	}
}

// Blocks without content, of fixed codes: the tables are made once.
func TestManyEmptyBlocks(t *testing.T) {
	w := &bitWriter{}
	for range 300_000 {
		w.put(0, 1).put(1, 2).code(0, 7)
	}
	w.put(1, 1).put(1, 2).code(0, 7)
	if got, err := read(bytes.NewReader(member(w.b, nil))); err != nil || len(got) > 0 {
		t.Fatalf("got %d bytes, error %v", len(got), err)
	}
}
