package seccomp

import (
	"fmt"
	"math"

	"github.com/berth-dev/berth/containerizer"
)

// nodeID names a node of a graph.
type nodeID int

// node is an instruction with its successors: then for a load and an "and", then
// and other for a branch.
type node struct {
	code        uint16
	k           uint32
	then, other nodeID
}

// graph is the program before its layout: a directed acyclic graph in which equal
// nodes exist once, so that equal parts of searches are shared.
type graph struct {
	nodes []node
	ids   map[node]nodeID
}

func newGraph() *graph { return &graph{ids: map[node]nodeID{}} }

func (g *graph) intern(n node) nodeID {
	id, ok := g.ids[n]
	if !ok {
		id = nodeID(len(g.nodes))
		g.nodes = append(g.nodes, n)
		g.ids[n] = id
	}
	return id
}

func (g *graph) ret(v verdict) nodeID { return g.intern(node{code: opRet, k: uint32(v)}) }

func (g *graph) load(offset uint32, then nodeID) nodeID {
	return g.intern(node{code: opLoad, k: offset, then: then})
}

func (g *graph) and(mask uint32, then nodeID) nodeID {
	return g.intern(node{code: opAnd, k: mask, then: then})
}

func (g *graph) branch(code uint16, k uint32, then, other nodeID) nodeID {
	if then == other {
		return then
	}
	return g.intern(node{code: code, k: k, then: then, other: other})
}

// assemble lays the graph below root out.
//
// Jumps go forward only, so it is written back to front: the successors of an
// instruction are in place before it, and its distances are known. The offsets of
// a branch have eight bits; if a successor is further away a trampoline is put
// between, which for a return is a copy of it.
func (g *graph) assemble(root nodeID) ([]SockFilter, error) {
	a := assembler{g: g, at: make([]int, len(g.nodes)), near: make([]int, len(g.nodes))}
	for i := range a.at {
		a.at[i] = -1
	}
	a.place(root)
	if len(a.code) > maxInstructions {
		return nil, fmt.Errorf("it compiles to more than %d instructions, the kernel's limit: %w", maxInstructions, containerizer.ErrInvalid)
	}
	program := make([]SockFilter, len(a.code))
	for i, c := range a.code {
		program[len(program)-1-i] = c
	}
	return program, nil
}

// assembler holds the program in reverse: code[0] is its last instruction.
type assembler struct {
	g    *graph
	code []SockFilter
	at   []int // where a node is, -1 if nowhere yet
	near []int // where it, or its nearest trampoline, is
}

func (a *assembler) emit(f SockFilter) int {
	a.code = append(a.code, f)
	return len(a.code) - 1
}

// place writes node id and all that it leads to, unless that was done.
func (a *assembler) place(id nodeID) {
	if a.at[id] >= 0 || len(a.code) > maxInstructions {
		return
	}
	n := a.g.nodes[id]
	switch n.code {
	case opRet:
		a.at[id] = a.emit(SockFilter{Code: opRet, K: n.k})
	case opLoad, opAnd:
		a.place(n.then)
		if a.at[n.then] != len(a.code)-1 {
			a.trampoline(n.then)
		}
		a.at[id] = a.emit(SockFilter{Code: n.code, K: n.k})
	default:
		a.place(n.other)
		a.place(n.then)
		jt, jf := a.distance(n.then), a.distance(n.other)
		for jt > math.MaxUint8 || jf > math.MaxUint8 {
			if jt > math.MaxUint8 {
				a.trampoline(n.then)
			} else {
				a.trampoline(n.other)
			}
			jt, jf = a.distance(n.then), a.distance(n.other)
		}
		a.at[id] = a.emit(SockFilter{Code: n.code, JT: uint8(jt), JF: uint8(jf), K: n.k})
	}
	a.near[id] = a.at[id]
}

// distance is how many instructions lie between the next one to be written and
// the nearest way to id.
func (a *assembler) distance(id nodeID) int { return len(a.code) - 1 - a.near[id] }

// trampoline writes a way to id that is adjacent to the next instruction.
func (a *assembler) trampoline(id nodeID) {
	f := SockFilter{Code: opJump, K: uint32(len(a.code) - 1 - a.at[id])}
	if n := a.g.nodes[id]; n.code == opRet {
		f = SockFilter{Code: opRet, K: n.k}
	}
	a.near[id] = a.emit(f)
}
