package inflate

import (
	"hash/crc32"
	"io"
)

// Flags of a member's header (RFC 1952, 2.3.1).
const (
	flagCRC      = 1 << 1
	flagExtra    = 1 << 2
	flagName     = 1 << 3
	flagComment  = 1 << 4
	flagReserved = 0xe0
)

const garbage = "what follows the last member is neither zeros nor another member"

// header reads what is before a member's blocks, or finds the end of the stream.
func (r *Reader) header() error {
	if r.at == r.end {
		switch ok, err := r.input(); {
		case err != nil:
			return err
		case !ok && r.members == 0:
			return r.truncated()
		case !ok:
			return io.EOF
		}
	}
	if r.members > 0 && r.in[r.at] == 0 {
		return r.padding()
	}
	r.members++
	h := headerReader{r: r}
	flags, err := h.fixed()
	if err != nil {
		return err
	}
	if flags&flagExtra != 0 {
		h.skip(h.number(2))
	}
	if flags&flagName != 0 {
		h.text()
	}
	if flags&flagComment != 0 {
		h.text()
	}
	if sum := h.sum & 0xffff; flags&flagCRC != 0 {
		if want := h.number(2); h.err == nil && want != sum {
			return r.corrupt("the header's checksum is %#04x, its content's %#04x", want, sum)
		}
	}
	r.first, r.crc, r.size, r.state = r.pos, 0, 0, atBlock
	return h.err
}

// padding accepts zeros up to the end, as gzip(1) does for tapes' sake.
func (r *Reader) padding() error {
	for {
		for _, b := range r.in[r.at:r.end] {
			if b != 0 {
				return r.corrupt(garbage)
			}
			r.at++
		}
		switch ok, err := r.input(); {
		case err != nil:
			return err
		case !ok:
			return io.EOF
		}
	}
}

// trailer compares the member's checksum and length with what came out.
func (r *Reader) trailer() error {
	r.align()
	r.sum()
	crc, err := r.take(32)
	if err != nil {
		return err
	}
	if crc != r.crc {
		return r.corrupt("the checksum is %#08x, that of the content %#08x", crc, r.crc)
	}
	size, err := r.take(32)
	if err != nil {
		return err
	}
	if size != r.size {
		return r.corrupt("the length is %d, that of the content %d (modulo 2^32)", size, r.size)
	}
	r.state = atHeader
	return nil
}

// headerReader reads a header's fields until there is an error.
type headerReader struct {
	r   *Reader
	sum uint32
	err error
}

// fixed reads what every header has, and returns its flags.
func (h *headerReader) fixed() (flags uint32, err error) {
	if magic := h.number(2); h.err == nil && magic != 0x8b1f {
		if h.r.members > 1 {
			return 0, h.r.corrupt(garbage)
		}
		return 0, h.r.corrupt("it begins with %#02x %#02x, not with 0x1f 0x8b", magic&0xff, magic>>8)
	}
	if method := h.number(1); h.err == nil && method != 8 {
		return 0, h.r.corrupt("the compression method is %d, not 8 (deflate)", method)
	}
	flags = h.number(1)
	if h.err == nil && flags&flagReserved != 0 {
		return 0, h.r.corrupt("reserved flags are set (%#02x)", flags)
	}
	h.skip(6) // time, extra flags, operating system
	return flags, h.err
}

func (h *headerReader) byte() byte {
	if h.err != nil {
		return 0
	}
	v, err := h.r.take(8)
	h.err = err
	b := byte(v)
	h.sum = ^(crc32.IEEETable[byte(^h.sum)^b] ^ ^h.sum>>8)
	return b
}

// number reads n bytes, the lowest first.
func (h *headerReader) number(n int) (v uint32) {
	for i := range n {
		v |= uint32(h.byte()) << (8 * i)
	}
	return v
}

func (h *headerReader) skip(n uint32) {
	for range n {
		h.byte()
	}
}

// text skips a text with a zero at its end, however long.
func (h *headerReader) text() {
	for h.byte() != 0 && h.err == nil {
	}
}
