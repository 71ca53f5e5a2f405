package inflate_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/berth-dev/berth/provisioner/unpack/inflate"
)

// BenchmarkRead compares decoders. The data is made: decisions/0001 has figures of
// real layers.
func BenchmarkRead(b *testing.B) {
	skewed := make([]byte, 8<<20)
	rnd := rand.New(rand.NewPCG(1, 5))
	for i := range skewed {
		skewed[i] = byte(rnd.IntN(1 + rnd.IntN(1+rnd.IntN(256))))
	}
	for _, data := range []struct {
		name    string
		content []byte
	}{
		{"text", content(1, 8<<20)},
		{"literals", skewed},
		{"zeros", make([]byte, 8<<20)},
	} {
		src := compress(b, data.content, 6)
		size := int64(len(data.content))
		b.Run(data.name+"/inflate", func(b *testing.B) {
			z := inflate.New(nil)
			drain(b, src, size, func(r io.Reader) (io.Reader, error) { z.Reset(r); return z, nil })
		})
		b.Run(data.name+"/klauspost", func(b *testing.B) {
			z := new(gzip.Reader)
			drain(b, src, size, func(r io.Reader) (io.Reader, error) { return z, z.Reset(r) })
		})
		b.Run(data.name+"/stdlib", func(b *testing.B) {
			z := new(stdgzip.Reader)
			drain(b, src, size, func(r io.Reader) (io.Reader, error) { return z, z.Reset(r) })
		})
	}
}

// drain decompresses src again and again.
func drain(b *testing.B, src []byte, size int64, open func(io.Reader) (io.Reader, error)) {
	b.Helper()
	b.SetBytes(size)
	b.ReportAllocs()
	buf := make([]byte, 256<<10)
	for b.Loop() {
		r, err := open(bytes.NewReader(src))
		if err != nil {
			b.Fatal(err)
		}
		var n int64
		for err == nil {
			var k int
			k, err = r.Read(buf)
			n += int64(k)
		}
		if n != size {
			b.Fatalf("got %d bytes, error %v; want %d bytes", n, err, size)
		}
	}
}
