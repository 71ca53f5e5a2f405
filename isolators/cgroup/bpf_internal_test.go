package cgroup

import (
	"testing"
)

// run interprets p as the kernel would, and fails on what its verifier refuses:
// jumps out of the program or backwards, a missing exit, code never reached.
func run(t *testing.T, p []instruction, kind byte, asked access, major, minor int64) bool {
	t.Helper()
	var reg [11]uint64
	word := map[int16]uint64{0: uint64(asked) << 16, 4: uint64(major), 8: uint64(minor)}
	word[0] |= map[byte]uint64{'b': bpfBlock, 'c': bpfChar}[kind]
	for pc := 0; pc < len(p); pc++ {
		in := p[pc]
		dst, src := &reg[in.reg&15], reg[in.reg>>4]
		jump := false
		switch in.op {
		case opMovImm:
			*dst = uint64(int64(in.imm))
		case opMovReg:
			*dst = src
		case opAndImm:
			*dst &= uint64(int64(in.imm))
		case opRshImm:
			*dst >>= uint(in.imm)
		case opLoad32:
			*dst = word[in.off]
			continue
		case opJneImm:
			jump = *dst != uint64(int64(in.imm))
		case opJeqImm:
			jump = *dst == uint64(int64(in.imm))
		case opExit:
			return reg[0] == 1
		default:
			t.Fatalf("instruction %d has the unknown operation %#x", pc, in.op)
		}
		if jump {
			if in.off < 0 || pc+int(in.off)+1 >= len(p) {
				t.Fatalf("instruction %d jumps by %d in a program of %d", pc, in.off, len(p))
			}
			pc += int(in.off)
		}
	}
	t.Fatalf("the program of %d instructions ends without exit", len(p))
	return false
}

// allowed is what rules mean: for each kind of access, the last rule about the
// device decides, and all kinds that are asked for must be allowed.
func allowed(rules []deviceRule, kind byte, asked access, major, minor int64) bool {
	for _, bit := range []access{accessMknod, accessRead, accessWrite} {
		if asked&bit == 0 {
			continue
		}
		verdict := false
		for _, r := range rules {
			if r.access&bit != 0 && (r.kind == 'a' || r.kind == kind) && (r.major == anyNumber || r.major == major) && (r.minor == anyNumber || r.minor == minor) {
				verdict = r.allow
			}
		}
		if !verdict {
			return false
		}
	}
	return true
}

// checkProgram compares the program for rules with what they mean, for every
// access to every device near those that they name.
func checkProgram(t *testing.T, rules []deviceRule) {
	t.Helper()
	p := deviceProgram(rules)
	numbers := []int64{0, 1, 3, 4095}
	for _, r := range rules {
		numbers = append(numbers, max(r.major, 0), max(r.minor, 0))
	}
	for _, kind := range []byte("bc") {
		for asked := access(1); asked <= accessAll; asked++ {
			for _, major := range numbers {
				for _, minor := range numbers {
					got, want := run(t, p, kind, asked, major, minor), allowed(rules, kind, asked, major, minor)
					if got != want {
						t.Fatalf("rules %v: %s of %c %d:%d is allowed: %v, want %v", rules, asked, kind, major, minor, got, want)
					}
				}
			}
		}
	}
}

func TestDeviceProgram(t *testing.T) {
	rule := func(allow bool, kind byte, major, minor int64, a access) deviceRule {
		return deviceRule{allow, kind, major, minor, a}
	}
	for name, rules := range map[string][]deviceRule{
		"none":                  nil,
		"default":               defaultDevices(),
		"one":                   {rule(true, 'c', 1, 3, accessRead)},
		"two halves":            {rule(true, 'c', 1, 3, accessRead), rule(true, 'c', 1, anyNumber, accessWrite)},
		"taken back":            {rule(true, 'b', anyNumber, anyNumber, accessAll), rule(false, 'b', 3, 1, accessWrite)},
		"everything":            {rule(true, 'a', anyNumber, anyNumber, accessAll)},
		"everything but":        {rule(true, 'a', anyNumber, anyNumber, accessAll), rule(false, 'c', 1, 3, accessAll)},
		"nothing after all":     {rule(true, 'c', 1, 3, accessAll), rule(false, 'a', anyNumber, anyNumber, accessAll)},
		"both kinds":            {rule(true, 'a', 1, 3, accessRead|accessMknod)},
		"denied, then in parts": {rule(false, 'c', 1, 3, accessAll), rule(true, 'c', 1, 3, accessMknod)},
	} {
		t.Run(name, func(t *testing.T) { checkProgram(t, rules) })
	}
}

func FuzzDeviceProgram(f *testing.F) {
	f.Add([]byte{1, 'c', 1, 3, 7, 0, 'c', 1, 255, 2})
	f.Add([]byte{1, 'a', 255, 255, 7, 0, 'b', 3, 1, 4})
	f.Fuzz(func(t *testing.T, data []byte) {
		var rules []deviceRule
		for ; len(data) >= 5 && len(rules) < 8; data = data[5:] {
			number := func(b byte) int64 {
				if b == 255 {
					return anyNumber
				}
				return int64(b)
			}
			rules = append(rules, deviceRule{
				allow: data[0]&1 == 1, kind: "abc"[data[1]%3], major: number(data[2]), minor: number(data[3]),
				access: access(data[4]%7 + 1),
			})
		}
		checkProgram(t, rules)
	})
}
