// Command berth-docs writes the manual of the command line: man pages, or one
// page of Markdown. It is a program of its own so that berth need not carry it.
//
//	berth-docs man DIR
//	berth-docs markdown FILE
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/cli"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "berth-docs:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: berth-docs man DIR | berth-docs markdown FILE")
	}
	root := (&cli.App{}).Root()
	switch args[0] {
	case "man":
		return writePages(root, args[1])
	case "markdown":
		return os.WriteFile(args[1], []byte(markdown(root)), 0o644)
	}
	return fmt.Errorf("no form %q (man and markdown exist)", args[0])
}

// writePages writes a man page for each command.
func writePages(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, c := range tree(root) {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(page(c)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// tree lists a command and all below it that are shown.
func tree(c *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{c}
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() {
			list = append(list, tree(child)...)
		}
	}
	return list
}
