package specflag

import (
	"github.com/spf13/pflag"

	"github.com/berth-dev/berth/containerizer"
)

// ProcessFlags are the flags of `berth exec` that describe the process.
type ProcessFlags struct {
	process    processFlags
	privileged bool
}

// Register adds the flags to set.
func (f *ProcessFlags) Register(set *pflag.FlagSet) {
	p := &f.process
	set.BoolVarP(&p.terminal, "tty", "t", false, "give the process a pseudo-terminal")
	set.BoolVarP(&p.stdin, "interactive", "i", false, "keep standard input open")
	list(set, &p.env, "env", "e", "set an environment variable (`KEY=VALUE`, or KEY to pass it on)")
	list(set, &p.envFiles, "env-file", "", "read environment variables from a `file`")
	set.StringVarP(&p.workdir, "workdir", "w", "", "working `directory` in the container")
	set.StringVarP(&p.user, "user", "u", "", "`user` as name or id, with an optional group (USER[:GROUP])")
	set.BoolVar(&f.privileged, "privileged", false, "give the process all capabilities")
}

// Process describes a process that runs command.
func (f *ProcessFlags) Process(host Host, command []string) (*containerizer.Process, error) {
	env, err := f.process.environment(host)
	if err != nil {
		return nil, err
	}
	p := &f.process
	if p.workdir != "" && p.workdir[0] != '/' {
		return nil, invalidf("--workdir %q is not an absolute path", p.workdir)
	}
	return &containerizer.Process{
		Entrypoint: command,
		Env:        env,
		WorkingDir: p.workdir,
		User:       p.user,
		Terminal:   p.terminal,
		Stdin:      p.stdin,
		Privileged: f.privileged,
	}, nil
}
