package inflate

import "math/bits"

// Sizes of the tables. What both levels need at most is known by exhaustive search
// (zlib's examples/enough.c): 2342 entries for 288 symbols at root 11, 594 for 32
// symbols at root 9. The arrays are powers of two, so that a masked index needs no
// check.
const (
	litRoot    = 11
	litSize    = 1 << 12
	distRoot   = 9
	distSize   = 1 << 10
	maxCode    = 15 // bits of the longest code
	maxSymbols = 288
	maxDirect  = 257 // the longest match that an entry can hold: 255 + 2
)

// An entry of the literal/length table says what the next bits stand for: two
// literals, a literal and a match length, or one of them.
//
//	bits  0-5   how many bits it takes, extra bits of the length included
//	bits  6-7   how many literals; 3: special
//	bits  8-23  the literals, the first one low
//	bits 24-31  match length - 2, or 0 for none
//
// A special entry (count 3) has its kind in bits 24-31 and its argument in bits
// 8-23. All kinds are above 0, so that "no more than literals" is one comparison.
const (
	countShift = 6
	countOne   = 1 << countShift
	countMask  = 3 << countShift
	argShift   = 8
	lenShift   = 24
	special    = countMask

	kindSub     = special | 1<<lenShift // argument: index of the second table, its bits in the top four
	kindLength  = special | 2<<lenShift // argument: base length, extra bits in the top three; takes the code and the extra bits
	kindEnd     = special | 3<<lenShift
	kindInvalid = special | 4<<lenShift

	subShift  = 12
	baseShift = 13
)

// An entry of the distance table.
//
//	bits  0-5   how many bits it takes, extra bits included
//	bit   6     special
//	bits  8-11  how many of them are the code's
//	bits 16-31  the base distance
//
// A special entry has in bits 16-31 the index of a second table and in bits 8-11
// the bits of that, or 0 and 0 where the input stands for no distance.
const (
	distSpecial   = 1 << 6
	codeShift     = 8
	distBaseShift = 16
)

// lengthCode and distCode give base and extra bits of symbol 257+i and i (RFC 1951, 3.2.5).
func lengthCode(i int) (base, extra uint32) {
	switch {
	case i < 8:
		return uint32(i) + 3, 0
	case i == 28:
		return 258, 0
	}
	extra = uint32(i)/4 - 1
	return (4+uint32(i)%4)<<extra + 3, extra
}

func distCode(i int) (base, extra uint32) {
	if i < 4 {
		return uint32(i) + 1, 0
	}
	extra = uint32(i)/2 - 1
	return (2+uint32(i)%2)<<extra + 1, extra
}

// litTable has the entries of one symbol and those of up to two; second tables
// are in the latter.
type litTable struct {
	entry  [litSize]uint32
	single [1 << litRoot]uint32
}

type distTable [distSize]uint32

// code is the canonical Huffman code of a set of lengths.
type code struct {
	n      int                // symbols that have a code
	sym    [maxSymbols]uint16 // those, in the order of their codes
	length [maxSymbols]uint8  // of their codes
	rev    [maxSymbols]uint16 // their codes, the first bit lowest, as in the stream
}

// init assigns the codes. It returns a reason where the lengths make none: they
// must neither be too many nor leave codes unused. As with zlib, one code of one
// bit and no code at all are possible; then some input stands for nothing.
func (c *code) init(lengths []uint8) string {
	var count [maxCode + 1]uint16
	for _, l := range lengths {
		count[l&maxCode]++
	}
	c.n = len(lengths) - int(count[0])
	count[0] = 0
	var place, next [maxCode + 2]uint16
	left, longest := 1, 0
	for l := 1; l <= maxCode; l++ {
		left = left<<1 - int(count[l])
		if left < 0 {
			return "has too many codes"
		}
		if count[l] > 0 {
			longest = l
		}
		place[l+1] = place[l] + count[l]
		next[l+1] = (next[l] + count[l]) << 1
	}
	if left > 0 && longest > 1 {
		return "is incomplete"
	}
	for s, l := range lengths {
		if l == 0 {
			continue
		}
		l &= maxCode
		at := place[l]
		place[l]++
		c.sym[at] = uint16(s)
		c.length[at] = l
		c.rev[at] = bits.Reverse16(next[l]) >> (16 - l)
		next[l]++
	}
	return ""
}

// group returns the end of the symbols, from i on, whose codes begin with the same
// root bits as that of symbol i, and how many bits the longest has more.
func (c *code) group(i int, root uint) (end int, more uint) {
	prefix := c.rev[i] << (16 - root)
	for end = i + 1; end < c.n && c.rev[end]<<(16-root) == prefix; end++ {
	}
	return end, uint(c.length[end-1]) - root
}

// fill puts e at every index of t that ends with the n bits of rev.
func fill(t []uint32, rev uint16, n uint8, e uint32) {
	for i := uint(rev); i < uint(len(t)); i += 1 << n {
		t[i] = e
	}
}

// build builds the literal/length table of c.
func (t *litTable) build(c *code) {
	one := &t.single
	if c.n < 2 {
		fill(one[:], 0, 0, kindInvalid|1)
	}
	next := uint(1 << litRoot)
	for i := 0; i < c.n; {
		if c.length[i] <= litRoot {
			fillSymbol(one[:], c.rev[i], c.length[i], c.sym[i])
			i++
			continue
		}
		end, more := c.group(i, litRoot)
		sub := t.entry[next&(litSize-1):][:1<<more]
		one[c.rev[i]&(1<<litRoot-1)] = kindSub | uint32(more)<<(argShift+subShift) | uint32(next)<<argShift | litRoot
		for ; i < end; i++ {
			fillSymbol(sub, c.rev[i]>>litRoot, c.length[i]-litRoot, c.sym[i])
		}
		next += 1 << more
	}
	t.join(c)
}

// fillSymbol fills in a symbol. A length whose extra bits fit into the table is
// entered for each value of them.
func fillSymbol(t []uint32, rev uint16, n uint8, sym uint16) {
	e := uint32(n)
	switch {
	case sym < 256:
		fill(t, rev, n, e|countOne|uint32(sym)<<argShift)
		return
	case sym == 256:
		fill(t, rev, n, e|kindEnd)
		return
	case sym > 285:
		fill(t, rev, n, e|kindInvalid)
		return
	}
	base, extra := lengthCode(int(sym) - 257)
	if base+1<<extra-1 > maxDirect || 1<<(uint32(n)+extra) > uint32(len(t)) {
		fill(t, rev, n, (e+extra)|kindLength|(extra<<baseShift|base)<<argShift)
		return
	}
	for v := range uint32(1) << extra {
		fill(t, rev|uint16(v<<n), n+uint8(extra), (e+extra)|(base+v-2)<<lenShift)
	}
}

// join makes the table of pairs: a literal and what follows it where both fit.
func (t *litTable) join(c *code) {
	copy(t.entry[:1<<litRoot], t.single[:])
	for i := range c.n {
		n := c.length[i]
		if n >= litRoot {
			break
		}
		if c.sym[i] > 255 {
			continue
		}
		room := uint32(litRoot - n)
		if uint32(c.length[0]) > room {
			break
		}
		first := uint32(n) | countOne | uint32(c.sym[i])<<argShift
		second := t.single[:1<<room]
		out := t.entry[:1<<litRoot]
		at := uint(c.rev[i])
		for _, e := range second {
			pair := first
			if e&63 <= room && e&countMask != special {
				pair = first + e&0xff0000ff + e&0xff00<<8
			}
			if at < uint(len(out)) {
				out[at] = pair
			}
			at += 1 << n
		}
	}
}

// build builds the distance table of c.
func (t *distTable) build(c *code) {
	if c.n < 2 {
		fill(t[:1<<distRoot], 0, 0, distSpecial|1)
	}
	next := uint(1 << distRoot)
	for i := 0; i < c.n; {
		if c.length[i] <= distRoot {
			fillDist(t[:1<<distRoot], c.rev[i], c.length[i], c.sym[i])
			i++
			continue
		}
		end, more := c.group(i, distRoot)
		sub := t[next&(distSize-1):][:1<<more]
		t[c.rev[i]&(1<<distRoot-1)] = distSpecial | distRoot | uint32(more)<<codeShift | uint32(next)<<distBaseShift
		for ; i < end; i++ {
			fillDist(sub, c.rev[i]>>distRoot, c.length[i]-distRoot, c.sym[i])
		}
		next += 1 << more
	}
}

func fillDist(t []uint32, rev uint16, n uint8, sym uint16) {
	if sym > 29 {
		fill(t, rev, n, distSpecial|uint32(n))
		return
	}
	base, extra := distCode(int(sym))
	fill(t, rev, n, base<<distBaseShift|uint32(n)<<codeShift|(uint32(n)+extra))
}
