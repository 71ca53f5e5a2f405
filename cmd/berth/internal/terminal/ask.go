package terminal

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Ask asks for a line, and Secret for one that is not shown while it is typed.
// Both end with ctx, and leave the terminal as it was.
func Ask(ctx context.Context, in *os.File, out io.Writer, question string) (string, error) {
	return ask(ctx, in, out, question, func() (string, error) {
		line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
		return strings.TrimSpace(line), err
	})
}

// Secret is Ask without an echo.
func Secret(ctx context.Context, in *os.File, out io.Writer, question string) (string, error) {
	return ask(ctx, in, out, question, func() (string, error) {
		secret, err := term.ReadPassword(int(in.Fd()))
		_, _ = fmt.Fprintln(out) // the line end was not shown, either
		return string(secret), err
	})
}

func ask(ctx context.Context, in *os.File, out io.Writer, question string, read func() (string, error)) (string, error) {
	state, err := term.GetState(int(in.Fd()))
	if err != nil {
		return "", fmt.Errorf("ask for %q: %w", question, err)
	}
	if _, err := fmt.Fprintf(out, "%s: ", question); err != nil {
		return "", err
	}
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // ends with the process, if nobody types anything
		text, err := read()
		answers <- answer{text, err}
	}()
	select {
	case a := <-answers:
		return a.text, a.err
	case <-ctx.Done():
		_ = term.Restore(int(in.Fd()), state) // the reader is not going to
		return "", context.Cause(ctx)
	}
}
