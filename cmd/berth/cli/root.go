package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/cmd/berth/internal/specflag"
	"github.com/berth-dev/berth/containerizer"
)

// Main runs the command line and returns the code to exit with.
func (a *App) Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := a.Run(ctx, args)
	closeErr := a.close()
	if program := elsewhere(err); a.Become != nil && program != "" {
		err = a.Become(program)
	}
	var status exitStatus
	switch {
	case err == nil || errors.As(err, &status):
	case errors.Is(err, syscall.EPIPE): // nobody reads any more
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		_, _ = fmt.Fprintln(a.Err, "berth: interrupted")
	default:
		_, _ = fmt.Fprintf(a.Err, "berth: %s\n", message(err))
	}
	if closeErr != nil {
		// What was asked for is done, or has an error of its own; this is what is left
		// to others.
		_, _ = fmt.Fprintf(a.Err, "berth: %s\n", message(closeErr))
	}
	return exitCode(err)
}

// Run runs the command line.
func (a *App) Run(ctx context.Context, args []string) error {
	name := commandName(args)
	root := a.root()
	for _, c := range commands() {
		if c.is(name) {
			root.AddCommand(c.make(a))
			break
		}
	}
	if !root.HasSubCommands() {
		// Help, completion or a mistake: these look at all of them.
		a.addAll(root)
	}
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// Root builds the whole tree, for documentation.
func (a *App) Root() *cobra.Command {
	root := a.root()
	a.addAll(root)
	root.InitDefaultCompletionCmd()
	return root
}

func (a *App) addAll(root *cobra.Command) {
	root.AddGroup(groups()...)
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	for _, c := range commands() {
		cmd := c.make(a)
		cmd.GroupID = c.group
		root.AddCommand(cmd)
	}
}

// root is the root command alone.
func (a *App) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "berth",
		Short:         "Run containers, without a daemon",
		Long:          "berth runs containers from images, isolated and limited, without a daemon.\nThe flags and their meanings are Docker's.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          unknownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(usage)
	root.Flags().SetInterspersed(false)
	a.globals.register(root.PersistentFlags())
	var version bool
	root.Flags().BoolVarP(&version, "version", "v", false, "show the version")
	root.PreRunE = func(*cobra.Command, []string) error {
		if !version {
			return nil
		}
		_, err := fmt.Fprintf(a.Out, "berth version %s\n", a.Version.Version)
		return errors.Join(err, exitStatus(0))
	}
	return root
}

// commandName finds the first word that is not a global flag or its value.
func commandName(args []string) string {
	if words := commandWords(args); len(words) > 0 {
		return words[0]
	}
	return ""
}

// unknownCommand is reached with arguments when none of the commands is meant.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := "berth --help lists them"
	if cmd.HasParent() {
		hint = cmd.CommandPath() + " --help lists them"
	}
	cmd.SuggestionsMinimumDistance = 2 // edits
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		hint = "did you mean " + strings.Join(s, " or ") + "?"
	}
	return invalidf("no command %q in %s; %s", args[0], cmd.CommandPath(), hint)
}

// flagError explains flags of Docker that berth has not got.
func flagError(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		name := unknown.GetSpecifiedName()
		if why := specflag.Refusal(name); why != "" && unknown.GetSpecifiedShortnames() == "" {
			return sentencef(containerizer.ErrUnsupported, "--%s: %s", name, why)
		}
	}
	return invalidf("%s; see %s --help", strings.ReplaceAll(err.Error(), "\n", " "), cmd.CommandPath())
}
