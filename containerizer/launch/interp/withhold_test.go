//go:build !race

package interp

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEachWritable(t *testing.T) {
	const maps = "00400000-0048a000 r-xp 00000000 00:1b 71 /bin/berth-monitor\n" +
		"0056d000-0056f000 rw-p 0016d000 00:1b 71 /bin/berth-monitor\n" +
		"34de0ae00000-34de0b000000 rw-p 00000000 00:00 0 \n" +
		"34de0b000000-34de0ee00000 ---p 00000000 00:00 0 \n" +
		"7fb85dc1c000-7fb85dc1e000 rw-s 00000000 00:01 12 /memfd:launch program (deleted)\n" +
		"not a mapping\n1000-\n-1000 rw-p\n2000-1000 rw-p 0\n\n" +
		"7ffd4c2e0000-7ffd4c301000 rw-p 00000000 00:00 0 [stack]"
	var got [][2]uintptr
	eachWritable([]byte(maps), func(start, end uintptr) { got = append(got, [2]uintptr{start, end}) })
	want := [][2]uintptr{{0x56d000, 0x56f000}, {0x34de0ae00000, 0x34de0b000000}, {0x7ffd4c2e0000, 0x7ffd4c301000}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
