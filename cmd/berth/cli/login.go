package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-dev/berth/cmd/berth/internal/terminal"
	"github.com/berth-dev/berth/containerizer"
)

// defaultRegistry is what login is about without an argument, as with Docker.
const defaultRegistry = "docker.io"

// maxPassword bounds what is read from standard input.
const maxPassword = 64 << 10

type loginFlags struct {
	user, password string
	stdin          bool
	registryFlags
}

func newLogin(a *App) *cobra.Command {
	f := &loginFlags{}
	cmd := &cobra.Command{
		Use:   "login [flags] [REGISTRY]",
		Short: "Log in to a registry",
		Long: `Check a user name and a password with a registry, docker.io if none is named, and
keep them in Docker's configuration file, or with the credential helper that the
file names.`,
		Args: atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error { return a.login(cmd.Context(), registryOf(args), f) },
	}
	cmd.Flags().StringVarP(&f.user, "username", "u", "", "the user's `name`")
	cmd.Flags().StringVarP(&f.password, "password", "p", "", "the `password`; others can see it in the list of processes")
	cmd.Flags().BoolVar(&f.stdin, "password-stdin", false, "read the password from standard input")
	f.register(cmd.Flags())
	return cmd
}

func newLogout(a *App) *cobra.Command {
	f := &registryFlags{}
	cmd := &cobra.Command{
		Use:   "logout [flags] [REGISTRY]",
		Short: "Forget the credentials for a registry",
		Args:  atMostOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			a.here = true // credentials are the user's
			n, err := a.nodeWith(f)
			if err != nil {
				return err
			}
			registry := registryOf(args)
			found, err := n.Logout(cmd.Context(), registry)
			if err != nil {
				return err
			}
			if !found { // as it should be afterwards
				_, err = fmt.Fprintf(a.Err, "Not logged in to %s\n", registry)
				return err
			}
			_, err = fmt.Fprintf(a.Out, "Removed login credentials for %s\n", registry)
			return err
		},
	}
	f.registerAuthFile(cmd.Flags())
	return cmd
}

func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return invalidf("%s takes one registry", cmd.CommandPath())
	}
	return nil
}

func registryOf(args []string) string {
	if len(args) == 0 {
		return defaultRegistry
	}
	return args[0]
}

func (a *App) login(ctx context.Context, registry string, f *loginFlags) error {
	a.here = true // credentials are the user's
	n, err := a.nodeWith(&f.registryFlags)
	if err != nil {
		return err
	}
	auth := containerizer.RegistryAuth{Username: f.user, Password: f.password}
	switch {
	case f.stdin && (f.password != "" || f.user == ""):
		return invalidf("--password-stdin goes with --username and without --password")
	case f.stdin:
		if auth.Password, err = readPassword(a.In); err != nil {
			return err
		}
	case f.user != "" && f.password != "":
	case !terminal.Is(a.In):
		return invalidf("login needs --username and --password-stdin where there is no terminal to ask at")
	}
	if auth.Username == "" {
		if auth.Username, err = terminal.Ask(ctx, a.In, a.Err, "Username"); err != nil {
			return err
		}
	}
	if auth.Password == "" {
		if auth.Password, err = terminal.Secret(ctx, a.In, a.Err, "Password"); err != nil {
			return err
		}
	}
	if auth.Username == "" || auth.Password == "" || strings.Contains(auth.Username, ":") {
		return invalidf("login needs a user name, without a colon, and a password")
	}
	where, err := n.Login(ctx, registry, auth)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Out, "Login Succeeded (kept in %s)\n", where)
	return err
}

// readPassword takes all of r but the end of the last line.
func readPassword(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxPassword+1))
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(b) == 0 || len(b) > maxPassword {
		return "", invalidf("standard input holds no password, or more than %d bytes", maxPassword)
	}
	return string(b), nil
}

// credentials reads user[:password], and asks for what is missing.
func (a *App) credentials(ctx context.Context, s string) (*containerizer.RegistryAuth, error) {
	user, password, ok := strings.Cut(s, ":")
	if user == "" {
		return nil, invalidf("--creds needs a user name: user[:password]")
	}
	if !ok {
		if !terminal.Is(a.In) {
			return nil, invalidf("--creds has no password, and there is no terminal to ask at")
		}
		var err error
		if password, err = terminal.Secret(ctx, a.In, a.Err, "Password"); err != nil {
			return nil, err
		}
	}
	return &containerizer.RegistryAuth{Username: user, Password: password}, nil
}
