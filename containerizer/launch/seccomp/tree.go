package seccomp

import "slices"

// segment says where values go from start to the next segment's start.
type segment struct {
	start uint32
	to    nodeID
}

// maxChain is how many single values a leaf of the tree tests one by one. A value
// on its own inside a range costs one test so, and two as a border; three keep
// the path short.
const maxChain = 3

// tree returns a search over segments, which ascend; of equal starts the last one
// counts, and the last segment goes on to the greatest value. The first segment
// starts at 0 or lower than any value that gets there.
//
// The segments are grouped into leaves, each one range with a few single values in
// it, such that the tests are fewest; the leaves hang below a balanced tree of
// comparisons.
func (g *graph) tree(segments []segment) nodeID {
	segments = normalise(segments)
	n := len(segments)
	// cost[i] is the fewest tests for the first i segments, from[i] where their last
	// group begins.
	cost, from := make([]int, n+1), make([]int, n+1)
	for end := 1; end <= n; end++ {
		cost[end] = cost[end-1] + 1
		from[end] = end - 1
		for start := end - 2; start >= 0 && start >= end-2*maxChain-1; start-- {
			_, singles, ok := chain(segments, start, end)
			if c := cost[start] + 1 + singles; ok && c < cost[end] {
				cost[end], from[end] = c, start
			}
		}
	}
	var starts []int
	for end := n; end > 0; end = from[end] {
		starts = append(starts, from[end])
	}
	t := treeBuilder{g: g, segments: segments, groups: make([]nodeID, 0, len(starts)), starts: make([]uint32, 0, len(starts))}
	starts = append(starts, n)
	slices.Sort(starts)
	for i, start := range starts[:len(starts)-1] {
		t.groups = append(t.groups, t.leaf(start, starts[i+1]))
		t.starts = append(t.starts, segments[start].start)
	}
	return t.search(0, len(t.groups))
}

// normalise merges neighbours that go to the same place.
func normalise(segments []segment) []segment {
	out := make([]segment, 0, len(segments))
	for i, s := range segments {
		if i+1 < len(segments) && segments[i+1].start <= s.start {
			continue // overridden by the next one
		}
		if len(out) == 0 || out[len(out)-1].to != s.to {
			out = append(out, s)
		}
	}
	return out
}

// single says whether segment i is one value.
func single(segments []segment, i int) bool {
	return i+1 < len(segments) && segments[i+1].start == segments[i].start+1
}

// chain says whether segments[start:end] are one range with single values in it:
// where the range goes, and how many values go elsewhere.
func chain(segments []segment, start, end int) (base nodeID, singles int, ok bool) {
	base = -1
	for i := start; i < end; i++ {
		if single(segments, i) {
			continue
		}
		if base >= 0 && segments[i].to != base {
			return 0, 0, false
		}
		base = segments[i].to
	}
	if base < 0 {
		base = segments[start].to
	}
	for i := start; i < end; i++ {
		if segments[i].to != base {
			singles++
		}
	}
	return base, singles, singles <= maxChain
}

type treeBuilder struct {
	g        *graph
	segments []segment
	groups   []nodeID
	starts   []uint32
}

func (t *treeBuilder) leaf(start, end int) nodeID {
	node, _, _ := chain(t.segments, start, end)
	base := node
	for i := end - 1; i >= start; i-- {
		if s := t.segments[i]; s.to != base {
			node = t.g.branch(opJEQ, s.start, s.to, node)
		}
	}
	return node
}

func (t *treeBuilder) search(first, end int) nodeID {
	if end-first == 1 {
		return t.groups[first]
	}
	middle := (first + end) / 2
	return t.g.branch(opJGE, t.starts[middle], t.search(middle, end), t.search(first, middle))
}
