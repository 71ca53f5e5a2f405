package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// maxFile bounds a file of hooks.
const maxFile = 1 << 20

// file is one of oci-hooks(5), version 1.0.0.
type file struct {
	Version string     `json:"version"`
	Hook    specs.Hook `json:"hook"`
	When    when       `json:"when"`
	Stages  []string   `json:"stages"`
}

// when are the conditions of a file: all that are given must hold.
type when struct {
	Always        *bool             `json:"always,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
	Commands      []string          `json:"commands,omitempty"`
	HasBindMounts *bool             `json:"hasBindMounts,omitempty"`

	annotations []annotation
	commands    []*regexp.Regexp
}

// annotation matches a key and a value.
type annotation struct{ key, value *regexp.Regexp }

// container is what conditions are about.
type container struct {
	annotations map[string]string
	command     string
	bindMounts  bool
}

// files are the paths of the node's hooks, by name.
func (i *Isolator) files() ([]string, error) {
	var byName map[string]string
	for _, dir := range i.dirs {
		found, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("hooks of the node: %w", err)
		}
		for _, f := range found {
			if filepath.Ext(f.Name()) != ".json" {
				continue
			}
			if byName == nil {
				byName = map[string]string{}
			}
			byName[f.Name()] = filepath.Join(dir, f.Name())
		}
	}
	paths := make([]string, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		paths = append(paths, byName[name])
	}
	return paths, nil
}

// readFile reads and checks one file.
func readFile(path string) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("hooks of the node: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("hooks of the node: %w", err)
	}
	parsed, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("hooks of the node: %q: %w: %w", path, err, containerizer.ErrInvalid)
	}
	return parsed, nil
}

// parse understands one file.
func parse(text []byte) (*file, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxFile)
	}
	var f file
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields() // a condition that is not understood must not be passed over
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	if f.Version != "1.0.0" {
		return nil, fmt.Errorf("version %q: only 1.0.0 is understood", f.Version)
	}
	if err := check(f.Hook); err != nil {
		return nil, err
	}
	if len(f.Stages) == 0 {
		return nil, errors.New("no stages")
	}
	for _, s := range f.Stages {
		if !slices.ContainsFunc(lists(&specs.Hooks{}), func(l stageList) bool { return l.stage == s }) {
			return nil, fmt.Errorf("there is no stage %q", s)
		}
	}
	return &f, f.When.compile()
}

// compile makes the expressions of the conditions.
func (w *when) compile() error {
	if w.Always == nil && w.HasBindMounts == nil && len(w.Annotations)+len(w.Commands) == 0 {
		return errors.New(`no condition in "when"`)
	}
	for key, value := range w.Annotations {
		k, err := regexp.Compile(key)
		if err != nil {
			return err
		}
		v, err := regexp.Compile(value)
		if err != nil {
			return err
		}
		w.annotations = append(w.annotations, annotation{k, v})
	}
	for _, command := range w.Commands {
		c, err := regexp.Compile(command)
		if err != nil {
			return err
		}
		w.commands = append(w.commands, c)
	}
	return nil
}

// matches says whether all conditions hold. A condition of false holds for no container
// (oci-hooks(5)).
func (w *when) matches(c container) bool {
	switch {
	case w.Always != nil && !*w.Always,
		w.HasBindMounts != nil && (!*w.HasBindMounts || !c.bindMounts),
		len(w.commands) > 0 && !slices.ContainsFunc(w.commands, func(r *regexp.Regexp) bool { return r.MatchString(c.command) }):
		return false
	}
	for _, a := range w.annotations {
		if !a.matches(c.annotations) {
			return false
		}
	}
	return true
}

// matches says whether any annotation is meant.
func (a annotation) matches(annotations map[string]string) bool {
	for key, value := range annotations {
		if a.key.MatchString(key) && a.value.MatchString(value) {
			return true
		}
	}
	return false
}
