package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flag is a flag as manuals show it.
type flag struct {
	names string // "-m, --memory"
	value string // "bytes", "" for a switch
	text  string
}

// flags lists the flags of a command that are shown; those of every command are
// the root's.
func flags(c *cobra.Command) []flag {
	var out []flag
	add := func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		if f.Value.Type() == "bool" {
			value = ""
		}
		names := "--" + f.Name
		if f.Shorthand != "" {
			names = "-" + f.Shorthand + ", " + names
		}
		out = append(out, flag{names, value, text})
	}
	c.LocalNonPersistentFlags().VisitAll(add)
	if !c.HasParent() {
		c.PersistentFlags().VisitAll(add)
	}
	return out
}

// synopsis is the command's line.
func synopsis(c *cobra.Command) string {
	if c.HasAvailableSubCommands() {
		return c.CommandPath() + " [flags] COMMAND"
	}
	return c.Parent().CommandPath() + " " + c.Use
}

// about is the long description, or the short one as a sentence.
func about(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}
