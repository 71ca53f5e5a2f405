package engine

import (
	"fmt"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-dev/berth/containerizer"
)

// defaultPath is the search path of a container whose image has none, as Docker's.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const defaultStopSignal = "SIGTERM"

// effectiveProcess merges what the user asked for with the image's configuration.
// The command line of the result is Entrypoint followed by Args:
//
//	user's Entrypoint  user's Args   command line
//	nil                nil           image's ENTRYPOINT + image's CMD
//	nil                set           image's ENTRYPOINT + Args
//	set                nil           Entrypoint
//	set                set           Entrypoint + Args
//
// Merging the result again changes nothing.
func effectiveProcess(p containerizer.Process, img *v1.ImageConfig) (containerizer.Process, error) {
	if img == nil {
		img = &v1.ImageConfig{}
	}
	switch {
	case p.Entrypoint != nil:
		p.Entrypoint = slices.Clone(p.Entrypoint)
	default:
		p.Entrypoint = slices.Clone(img.Entrypoint)
		if p.Args == nil {
			p.Args = img.Cmd
		}
	}
	p.Args = slices.Clone(p.Args)
	if len(p.Entrypoint)+len(p.Args) == 0 {
		return p, fmt.Errorf("no command: neither the spec nor the image has one: %w", containerizer.ErrInvalid)
	}
	if first := slices.Concat(p.Entrypoint, p.Args)[0]; first == "" {
		return p, fmt.Errorf("the command is an empty string: %w", containerizer.ErrInvalid)
	}
	p.Env = mergeEnv(img.Env, p.Env)
	if _, has := lookupEnv(p.Env, "PATH"); !has {
		p.Env = slices.Insert(p.Env, 0, defaultPath)
	}
	if _, has := lookupEnv(p.Env, "TERM"); !has && p.Terminal {
		p.Env = append(p.Env, "TERM=xterm")
	}
	if p.WorkingDir == "" {
		p.WorkingDir = img.WorkingDir
	}
	if p.WorkingDir == "" {
		p.WorkingDir = "/"
	}
	if !strings.HasPrefix(p.WorkingDir, "/") {
		return p, fmt.Errorf("working directory %q of the image is not absolute: %w", p.WorkingDir, containerizer.ErrInvalid)
	}
	if p.User == "" {
		p.User = img.User
	}
	return p, nil
}

// execProcess completes the process of an exec session from the container's.
func execProcess(p, container containerizer.Process) (containerizer.Process, error) {
	if len(p.Entrypoint)+len(p.Args) == 0 {
		return p, fmt.Errorf("no command to execute: %w", containerizer.ErrInvalid)
	}
	user := p.User
	p, err := effectiveProcess(p, &v1.ImageConfig{
		Env: container.Env, WorkingDir: container.WorkingDir, User: container.User,
	})
	if user == "" && p.AdditionalGroups == nil {
		p.AdditionalGroups, p.GroupsPolicy = container.AdditionalGroups, container.GroupsPolicy
	}
	if p.Umask == nil {
		p.Umask = container.Umask
	}
	if p.OOMScoreAdj == nil {
		p.OOMScoreAdj = container.OOMScoreAdj
	}
	return p, err
}

// mergeEnv lays over onto base: a variable keeps the place of its first mention
// and takes its last value. What has no '=' is dropped: images carry such.
func mergeEnv(base, over []string) []string {
	out := make([]string, 0, len(base)+len(over)+1)
	at := make(map[string]int, len(base)+len(over))
	for _, kv := range slices.Concat(base, over) {
		key, _, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			continue
		}
		if i, seen := at[key]; seen {
			out[i] = kv
			continue
		}
		at[key] = len(out)
		out = append(out, kv)
	}
	return out
}

func lookupEnv(env []string, key string) (string, bool) {
	for _, kv := range slices.Backward(env) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			return v, true
		}
	}
	return "", false
}

// effectiveSpec is l's spec as isolators and launcher are to see it.
func (e *Engine) effectiveSpec(l *loaded, img *v1.ImageConfig) (*containerizer.Spec, error) {
	s := *l.spec
	if s.Class != containerizer.ClassPodSandbox || s.Process.Init {
		if s.Class == containerizer.ClassPodSandbox && len(s.Process.Entrypoint)+len(s.Process.Args) == 0 {
			return e.withLog(l, &s), nil // the mini-init is all there is
		}
		p, err := effectiveProcess(s.Process, img)
		if err != nil {
			return nil, err
		}
		s.Process = p
	}
	if s.StopSignal == "" && img != nil {
		s.StopSignal = img.StopSignal
	}
	if s.StopSignal == "" {
		s.StopSignal = defaultStopSignal
	}
	if _, err := parseSignal(s.StopSignal); err != nil {
		return nil, fmt.Errorf("stop signal of the image: %w", err)
	}
	return e.withLog(l, &s), nil
}
