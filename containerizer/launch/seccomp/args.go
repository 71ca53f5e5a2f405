package seccomp

import (
	"cmp"
	"math"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// outcome returns the node that decides a call by its rules: the most restrictive
// one that holds, or def. Rules of the same action keep their order.
func (g *graph) outcome(rules []rule, def verdict, a abi) nodeID {
	rules = slices.Clone(rules)
	slices.SortStableFunc(rules, func(a, b rule) int { return cmp.Compare(a.verdict.leniency(), b.verdict.leniency()) })
	next := g.ret(def)
	if i := slices.IndexFunc(rules, func(r rule) bool { return len(r.conditions) == 0 }); i >= 0 {
		next = g.ret(rules[i].verdict)
		rules = rules[:i]
	}
	for end := len(rules); end > 0; {
		start := end - 1
		for start > 0 && rules[start-1].verdict == rules[end-1].verdict {
			start--
		}
		next = g.anyOf(rules[start:end], next, a)
		end = start
	}
	return next
}

// anyOf gives the verdict that all rules share if one of them holds, else goes to
// next. Rules that compare the same single argument become one search.
func (g *graph) anyOf(rules []rule, next nodeID, a abi) nodeID {
	then := g.ret(rules[0].verdict)
	var ranges [maxArgIndex + 1][]interval
	for _, r := range rules {
		if c := r.conditions[0]; len(r.conditions) == 1 && c.Op != specs.OpMaskedEqual {
			ranges[c.Index] = append(ranges[c.Index], intervals(c)...)
			continue
		}
		test := then
		for _, c := range slices.Backward(r.conditions) {
			test = g.compare(c, test, next, a)
		}
		next = test
	}
	for index, r := range ranges {
		if len(r) > 0 {
			next = g.within(uint(index), r, then, next, a)
		}
	}
	return next
}

// compare goes to then if c holds, else to other.
func (g *graph) compare(c condition, then, other nodeID, a abi) nodeID {
	if c.Op != specs.OpMaskedEqual {
		return g.within(c.Index, intervals(c), then, other, a)
	}
	lo, hi := argOffsets(c.Index)
	node := g.masked(lo, uint32(c.Value), uint32(c.ValueTwo), then, other)
	if a.narrow() {
		hi = noOffset
	}
	return g.masked(hi, uint32(c.Value>>32), uint32(c.ValueTwo>>32), node, other)
}

// noOffset stands for a word that is always 0.
const noOffset = ^uint32(0)

func argOffsets(index uint) (lo, hi uint32) {
	lo = offsetArgs + 8*uint32(index)
	return lo, lo + 4
}

// masked goes to then if the word at offset has the bits of want under mask.
func (g *graph) masked(offset, mask, want uint32, then, other nodeID) nodeID {
	switch {
	case want&^mask != 0, want != 0 && offset == noOffset:
		return other
	case mask == 0, offset == noOffset:
		return then
	case want == 0:
		return g.load(offset, g.branch(opJSet, mask, other, then))
	case mask == math.MaxUint32:
		return g.load(offset, g.branch(opJEQ, want, then, other))
	}
	return g.load(offset, g.and(mask, g.branch(opJEQ, want, then, other)))
}

// interval is a range of values, both ends included.
type interval struct{ first, last uint64 }

// intervals returns the values for which c holds.
func intervals(c condition) []interval {
	v := c.Value
	switch c.Op {
	case specs.OpEqualTo:
		return []interval{{v, v}}
	case specs.OpLessEqual:
		return []interval{{0, v}}
	case specs.OpGreaterEqual:
		return []interval{{v, math.MaxUint64}}
	case specs.OpLessThan:
		return below(v)
	case specs.OpGreaterThan:
		return above(v)
	case specs.OpNotEqual:
		return append(below(v), above(v)...)
	default:
		panic("seccomp: " + c.Op + " is not a comparison of order")
	}
}

func below(v uint64) []interval {
	if v == 0 {
		return nil
	}
	return []interval{{0, v - 1}}
}

func above(v uint64) []interval {
	if v == math.MaxUint64 {
		return nil
	}
	return []interval{{v + 1, math.MaxUint64}}
}

// border is a value from which on a comparison has another result.
type border struct {
	start uint64
	in    bool
}

// borders turns intervals into alternating borders, the first one at 0.
func borders(in []interval) []border {
	slices.SortFunc(in, func(a, b interval) int { return cmp.Compare(a.first, b.first) })
	out := []border{{0, false}}
	for i := 0; i < len(in); {
		first, last := in[i].first, in[i].last
		for i++; i < len(in) && (last == math.MaxUint64 || in[i].first <= last+1); i++ {
			last = max(last, in[i].last)
		}
		if first == 0 {
			out[0].in = true
		} else {
			out = append(out, border{first, true})
		}
		if last != math.MaxUint64 {
			out = append(out, border{last + 1, false})
		}
	}
	return out
}

// within goes to then if the argument is in one of the intervals, else to other.
// The upper word is searched first, and the lower one where it decides.
func (g *graph) within(index uint, in []interval, then, other nodeID, a abi) nodeID {
	pick := func(in bool) nodeID {
		if in {
			return then
		}
		return other
	}
	lo, hi := argOffsets(index)
	var upper []segment
	at := borders(in)
	for i, state := 0, at[0].in; i < len(at); {
		word := uint32(at[i].start >> 32)
		lower := []segment{{0, pick(state)}}
		for ; i < len(at) && uint32(at[i].start>>32) == word; i++ {
			state = at[i].in
			lower = append(lower, segment{uint32(at[i].start), pick(state)})
		}
		node := g.tree(lower)
		if g.tests(node, then, other) {
			node = g.load(lo, node)
		}
		upper = append(upper, segment{word, node})
		if word < math.MaxUint32 {
			upper = append(upper, segment{word + 1, pick(state)})
		}
	}
	if a.narrow() {
		return upper[0].to
	}
	node := g.tree(upper)
	if slices.ContainsFunc(upper, func(s segment) bool { return s.to != upper[0].to }) {
		node = g.load(hi, node)
	}
	return node
}

// tests says whether node, the root of a tree between then and other, tests
// anything.
func (g *graph) tests(node, then, other nodeID) bool { return node != then && node != other }
