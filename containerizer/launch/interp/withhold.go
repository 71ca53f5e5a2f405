//go:build !race

package interp

import (
	"sync"
	"syscall"
)

// withhold keeps the writable memory of this process out of the copies that children
// get (madvise(2), MADV_DONTFORK), once. A child needs the program, its stack and the
// text, none of which is touched here: the stack is mapped later. So the copy costs
// neither the tables of the heap nor, afterwards, a fault for each page of it, and has nothing
// in it that is the parent's. What the runtime maps later is copied as ever.
//
//nolint:gochecknoglobals // it is about the process
var withhold = sync.OnceFunc(func() {
	fd, err := syscall.Open("/proc/self/maps", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return // the copy is whole then
	}
	defer func() { _ = syscall.Close(fd) }() // only read
	buf, err := mmap(-1, 64<<10, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return
	}
	defer munmap(buf)
	n := 0
	for n < len(buf) {
		r, err := syscall.Read(fd, buf[n:])
		if err != nil || r == 0 {
			break
		}
		n += r
	}
	eachWritable(buf[:n], func(start, end uintptr) {
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, start, end-start, syscall.MADV_DONTFORK) // or it is copied
	})
})

// eachWritable calls f with the private, writable mappings in the text of
// proc_pid_maps(5).
func eachWritable(maps []byte, f func(start, end uintptr)) {
	for len(maps) > 0 {
		line := maps
		maps = nil
		for i, c := range line {
			if c == '\n' {
				line, maps = line[:i], line[i+1:]
				break
			}
		}
		start, rest := hex(line)
		if len(rest) == 0 || rest[0] != '-' {
			continue
		}
		end, rest := hex(rest[1:])
		if len(rest) >= 5 && rest[0] == ' ' && rest[2] == 'w' && rest[4] == 'p' && 0 < start && start < end {
			f(start, end)
		}
	}
}

// hex reads a number in base 16.
func hex(text []byte) (n uintptr, rest []byte) {
	for i, c := range text {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | uintptr(c-'0')
		case 'a' <= c && c <= 'f':
			n = n<<4 | uintptr(c-'a'+10)
		default:
			return n, text[i:]
		}
	}
	return n, nil
}
