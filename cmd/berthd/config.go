package main

import (
	_ "embed"
	"fmt"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
)

// defaults is a configuration with every key, each at what it is by default.
//
//go:embed default.toml
var defaults string

func newConfig(f *flags) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show and check the configuration", Args: cobra.NoArgs}
	cmd.AddCommand(
		&cobra.Command{
			Use: "default", Short: "Print a configuration with every key, explained", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				_, err := fmt.Fprint(cmd.OutOrStdout(), defaults)
				return err
			},
		},
		&cobra.Command{
			Use: "check", Short: "Say whether the configuration can be used", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, path, err := f.load()
				if err != nil {
					return err
				}
				if len(c.Files) == 0 {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s does not exist; everything is at its default\n", path)
					return err
				}
				for _, file := range c.Files {
					if _, err = fmt.Fprintln(cmd.OutOrStdout(), file+": good"); err != nil {
						return err
					}
				}
				return nil
			},
		},
		&cobra.Command{
			Use: "dump", Short: "Print the configuration as it is in force", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, _, err := f.load()
				if err != nil {
					return err
				}
				return toml.NewEncoder(cmd.OutOrStdout()).Encode(c)
			},
		},
	)
	return cmd
}
