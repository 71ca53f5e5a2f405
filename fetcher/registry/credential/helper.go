package credential

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/berth-dev/berth/containerizer"
)

const (
	// helperTimeout bounds a helper; one that asks somebody something never ends.
	helperTimeout = 30 * time.Second
	// maxAnswer bounds what a helper may print.
	maxAnswer = 1 << 20
	// tokenUser is the user name that says that the secret is an identity token.
	tokenUser = "<token>"
)

// askHelper runs docker-credential-NAME.
func askHelper(ctx context.Context, name, server string) (authn.AuthConfig, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return authn.AuthConfig{}, fmt.Errorf("credential helper %q: %w", name, containerizer.ErrInvalid)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	c, err := client.Get(func(args ...string) client.Program {
		return &program{ctx: ctx, name: "docker-credential-" + name, args: args}
	}, server)
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return authn.AuthConfig{}, nil
	case ctx.Err() != nil:
		return authn.AuthConfig{}, fmt.Errorf("credential helper %q: %w: %w", name, ctx.Err(), containerizer.ErrUnavailable)
	case err != nil:
		return authn.AuthConfig{}, fmt.Errorf("credential helper %q: %w: %w", name, err, containerizer.ErrUnavailable)
	case c.Username == tokenUser:
		return authn.AuthConfig{IdentityToken: c.Secret}, nil
	}
	return authn.AuthConfig{Username: c.Username, Password: c.Secret}, nil
}

// program is a run of a helper.
type program struct {
	ctx  context.Context //nolint:containedctx // the library has no parameter for it
	name string
	args []string
	in   io.Reader
}

// Input is what it will read.
func (p *program) Input(in io.Reader) { p.in = in }

// Output runs it. What it prints on an error is its message; on success it is the
// secret, and never in an error.
func (p *program) Output() ([]byte, error) {
	cmd := exec.CommandContext(p.ctx, p.name, p.args...) //nolint:gosec // as configured by the user
	cmd.Stdin = p.in
	cmd.WaitDelay = time.Second
	out := &bounded{left: maxAnswer}
	cmd.Stdout = out
	err := cmd.Run()
	if out.left < 0 {
		return nil, errors.New("it prints too much")
	}
	return out.Bytes(), err
}

// bounded keeps so much and no more.
type bounded struct {
	bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, io.ErrShortBuffer
	}
	return b.Buffer.Write(p)
}
