package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// page is the man page of a command, in the macros of man(7).
func page(c *cobra.Command) string {
	var b strings.Builder
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %q 1 \"\" \"berth\" \"berth manual\"\n", strings.ToUpper(name))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(name), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(synopsis(c)))
	b.WriteString(".SH DESCRIPTION\n")
	paragraphs(&b, about(c))
	if list := flags(c); len(list) > 0 {
		b.WriteString(".SH OPTIONS\n")
		for _, f := range list {
			fmt.Fprintf(&b, ".TP\n\\fB%s\\fR", roff(f.names))
			if f.value != "" {
				fmt.Fprintf(&b, " \\fI%s\\fR", roff(f.value))
			}
			fmt.Fprintf(&b, "\n%s\n", roff(f.text))
		}
	}
	if c.HasExample() {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.EX\n%s\n.EE\n", roff(c.Example))
	}
	if !c.HasParent() {
		exitStatus(&b)
	}
	seeAlso(&b, c)
	return b.String()
}

// paragraphs writes text; indented lines stay as they are.
func paragraphs(b *strings.Builder, text string) {
	for i, p := range strings.Split(text, "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if strings.HasPrefix(p, "  ") {
			fmt.Fprintf(b, ".EX\n%s\n.EE\n", roff(p))
			continue
		}
		fmt.Fprintf(b, "%s\n", roff(p))
	}
}

func exitStatus(b *strings.Builder) {
	b.WriteString(".SH EXIT STATUS\n")
	for _, s := range exitCodes() {
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", s[0], roff(s[1]))
	}
}

// exitCodes are the codes of the command and what they mean.
func exitCodes() [][2]string {
	return [][2]string{
		{"125", "berth itself failed; standard error says why."},
		{"126", "The command in the container could not be executed."},
		{"127", "The command was not found in the container."},
		{"128+n", "The container was ended by signal n."},
		{"other", "What the command in the container exited with."},
	}
}

func seeAlso(b *strings.Builder, c *cobra.Command) {
	var names []string
	if c.HasParent() {
		names = append(names, c.Parent().CommandPath())
	}
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() {
			names = append(names, child.CommandPath())
		}
	}
	if len(names) == 0 {
		return
	}
	b.WriteString(".SH SEE ALSO\n")
	for i, n := range names {
		end := ","
		if i == len(names)-1 {
			end = ""
		}
		fmt.Fprintf(b, ".BR %s (1)%s\n", roff(strings.ReplaceAll(n, " ", "-")), end)
	}
}

// roff protects what roff would take for its own.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "`", `\(ga`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
