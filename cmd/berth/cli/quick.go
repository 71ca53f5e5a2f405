package cli

import (
	"errors"
	"io"

	"github.com/spf13/pflag"
)

// ErrElsewhere is what a node answers that lacks the means: the command begins anew
// in a program that has them. Whatever was made for it has to be undone before.
var ErrElsewhere = errors.New("berth-images has to do this")

// ErrDaemon is what Open answers where a daemon listens: the command begins anew in the
// program that speaks to it.
var ErrDaemon = errors.New("berth-client has to do this")

// Programs that do what another one cannot.
const (
	ProgramImages = "berth-images"
	ProgramClient = "berth-client"
	ProgramMesos  = "berth-mesos"
)

// elsewhere is the program that has to do a command that ended with err; "" is none.
func elsewhere(err error) string {
	switch {
	case errors.Is(err, ErrElsewhere):
		return ProgramImages
	case errors.Is(err, ErrDaemon):
		return ProgramClient
	case errors.Is(err, errMesos):
		return ProgramMesos
	}
	return ""
}

// Quick says whether args name a command that needs no means to fetch images, or
// only when an image is missing: the life of containers, what monitors start, the list of
// images, and what a program of its own does.
func Quick(args []string) bool {
	words := commandWords(args)
	if len(words) == 0 {
		return false
	}
	if words[0] == "system" {
		return len(words) > 1 && words[1] == "reap"
	}
	for _, c := range commands() {
		if c.is(words[0]) {
			return c.group == groupContainers || words[0] == "version" || words[0] == "images" || words[0] == "mesos"
		}
	}
	return false
}

// commandWords returns args from the first word on that is not a global flag or its
// value.
func commandWords(args []string) []string {
	set := pflag.NewFlagSet("berth", pflag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.SetInterspersed(false)
	(&globals{}).register(set)
	set.BoolP("version", "v", false, "")
	set.BoolP("help", "h", false, "")
	if err := set.Parse(args); err != nil {
		return nil
	}
	return set.Args()
}
