package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	show(out)
	if err := out.Flush(); err != nil {
		os.Exit(1)
	}
}

// show writes one line a fact, "name  value"; continuation lines have no name.
func show(w io.Writer) {
	for _, section := range []struct {
		title string
		facts []fact
	}{
		{"Who I am", identity()},
		{"What I may do", confinement()},
		{"What I may use", limits()},
		{"What I see", surroundings()},
	} {
		_, _ = fmt.Fprintf(w, "\n%s\n", section.title) // the writer remembers its error until Flush
		for _, f := range section.facts {
			name := f.name
			for _, value := range f.values {
				_, _ = fmt.Fprintf(w, "  %-18s %s\n", name, value) // as above
				name = ""
			}
		}
	}
}

// fact is something learned, with at least one value.
type fact struct {
	name   string
	values []string
}

func one(name, format string, args ...any) fact {
	return fact{name: name, values: []string{fmt.Sprintf(format, args...)}}
}
