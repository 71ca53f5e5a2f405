package format

import (
	"bufio"
	"io"
	"strings"
	"unicode/utf8"
)

// table aligns cells in columns three blanks apart, as Docker's are.
type table struct {
	lines [][]string
	width []int
}

func (t *table) add(cells []string) {
	t.lines = append(t.lines, cells)
	for i, c := range cells {
		if i == len(t.width) {
			t.width = append(t.width, 0)
		}
		t.width[i] = max(t.width[i], utf8.RuneCountInString(c))
	}
}

func (t *table) write(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, cells := range t.lines {
		for i, c := range cells {
			_, _ = out.WriteString(c) // Flush reports the error
			if i < len(cells)-1 {
				_, _ = out.WriteString(strings.Repeat(" ", t.width[i]-utf8.RuneCountInString(c)+3))
			}
		}
		_ = out.WriteByte('\n')
	}
	return out.Flush()
}
