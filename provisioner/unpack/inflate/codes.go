package inflate

import "encoding/binary"

const (
	litIndex  = 1<<litRoot - 1
	distIndex = 1<<distRoot - 1
	kindMask  = 0xff<<lenShift | special

	// fastInput is how many bytes must be there for a step of the fast loop: two
	// refills, and eight bytes to load.
	fastInput = 24
)

// codes decodes until the block ends or the window is full.
func (r *Reader) codes() error {
	for r.pos < winLimit && r.state == inCodes {
		var err error
		if r.end-r.at >= fastInput {
			err = r.fast()
		} else {
			err = r.step()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// step decodes one entry, and takes no more input than that needs.
func (r *Reader) step() error {
	e, taken, err := r.litEntry()
	if err != nil {
		return err
	}
	var length uint32
	switch e & kindMask {
	case kindEnd:
		r.endBlock()
		return nil
	case kindInvalid:
		return r.badSymbol()
	case kindLength:
		length = slowLength(e, taken)
	default:
		r.win[r.pos] = byte(e >> 8)
		r.win[r.pos+1] = byte(e >> 16)
		r.pos += int(e >> countShift & 3)
		if e < 1<<lenShift {
			return nil
		}
		length = e>>lenShift + 2
	}
	e, taken, err = r.distEntry()
	if err != nil {
		return err
	}
	dist := distance(e, taken)
	switch {
	case e&distSpecial != 0:
		return r.badDistanceCode()
	case int(dist) > r.pos-r.first:
		return r.badDistance(dist)
	}
	r.pos = int(repeat(&r.win, uint(r.pos), uint(dist), uint(length)))
	return nil
}

// litEntry looks up and takes the next entry of literals and lengths, one of a
// second table perhaps. It also returns the bits that begin with it.
func (r *Reader) litEntry() (e uint32, taken uint64, err error) {
	for {
		e, taken = r.lit.entry[r.acc&litIndex], r.acc
		used := uint64(e & 63)
		if e&kindMask == kindSub {
			e, taken = r.lit.second(e, r.acc), r.acc>>litRoot
			used += uint64(e & 63)
		}
		if used <= r.nbits {
			r.acc >>= used
			r.nbits -= used
			return e, taken, nil
		}
		if err := r.more(); err != nil {
			return 0, 0, err
		}
	}
}

// distEntry does the same for distances.
func (r *Reader) distEntry() (e uint32, taken uint64, err error) {
	for {
		e, taken = r.dist[r.acc&distIndex], r.acc
		used := uint64(e & 63)
		if e&distSpecial != 0 && e>>distBaseShift != 0 {
			e, taken = r.dist.second(e, r.acc), r.acc>>distRoot
			used += uint64(e & 63)
		}
		if used <= r.nbits {
			r.acc >>= used
			r.nbits -= used
			return e, taken, nil
		}
		if err := r.more(); err != nil {
			return 0, 0, err
		}
	}
}

// second returns what e, an entry of kindSub, refers to.
func (t *litTable) second(e uint32, acc uint64) uint32 {
	index := uint64(e>>argShift) & (1<<subShift - 1)
	more := e >> (argShift + subShift) & 15
	return t.entry[(index+acc>>litRoot&(1<<more-1))&(litSize-1)]
}

// second returns what e, a special entry, refers to.
func (t *distTable) second(e uint32, acc uint64) uint32 {
	more := e >> codeShift & 15
	return t[(uint64(e>>distBaseShift)+acc>>distRoot&(1<<more-1))&(distSize-1)]
}

// slowLength returns the length of e, an entry of kindLength; taken begins with its code.
func slowLength(e uint32, taken uint64) uint32 {
	extra := e >> (argShift + baseShift) & 7
	return e>>argShift&(1<<baseShift-1) + uint32(taken>>((e-extra)&63))&(1<<extra-1)
}

// distance returns the distance of e; taken begins with its code.
func distance(e uint32, taken uint64) uint32 {
	return e>>distBaseShift + uint32(taken&(1<<(e&63)-1)>>(e>>codeShift&15))
}

// repeat copies length bytes from dist before pos to pos, and returns where they
// end. It writes some bytes more.
func repeat(win *[winSize]byte, pos, dist, length uint) uint {
	end := pos + length
	from := pos - dist
	if dist >= 8 {
		for pos < end {
			binary.LittleEndian.PutUint64(win[pos:], binary.LittleEndian.Uint64(win[from:]))
			pos += 8
			from += 8
		}
		return end
	}
	// A pattern that is repeated as often as it fits into 8 bytes.
	v := binary.LittleEndian.Uint64(win[from:])
	v &= 1<<(8*dist) - 1
	v |= v << (8 * dist)
	v |= v << (16 * dist)
	v |= v << (32 * dist)
	step := dist * (8 / dist)
	for pos < end {
		binary.LittleEndian.PutUint64(win[pos:], v)
		pos += step
	}
	return end
}

func (r *Reader) badSymbol() error {
	return r.corrupt("a code stands for no literal or length")
}

func (r *Reader) badDistanceCode() error {
	return r.corrupt("a code stands for no distance")
}

func (r *Reader) badDistance(dist uint32) error {
	return r.corrupt("a distance is %d bytes, and the member has %d so far", dist, r.pos-r.first)
}
