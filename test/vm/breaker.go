package main

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"
)

// cutLine is what a program prints from when on the power may fail.
const cutLine = "cut the power"

// breaker passes on what is written to it, and ends the machine some time after a line
// says that it may.
type breaker struct {
	w     io.Writer
	after time.Duration // 0 never
	cut   func()

	line []byte // the last one, as far as it came
	set  bool
	done atomic.Bool
}

func (b *breaker) Write(p []byte) (int, error) {
	for _, c := range p {
		if c != '\n' {
			b.line = append(b.line, c)
			continue
		}
		if b.after > 0 && !b.set && bytes.Equal(b.line, []byte(cutLine)) {
			b.set = true
			time.AfterFunc(b.after, func() { // its end is that of the machine, or of this process
				b.done.Store(true)
				b.cut()
			})
		}
		b.line = b.line[:0]
	}
	return b.w.Write(p)
}
