package selinux

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// Parts of a label as Spec.Security.SELinux names them.
const (
	partUser    = "user"
	partRole    = "role"
	partType    = "type"
	partLevel   = "level"
	partDisable = "disable"
)

const (
	// privilegedType is the type of processes that the policy does not confine
	// (container-selinux).
	privilegedType = "spc_t"
	// sharedLevel is the level of files that every container may use.
	sharedLevel = "s0"

	// maxPartBytes bounds a part; the kernel's own bound is a page for the whole.
	maxPartBytes = 1024
	// Sensitivities and categories of the targeted and the mls policy.
	maxSensitivity = 15
	categories     = 1024
)

// label is a security context.
type label struct{ user, role, typ, level string }

func (l label) String() string { return l.user + ":" + l.role + ":" + l.typ + ":" + l.level }

func parseLabel(s string) (label, error) {
	p := strings.SplitN(s, ":", 4)
	if len(p) != 4 {
		return label{}, fmt.Errorf("SELinux label %q is not user:role:type:level: %w", s, containerizer.ErrInvalid)
	}
	return label{p[0], p[1], p[2], p[3]}, nil
}

// pair is the labels of a container.
type pair struct{ process, mount label }

// labels merges what c asks for with the policy's contexts for containers.
func (i *Isolator) labels(c *containerizer.Container) (*pair, error) {
	p, err := i.contexts()
	if err != nil {
		return nil, err
	}
	level, err := i.level(c)
	if err != nil {
		return nil, err
	}
	p.process.level, p.mount.level = level, level
	s := &c.Spec.Security
	// Files keep the role and type of the policy: object_r and the file type.
	if u := s.SELinux[partUser]; u != "" {
		p.process.user, p.mount.user = u, u
	}
	if r := s.SELinux[partRole]; r != "" {
		p.process.role = r
	}
	switch t := s.SELinux[partType]; {
	case t != "":
		p.process.typ = t
	case s.Privileged:
		p.process.typ = privilegedType
	}
	return p, nil
}

// level returns the level that c asks for, or its parent's, or a reserved one.
func (i *Isolator) level(c *containerizer.Container) (string, error) {
	if l := c.Spec.Security.SELinux[partLevel]; l != "" {
		return l, nil
	}
	if _, disabled := c.Spec.Security.SELinux[partDisable]; disabled {
		return sharedLevel, nil
	}
	if p := c.Parent; p != nil && p.Launch != nil && p.Launch.SELinuxLabel != "" {
		l, err := parseLabel(p.Launch.SELinuxLabel)
		if err != nil {
			return "", fmt.Errorf("parent %s: %w", p.ID, err)
		}
		return l.level, nil
	}
	return i.levels.reserve(c)
}

// contexts returns the policy's labels for containers.
func (i *Isolator) contexts() (*pair, error) {
	p := &pair{ // container-selinux
		process: label{"system_u", "system_r", "container_t", sharedLevel},
		mount:   label{"system_u", "object_r", "container_file_t", sharedLevel},
	}
	config, err := readSettings(filepath.Join(i.config, "config"))
	if err != nil {
		return nil, err
	}
	policy := config["SELINUXTYPE"]
	if policy == "" || strings.ContainsRune(policy, '/') {
		return p, nil
	}
	contexts, err := readSettings(filepath.Join(i.config, policy, "contexts", "lxc_contexts"))
	if err != nil {
		return nil, err
	}
	for name, l := range map[string]*label{"process": &p.process, "file": &p.mount} {
		if contexts[name] == "" {
			continue
		}
		if *l, err = parseLabel(contexts[name]); err != nil {
			return nil, fmt.Errorf("%s/contexts/lxc_contexts: %w", policy, err)
		}
	}
	return p, nil
}

// readSettings reads a file of NAME = "VALUE" lines; a missing one is empty.
func readSettings(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("SELinux configuration: %w", err)
	}
	settings := map[string]string{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, "=")
		if ok && !strings.HasPrefix(line, "#") {
			settings[strings.TrimSpace(name)] = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return settings, nil
}

// checkParts refuses what cannot become part of a label.
func checkParts(parts map[string]string) error {
	if _, disabled := parts[partDisable]; disabled && len(parts) > 1 {
		return fmt.Errorf("SELinux labels %s: %s excludes the others: %w", describe(parts), partDisable, containerizer.ErrInvalid)
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		value := parts[name]
		switch name {
		case partUser, partRole, partType:
			if !isIdentifier(value) {
				return fmt.Errorf("SELinux %s %q: letters, digits, '_', '-' and '.' are possible: %w", name, value, containerizer.ErrInvalid)
			}
		case partLevel:
			if !isLevel(value) {
				return fmt.Errorf("SELinux level %q is not of the form s0:c1,c2: %w", value, containerizer.ErrInvalid)
			}
		case partDisable:
		default:
			return fmt.Errorf("SELinux label part %q is unknown (user, role, type, level, disable): %w", name, containerizer.ErrInvalid)
		}
	}
	return nil
}

func describe(parts map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		out = append(out, fmt.Sprintf("%s:%q", name, parts[name]))
	}
	return strings.Join(out, " ")
}

func isIdentifier(s string) bool {
	return s != "" && len(s) <= maxPartBytes && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-.", r)
	})
}

// isLevel says whether s is a range of levels: s0, s0:c1,c2, s0:c0.c1023, s0-s0:c1.
func isLevel(s string) bool {
	low, high, isRange := strings.Cut(s, "-")
	return len(s) <= maxPartBytes && isSingleLevel(low) && (!isRange || isSingleLevel(high))
}

func isSingleLevel(s string) bool {
	sensitivity, list, has := strings.Cut(s, ":")
	if !isNumbered(sensitivity, 's', maxSensitivity) {
		return false
	}
	if !has {
		return true
	}
	for item := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(item, ".")
		if !isNumbered(first, 'c', categories-1) || isRange && !isNumbered(last, 'c', categories-1) {
			return false
		}
	}
	return true
}

func isNumbered(s string, letter byte, highest int) bool {
	if s == "" || s[0] != letter || len(s) > 5 {
		return false
	}
	n, err := strconv.ParseUint(s[1:], 10, 16)
	return err == nil && int(n) <= highest
}
