package interp

import (
	"sync"
	"syscall"
)

// The kernel gives all processes that share memory one OOM score adjustment
// (fs/proc/base.c, __set_oom_adj), so a child cannot have one of its own before
// execve. The parent takes the child's before the clone and returns to its own when
// the child has memory of its own. Where that of two children overlaps, the later
// return writes the earlier child's again.

// ownScore is the adjustment that this process had before it first lent it.
//
//nolint:gochecknoglobals // what the kernel says, read once
var ownScore = sync.OnceValues(func() (int, error) {
	fd, err := syscall.Open("/proc/self/oom_score_adj", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = syscall.Close(fd) }()
	var text [16]byte
	n, err := syscall.Read(fd, text[:])
	return atoi(text[:max(n, 0)]), err
})

// borrowScore gives this process, and so the child that it clones, the score.
func (c *Child) borrowScore(score int) error {
	own, err := ownScore()
	if err != nil || own == score {
		return err
	}
	c.borrowed = true
	return writeScore("self", score)
}

// returnScore takes back the own score, and makes sure of the child's.
func (c *Child) returnScore() {
	if !c.borrowed {
		return
	}
	c.borrowed = false
	own, _ := ownScore() // it was read before
	_ = writeScore("self", own)
	if c.PID > 0 {
		_ = writeScore(itoa(c.PID), int(c.image.header.OOMScoreAdj)) // it may have ended
	}
}

func writeScore(process string, score int) error {
	fd, err := syscall.Open("/proc/"+process+"/oom_score_adj", syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(fd) }()
	_, err = syscall.Write(fd, []byte(itoa(score)))
	return err
}

func itoa(n int) string {
	var b [20]byte
	i, negative := len(b), n < 0
	if negative {
		n = -n
	}
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			break
		}
	}
	if negative {
		i--
		b[i] = '-'
	}
	return string(b[i:])
}

// atoi reads a decimal number up to the first other byte.
func atoi(p []byte) int {
	n, negative := 0, len(p) > 0 && p[0] == '-'
	if negative {
		p = p[1:]
	}
	for _, d := range p {
		if d < '0' || d > '9' {
			break
		}
		n = n*10 + int(d-'0')
	}
	if negative {
		return -n
	}
	return n
}
