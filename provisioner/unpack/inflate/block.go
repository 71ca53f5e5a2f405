package inflate

// block reads a block's header (RFC 1951, 3.2.3).
func (r *Reader) block() error {
	v, err := r.take(3)
	if err != nil {
		return err
	}
	r.final = v&1 != 0
	switch v >> 1 {
	case 0:
		return r.storedHeader()
	case 1:
		return r.fixedHeader()
	case 2:
		return r.dynamicHeader()
	}
	return r.corrupt("a block is of type 3, which does not exist")
}

func (r *Reader) storedHeader() error {
	r.align()
	v, err := r.take(32)
	if err != nil {
		return err
	}
	n := v & 0xffff
	if n != ^v>>16 {
		return r.corrupt("a stored block's length %#04x does not fit its complement %#04x", n, v>>16)
	}
	r.stored, r.state = int(n), inStored
	return nil
}

// copyStored copies bytes of a stored block.
func (r *Reader) copyStored() error {
	for r.stored > 0 && r.pos < winLimit {
		switch {
		case r.nbits > 0: // bytes that were already taken for bits
			r.win[r.pos] = byte(r.acc)
			r.acc >>= 8
			r.nbits -= 8
			r.pos++
			r.stored--
			continue
		case r.at == r.end:
			if err := r.more(); err != nil {
				return err
			}
			continue
		}
		n := min(r.stored, winLimit-r.pos, r.end-r.at)
		copy(r.win[r.pos:], r.in[r.at:r.at+n])
		r.at += n
		r.pos += n
		r.stored -= n
	}
	if r.stored == 0 {
		r.endBlock()
	}
	return nil
}

func (r *Reader) fixedHeader() error {
	r.state = inCodes
	if r.fixed {
		return nil
	}
	sizes := r.sizes[:]
	for i := range maxSymbols {
		switch {
		case i < 144:
			sizes[i] = 8
		case i < 256:
			sizes[i] = 9
		case i < 280:
			sizes[i] = 7
		default:
			sizes[i] = 8
		}
	}
	for i := range 32 {
		sizes[maxSymbols+i] = 5
	}
	r.fixed = true
	return r.tables(sizes[:maxSymbols], sizes[maxSymbols:])
}

// tables builds the tables for a block's codes.
func (r *Reader) tables(lit, dist []uint8) error {
	if reason := r.code.init(lit); reason != "" {
		return r.corrupt("a block's code of literals and lengths %s", reason)
	}
	r.lit.build(&r.code)
	if reason := r.code.init(dist); reason != "" {
		return r.corrupt("a block's code of distances %s", reason)
	}
	r.dist.build(&r.code)
	return nil
}

// dynamicHeader reads the codes of a block (RFC 1951, 3.2.7).
func (r *Reader) dynamicHeader() error {
	v, err := r.take(14)
	if err != nil {
		return err
	}
	lits, dists, lens := int(v&31)+257, int(v>>5&31)+1, int(v>>10)+4
	if lits > 286 || dists > 30 {
		return r.corrupt("a block has %d codes of literals and lengths and %d of distances; 286 and 30 are possible", lits, dists)
	}
	var sizes [19]uint8
	order := [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	for _, at := range order[:lens] {
		v, err := r.take(3)
		if err != nil {
			return err
		}
		sizes[at] = uint8(v)
	}
	if reason := r.code.init(sizes[:]); reason != "" {
		return r.corrupt("a block's code of code lengths %s", reason)
	}
	r.fixed = false
	all := r.sizes[:lits+dists]
	if err := r.codeLengths(all); err != nil {
		return err
	}
	r.state = inCodes
	if all[256] == 0 {
		return r.corrupt("a block has no code for its end")
	}
	return r.tables(all[:lits], all[lits:])
}

// codeLengths reads the lengths of a block's codes, which are coded with r.code.
func (r *Reader) codeLengths(all []uint8) error {
	// One level is enough: 7 bits. An entry has the code's length low; 0: no code.
	var table [128]uint32
	for i := range r.code.n {
		fill(table[:], r.code.rev[i], r.code.length[i], uint32(r.code.sym[i])<<8|uint32(r.code.length[i]))
	}
	for i := 0; i < len(all); {
		sym, err := r.codeLength(&table)
		if err != nil {
			return err
		}
		if sym < 16 {
			all[i] = uint8(sym)
			i++
			continue
		}
		n, value, err := r.repeat(sym, all[:i])
		if err != nil {
			return err
		}
		if n > len(all)-i {
			return r.corrupt("a block's code lengths are more than it has codes")
		}
		for ; n > 0; n-- {
			all[i] = value
			i++
		}
	}
	return nil
}

// codeLength reads one symbol.
func (r *Reader) codeLength(table *[128]uint32) (uint32, error) {
	for {
		e := table[r.acc&127]
		n := uint64(e & 7)
		switch {
		case n > 0 && n <= r.nbits:
			r.acc >>= n
			r.nbits -= n
			return e >> 8, nil
		case n == 0 && r.nbits >= 7:
			return 0, r.corrupt("a block's code lengths have a code that stands for nothing")
		}
		if err := r.more(); err != nil {
			return 0, err
		}
	}
}

// repeat reads how often what is repeated after the lengths before.
func (r *Reader) repeat(sym uint32, before []uint8) (n int, value uint8, err error) {
	var v uint32
	switch sym {
	case 16:
		if len(before) == 0 {
			return 0, 0, r.corrupt("a block's first code length repeats one before it")
		}
		v, err = r.take(2)
		return int(v) + 3, before[len(before)-1], err
	case 17:
		v, err = r.take(3)
		return int(v) + 3, 0, err
	}
	v, err = r.take(7)
	return int(v) + 11, 0, err
}
