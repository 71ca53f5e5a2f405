package launch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/launch/program"
)

// printer writes the operations of a program in the manner of strace(1).
type printer struct {
	w io.Writer
	p *Program
}

func (pr printer) operations() {
	header := (*program.Header)(unsafe.Pointer(&pr.p.Block[0]))
	if header.CloneFlags != 0 {
		_, _ = fmt.Fprintf(pr.w, "clone3(%s)\n", namespaceFlags(header.CloneFlags))
	}
	layout := header.Layout()
	next := 0
	for i := range int(header.Ops) {
		for next < len(pr.p.steps) && pr.p.steps[next].op <= i {
			_, _ = fmt.Fprintf(pr.w, "# %s\n", pr.p.steps[next].what)
			next++
		}
		if i == pr.p.exec {
			_, _ = fmt.Fprintf(pr.w, "# execute %q\n", pr.p.args)
		}
		op := (*program.Op)(unsafe.Pointer(&pr.p.Block[layout.Ops+i*program.OpSize]))
		_, _ = fmt.Fprintf(pr.w, "%4d  %s\n", i, pr.operation(op, pr.p.Block[layout.Data:]))
	}
}

func (pr printer) operation(o *program.Op, data []byte) string {
	var s strings.Builder
	s.WriteString(callName(o.NR) + "(")
	for i := range argumentCount(o) {
		if i > 0 {
			s.WriteString(", ")
		}
		s.WriteString(argument(o, i, data))
	}
	s.WriteString(")")
	if o.Dst != program.None {
		_, _ = fmt.Fprintf(&s, " = [%d]", o.Dst)
	}
	if o.Tolerate != [4]uint8{} || o.Flags&program.FlagAny != 0 || o.NR == program.OpJump {
		_, _ = fmt.Fprintf(&s, "  %s skip %d", tolerated(o), o.Skip)
	}
	return s.String()
}

func tolerated(o *program.Op) string {
	if o.NR == program.OpJump {
		return ""
	}
	if o.Flags&program.FlagAny != 0 {
		return "any error:"
	}
	var names []string
	for _, e := range o.Tolerate {
		if e != 0 {
			names = append(names, errnoName(e))
		}
	}
	return strings.Join(names, "|") + ":"
}

// argumentCount leaves out trailing zeros, which are mostly unused arguments.
func argumentCount(o *program.Op) int {
	n := 6
	for n > 1 && o.Args[n-1] == 0 && (o.Ptr|o.Slot)>>(n-1)&1 == 0 {
		n--
	}
	return n
}

func argument(o *program.Op, i int, data []byte) string {
	v := o.Args[i]
	switch {
	case o.Slot>>i&1 == 1 && v == 0:
		return "[progress]"
	case o.Slot>>i&1 == 1:
		return fmt.Sprintf("[%d]", v)
	case o.Ptr>>i&1 == 1 && wordsAt(o.NR, i) > 0:
		return words(data[v:], wordsAt(o.NR, i))
	case o.Ptr>>i&1 == 1:
		return text(data[v:])
	case int64(v) < 0 && int64(v) > -4096:
		return fmt.Sprint(int64(v))
	case v > 9:
		return fmt.Sprintf("%#x", v)
	}
	return fmt.Sprint(v)
}

// wordsAt says of how many 64-bit words argument i is a structure, 0 for none.
func wordsAt(nr uint32, i int) int {
	switch {
	case nr == unix.SYS_OPENAT2 && i == 2: // struct open_how
		return 3
	case nr == unix.SYS_MOUNT_SETATTR && i == 3: // struct mount_attr
		return 4
	case nr == unix.SYS_PRLIMIT64 && i == 2: // struct rlimit64
		return 2
	case nr == unix.SYS_CAPSET && i == 1: // two struct __user_cap_data_struct
		return 3
	}
	return 0
}

func words(data []byte, n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("%#x", binary.NativeEndian.Uint64(data[8*i:])))
	}
	return "{" + strings.Join(list, ", ") + "}"
}

// text is the string at the beginning of data, or "..." for what is none.
func text(data []byte) string {
	end := bytes.IndexByte(data, 0)
	if end < 0 {
		return "..."
	}
	for _, b := range data[:end] {
		if b < ' ' && b != '\n' || b > '~' {
			return "..."
		}
	}
	if end > 200 {
		return fmt.Sprintf("%q...", data[:200])
	}
	return fmt.Sprintf("%q", data[:end])
}
