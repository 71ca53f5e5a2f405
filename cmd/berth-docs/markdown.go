package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// markdown is the whole manual on one page.
func markdown(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# berth: the command line\n\nWritten by `berth-docs markdown`; change the commands, not this file.\n\n")
	fmt.Fprintf(&b, "%s\n\n", about(root))
	b.WriteString("Exit codes:\n\n| code | meaning |\n| --- | --- |\n")
	for _, s := range exitCodes() {
		fmt.Fprintf(&b, "| %s | %s |\n", s[0], s[1])
	}
	b.WriteString("\nFlags of every command:\n\n")
	table(&b, root)
	for _, c := range tree(root)[1:] {
		if c.Parent().Name() == "completion" || c.Parent().Name() == "container" || c.Parent().Name() == "image" {
			continue // the same commands under other names, and those for shells
		}
		section(&b, c)
	}
	return b.String()
}

func section(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n```\n%s\n```\n", c.CommandPath(), body(about(c)), synopsis(c))
	if c.Name() == "container" || c.Name() == "image" {
		var names []string
		for _, child := range c.Commands() {
			names = append(names, "`"+child.Name()+"`")
		}
		fmt.Fprintf(b, "\nThe commands for these, under one name: %s.\n", strings.Join(names, ", "))
	}
	if c.HasExample() {
		fmt.Fprintf(b, "\n```\n%s\n```\n", c.Example)
	}
	if len(flags(c)) > 0 {
		b.WriteString("\n")
		table(b, c)
	}
}

// body turns indented lines into code.
func body(text string) string {
	parts := strings.Split(text, "\n\n")
	for i, p := range parts {
		if strings.HasPrefix(p, "  ") {
			parts[i] = "```\n" + p + "\n```"
		}
	}
	return strings.Join(parts, "\n\n")
}

func table(b *strings.Builder, c *cobra.Command) {
	b.WriteString("| flag | meaning |\n| --- | --- |\n")
	for _, f := range flags(c) {
		name := f.names
		if f.value != "" {
			name += " " + f.value
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", strings.ReplaceAll(name, "|", `\|`), strings.ReplaceAll(f.text, "|", `\|`))
	}
}
