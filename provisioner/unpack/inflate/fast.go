package inflate

import "encoding/binary"

// fast decodes as long as there are fastInput bytes of input, room in the window,
// and no end of the block.
//
// The bits in acc above n are those of the next bytes of input, or zero. Of n only
// the lowest six bits count: an entry is subtracted whole. One refill is enough for
// two entries of the first table and a distance: 2*11 + 15+13 bits of 56.
//
//nolint:gocognit,nestif // its state is in registers: a call for each symbol costs more than the symbol
func (r *Reader) fast() error {
	in, win := r.in[:r.end], &r.win
	at, limit, pos, first := uint(r.at), uint(r.end-fastInput), uint(r.pos), uint(r.first)
	acc, n := r.acc, r.nbits
	var err error
	var bad uint
loop:
	for at <= limit && pos < winLimit {
		acc |= binary.LittleEndian.Uint64(in[at:]) << (n & 63)
		at += uint(^n >> 3 & 7)
		n |= 56

		e, taken := r.lit.entry[acc&litIndex], acc
		acc >>= e & 63
		n -= uint64(e)
		if e < 1<<lenShift {
			binary.LittleEndian.PutUint16(win[pos:], uint16(e>>8))
			pos += uint(e >> countShift & 3)
			e, taken = r.lit.entry[acc&litIndex], acc
			acc >>= e & 63
			n -= uint64(e)
			if e < 1<<lenShift {
				binary.LittleEndian.PutUint16(win[pos:], uint16(e>>8))
				pos += uint(e >> countShift & 3)
				continue
			}
		}
		length := uint(e>>lenShift) + 2
		if e&countMask != special {
			binary.LittleEndian.PutUint16(win[pos:], uint16(e>>8))
			pos += uint(e >> countShift & 3)
		} else {
			if e&kindMask == kindSub {
				e, taken = r.lit.second(e, taken), acc
				acc >>= e & 63
				n -= uint64(e)
				if e < 1<<lenShift {
					win[pos] = byte(e >> 8)
					pos++
					continue
				}
				length = uint(e>>lenShift) + 2
			}
			switch e & kindMask {
			case kindLength:
				length = uint(slowLength(e, taken))
			case kindEnd:
				r.endBlock()
				break loop
			case kindInvalid:
				err = r.badSymbol()
				break loop
			}
			acc |= binary.LittleEndian.Uint64(in[at:]) << (n & 63)
			at += uint(^n >> 3 & 7)
			n |= 56
		}

		e = r.dist[acc&distIndex]
		taken = acc
		acc >>= e & 63
		n -= uint64(e)
		if e&distSpecial != 0 {
			if e>>distBaseShift != 0 {
				e, taken = r.dist.second(e, taken), acc
				acc >>= e & 63
				n -= uint64(e)
			}
			if e&distSpecial != 0 {
				err = r.badDistanceCode()
				break
			}
		}
		dist := uint(distance(e, taken))
		if dist > pos-first {
			bad = dist
			break
		}
		if dist < 16 {
			pos = repeat(win, pos, dist, length)
			continue
		}
		end, from := pos+length, pos-dist
		for {
			*(*[16]byte)(win[pos:]) = *(*[16]byte)(win[from:])
			pos += 16
			from += 16
			if pos >= end {
				break
			}
		}
		pos = end
	}
	n &= 63
	r.at, r.pos, r.nbits, r.acc = int(at), int(pos), n, acc&(1<<n-1)
	if bad != 0 {
		return r.badDistance(uint32(bad))
	}
	return err
}
