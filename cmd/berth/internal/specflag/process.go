package specflag

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// processFlags describe the process.
type processFlags struct {
	terminal    bool
	stdin       bool
	init        bool
	env         []string
	envFiles    []string
	workdir     string
	user        string
	groups      []string
	entrypoint  string
	umask       string
	ulimits     []string
	oomScoreAdj int
}

func (f *processFlags) register(set *pflag.FlagSet) {
	set.BoolVarP(&f.terminal, "tty", "t", false, "give the process a pseudo-terminal")
	set.BoolVarP(&f.stdin, "interactive", "i", false, "keep standard input open")
	set.BoolVar(&f.init, "init", false, "run an init as process 1 that forwards signals and reaps")
	list(set, &f.env, "env", "e", "set an environment variable (`KEY=VALUE`, or KEY to pass it on)")
	list(set, &f.envFiles, "env-file", "", "read environment variables from a `file`")
	set.StringVarP(&f.workdir, "workdir", "w", "", "working `directory` in the container")
	set.StringVarP(&f.user, "user", "u", "", "`user` as name or id, with an optional group (USER[:GROUP])")
	list(set, &f.groups, "group-add", "", "add a supplementary `group`, by name or id")
	set.StringVar(&f.entrypoint, "entrypoint", "", "replace the image's entrypoint (a `program`, or a JSON list)")
	set.StringVar(&f.umask, "umask", "", "file mode creation mask of the process, in `octal`")
	list(set, &f.ulimits, "ulimit", "", "resource limit of the process (`NAME=SOFT[:HARD]`)")
	set.IntVar(&f.oomScoreAdj, "oom-score-adj", 0, "adjustment of the OOM killer's `score` (-1000 to 1000)")
}

func (f *processFlags) apply(host Host, spec *containerizer.Spec, command []string, set *pflag.FlagSet) error {
	p := &spec.Process
	p.Terminal, p.Stdin, p.Init = f.terminal, f.stdin, f.init
	p.User, p.AdditionalGroups = f.user, f.groups
	if f.workdir != "" && f.workdir[0] != '/' {
		return invalidf("--workdir %q is not an absolute path", f.workdir)
	}
	p.WorkingDir = f.workdir
	if len(command) > 0 {
		p.Args = command
	}
	if set.Changed("entrypoint") {
		if err := f.replaceEntrypoint(p, command); err != nil {
			return err
		}
	}
	if set.Changed("oom-score-adj") {
		if f.oomScoreAdj < -1000 || f.oomScoreAdj > 1000 {
			return invalidf("--oom-score-adj %d is not within -1000 and 1000", f.oomScoreAdj)
		}
		p.OOMScoreAdj = &f.oomScoreAdj
	}
	if f.umask != "" {
		mask, err := strconv.ParseUint(f.umask, 8, 32)
		if err != nil || mask > 0o777 {
			return invalidf("--umask %q is not an octal number up to 0777", f.umask)
		}
		m := uint32(mask)
		p.Umask = &m
	}
	var err error
	if p.Rlimits, err = Ulimits(f.ulimits); err != nil {
		return err
	}
	p.Env, err = f.environment(host)
	return err
}

// environment joins the files' variables and the flags', flags last.
func (f *processFlags) environment(host Host) ([]string, error) {
	var entries []string
	if f.terminal {
		entries = append(entries, "TERM=xterm")
	}
	for _, file := range f.envFiles {
		lines, err := readLines(host, "--env-file", file)
		if err != nil {
			return nil, err
		}
		entries = append(entries, lines...)
	}
	return Environment(append(entries, f.env...), host.LookupEnv)
}

// replaceEntrypoint follows Docker: a program or (Podman) a JSON list; an empty
// one runs the command alone.
func (f *processFlags) replaceEntrypoint(p *containerizer.Process, command []string) error {
	switch {
	case f.entrypoint == "":
		if len(command) == 0 {
			return invalidf("--entrypoint \"\" takes the image's entrypoint away: name a command to run")
		}
		p.Entrypoint, p.Args = command, nil
	case strings.HasPrefix(f.entrypoint, "["):
		var words []string
		if err := json.Unmarshal([]byte(f.entrypoint), &words); err != nil {
			return invalidf("--entrypoint %q is not a JSON list of strings (%v)", f.entrypoint, err)
		}
		if len(words) == 0 || words[0] == "" {
			return invalidf("--entrypoint %q names no program", f.entrypoint)
		}
		p.Entrypoint = words
	default:
		p.Entrypoint = []string{f.entrypoint}
	}
	return nil
}

// Ulimits parses Docker's "NAME=SOFT[:HARD]"; -1 is unlimited.
func Ulimits(values []string) ([]specs.POSIXRlimit, error) {
	var out []specs.POSIXRlimit
	index := map[string]int{}
	for _, v := range values {
		u, err := units.ParseUlimit(v)
		if err != nil {
			return nil, invalidf("--ulimit %q: %v", v, err)
		}
		limit := specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(u.Name),
			Soft: uint64(u.Soft), //nolint:gosec // -1 is RLIM_INFINITY
			Hard: uint64(u.Hard), //nolint:gosec // -1 is RLIM_INFINITY
		}
		if i, again := index[limit.Type]; again { // the last one wins
			out[i] = limit
			continue
		}
		index[limit.Type] = len(out)
		out = append(out, limit)
	}
	return out, nil
}
