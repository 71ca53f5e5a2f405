package inflate

import (
	"errors"
	"hash/crc32"
	"io"
)

const (
	inSize = 64 << 10

	history = 32 << 10 // how far back a distance reaches
	// winLimit is where the window is full; what one step of the fast loop makes
	// (two pairs of literals, a match, a copy's overhang) fits behind it.
	winLimit = history + 128<<10
	winSize  = winLimit + 512
)

// state is what comes next in the stream.
//
//	header -> block -> stored -> block ... -> trailer -> header ... -> end
//	               \-> codes  -/
type state uint8

const (
	atHeader  state = iota
	atBlock         // a block's header
	inStored        // bytes of a stored block
	inCodes         // codes of a compressed block
	atTrailer       // checksum and length of the member
)

// Reader decompresses a gzip stream. Make one with [New]; the zero value can be
// used after [Reader.Reset]. It is not for several goroutines at once.
type Reader struct {
	src    io.Reader
	srcErr error // what src returned besides its last bytes
	err    error // what Read returns once the window is empty

	// Input: in[at:end] is unread, and before it nbits bits in acc. Bits of acc
	// above nbits are zero, except within the fast loop.
	at, end int
	nbits   uint64
	acc     uint64
	passed  int64 // bytes of src before in[0]

	// Output: win[given:pos] waits to be read, win[summed:pos] to be checked,
	// win[first:pos] is what a distance may reach.
	given, summed, pos, first int

	state   state
	final   bool   // the present block is the member's last
	fixed   bool   // the tables are those of fixed codes
	stored  int    // bytes left of a stored block
	members int64  // begun so far
	crc     uint32 // of the member
	size    uint32 // of the member, modulo 2^32

	lit   litTable
	dist  distTable
	code  code
	in    [inSize]byte
	win   [winSize]byte
	sizes [maxSymbols + 32]uint8 // code lengths of a block, as they are read
}

// New returns a Reader of the gzip stream src. It reads nothing yet.
func New(src io.Reader) *Reader {
	r := new(Reader)
	r.Reset(src)
	return r
}

// Reset makes r read the stream src from its beginning, whatever happened before.
func (r *Reader) Reset(src io.Reader) {
	r.src, r.srcErr, r.err = src, nil, nil
	r.at, r.end, r.nbits, r.acc, r.passed = 0, 0, 0, 0, 0
	r.given, r.summed, r.pos, r.first = 0, 0, 0, 0
	r.state, r.members = atHeader, 0
}

// Read fills p with decompressed bytes. Bytes that come before a fault are given
// out first; those of a member count only once its end was reached, because its
// checksum is there.
func (r *Reader) Read(p []byte) (int, error) {
	for r.given == r.pos {
		if len(p) == 0 {
			return 0, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		r.slide()
		r.err = r.produce()
		r.sum()
	}
	n := copy(p, r.win[r.given:r.pos])
	r.given += n
	return n, nil
}

// slide makes room in a full window. All of it was given out.
func (r *Reader) slide() {
	if r.pos < winLimit {
		return
	}
	moved := r.pos - history
	copy(r.win[:history], r.win[moved:r.pos])
	r.first = max(0, r.first-moved)
	r.given, r.summed, r.pos = history, history, history
}

// sum adds what was made since the last call to the checksum.
func (r *Reader) sum() {
	b := r.win[r.summed:r.pos]
	r.crc = crc32.Update(r.crc, crc32.IEEETable, b)
	r.size += uint32(len(b))
	r.summed = r.pos
}

// produce goes on until the window is full.
func (r *Reader) produce() error {
	for r.pos < winLimit {
		var err error
		switch r.state {
		case atHeader:
			err = r.header()
		case atBlock:
			err = r.block()
		case inStored:
			err = r.copyStored()
		case inCodes:
			err = r.codes()
		case atTrailer:
			err = r.trailer()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// endBlock chooses what follows a block.
func (r *Reader) endBlock() {
	r.state = atBlock
	if r.final {
		r.state = atTrailer
	}
}

// input reads from src once in is used up. It returns false at the end of src.
func (r *Reader) input() (bool, error) {
	for range 100 {
		if r.srcErr != nil {
			if errors.Is(r.srcErr, io.EOF) {
				return false, nil
			}
			return false, r.srcErr
		}
		var n int
		n, r.srcErr = r.src.Read(r.in[:])
		r.passed += int64(r.end)
		r.at, r.end = 0, n
		if n > 0 {
			return true, nil
		}
	}
	return false, io.ErrNoProgress
}

// more adds a byte to the bits.
func (r *Reader) more() error {
	if r.at == r.end {
		ok, err := r.input()
		if err != nil {
			return err
		}
		if !ok {
			return r.truncated()
		}
	}
	r.acc |= uint64(r.in[r.at]) << (r.nbits & 63)
	r.nbits += 8
	r.at++
	return nil
}

// take returns the next n bits, at most 32.
func (r *Reader) take(n uint64) (uint32, error) {
	for r.nbits < n {
		if err := r.more(); err != nil {
			return 0, err
		}
	}
	v := r.acc & (1<<n - 1)
	r.acc >>= n
	r.nbits -= n
	return uint32(v), nil
}

// align leaves out the rest of the present byte.
func (r *Reader) align() {
	n := r.nbits & 7
	r.acc >>= n
	r.nbits -= n
}

// offset is where in src the next unused bit is.
func (r *Reader) offset() int64 { return r.passed + int64(r.at) - int64(r.nbits/8) }
