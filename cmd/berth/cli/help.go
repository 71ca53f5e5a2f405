package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usage writes the help of a command.
func usage(cmd *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:\n")
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s [flags] COMMAND\n", cmd.CommandPath())
	} else {
		fmt.Fprintf(&b, "  %s\n", useLine(cmd))
	}
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	children(&b, cmd)
	flags(&b, "Flags", cmd.LocalNonPersistentFlags())
	if cmd.HasParent() {
		fmt.Fprintf(&b, "\nFlags of every command, such as --root, are listed by `%s --help`.\n", cmd.Root().Name())
	} else {
		flags(&b, "Flags of every command", cmd.PersistentFlags())
		fmt.Fprintf(&b, "\n`%s COMMAND --help` tells more about a command.\n", cmd.CommandPath())
	}
	_, err := io.WriteString(cmd.OutOrStderr(), b.String())
	return err
}

// useLine is the command's line with the names of its parents.
func useLine(cmd *cobra.Command) string {
	if !cmd.HasParent() {
		return cmd.Use
	}
	return cmd.Parent().CommandPath() + " " + cmd.Use
}

// children lists sub-commands by their groups.
func children(b *strings.Builder, cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	headings := cmd.Groups()
	if len(headings) == 0 {
		headings = []*cobra.Group{{Title: "Commands:"}}
	}
	for _, g := range headings {
		fmt.Fprintf(b, "\n%s\n", g.Title)
		for _, c := range cmd.Commands() {
			if c.GroupID == g.ID && (c.IsAvailableCommand() || c.Name() == "help") {
				fmt.Fprintf(b, "  %-12s %s\n", c.Name(), c.Short)
			}
		}
	}
}

// flags lists flags, their names as wide as the widest that is not extreme.
func flags(b *strings.Builder, title string, set *pflag.FlagSet) {
	var names, texts []string
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		name := "      --" + f.Name
		if f.Shorthand != "" {
			name = "  -" + f.Shorthand + ", --" + f.Name
		}
		value, text := pflag.UnquoteUsage(f)
		if f.Value.Type() != "bool" {
			name += " " + value
		} else if f.DefValue == "true" {
			text += " (default true)"
		}
		names, texts = append(names, name), append(texts, text)
	})
	if len(names) == 0 {
		return
	}
	const widest = 36
	width := 0
	for _, n := range names {
		if len(n) <= widest {
			width = max(width, len(n))
		}
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for i, n := range names {
		if len(n) > width {
			fmt.Fprintf(b, "%s\n%s  %s\n", n, strings.Repeat(" ", width), texts[i])
			continue
		}
		fmt.Fprintf(b, "%-*s  %s\n", width, n, texts[i])
	}
}
