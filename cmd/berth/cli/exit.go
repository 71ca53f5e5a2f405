package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// Exit codes, Docker's: those of the container's process pass through.
const (
	ExitError         = 125 // berth itself
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // plus the signal's number
)

// exitStatus ends the command with a code and without a message.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// exitCode maps an error to the code the command exits with.
func exitCode(err error) int {
	var status exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.Is(err, containerizer.ErrCommandNotFound):
		return exitNotFound
	case errors.Is(err, containerizer.ErrCommandNotExecutable):
		return exitNotExecutable
	case errors.Is(err, context.Canceled): // by a signal
		return exitSignal + 2
	}
	return ExitError
}

// message is the sentence for an error: one line for each of several, without
// the class's name where it adds nothing, ids as short as lists show them.
func message(err error) string {
	text := shortenIDs(strings.TrimSpace(err.Error()))
	text = strings.TrimSuffix(text, ": "+containerizer.ErrInvalid.Error())
	return strings.ReplaceAll(text, "\n", "\nberth: ")
}

// shortenIDs shortens the ids that stand in quotes.
func shortenIDs(text string) string {
	parts := strings.Split(text, `"`)
	for i, p := range parts {
		if _, err := hex.DecodeString(p); err == nil && len(p) == 64 {
			parts[i] = containerizer.ContainerID(p).Short()
		}
	}
	return strings.Join(parts, `"`)
}

// terminated is the result of a command whose container or exec ended.
func terminated(t *containerizer.Termination) error {
	if t == nil || t.ExitCode == 0 {
		return nil
	}
	return exitStatus(t.ExitCode)
}

// sentence is an error of a class whose name would add nothing to the text.
type sentence struct {
	text  string
	class error
}

func (s *sentence) Error() string { return s.text }
func (s *sentence) Unwrap() error { return s.class }

func sentencef(class error, format string, args ...any) error {
	return &sentence{text: fmt.Sprintf(format, args...), class: class}
}

func invalidf(format string, args ...any) error {
	return sentencef(containerizer.ErrInvalid, format, args...)
}
