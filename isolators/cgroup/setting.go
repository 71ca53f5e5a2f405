package cgroup

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// setting is one value to be written to a control file of a group.
type setting struct {
	field      string // of the runtime specification, for messages: "memory.limit"
	controller controller
	file       string
	value      string
	// key is what the line that value sets begins with, in files with a line a
	// device; reset is what undoes a line that was not there.
	// With bare, lines begin with key when read, and are written without.
	key, reset string
	bare       bool
	// lax: the value means what is the case anyway where the file does not exist.
	lax bool
	// or is used where the file does not exist.
	or *setting
}

// plan is what a set of resources means in control files, in order of writing.
type plan struct {
	settings []setting
	// current reads what the group has now, which some values depend on; nil for a
	// group that is not made yet.
	current func(c controller, file string) (string, error)

	// devices says that the fields below count: the rules in order (version 2) and
	// what they come to (version 1).
	devices     bool
	deviceRules []deviceRule
	deviceSet   deviceSet
}

func (p *plan) add(s setting) { p.settings = append(p.settings, s) }

// uses says whether a setting of c is in the plan.
func (p *plan) uses(c controller) bool {
	for _, s := range p.settings {
		if s.controller == c {
			return true
		}
	}
	return false
}

// resolve picks the file that exists in dir, nil when there is none and none is
// needed.
func (s *setting) resolve(dir string) (*setting, error) {
	for at := s; ; at = at.or {
		if exists(dir + "/" + at.file) {
			return at, nil
		}
		if at.or == nil {
			if s.lax {
				return nil, nil
			}
			return nil, fmt.Errorf("set %s to %s: this kernel has no %s: %w", s.field, s.value, s.file, containerizer.ErrUnsupported)
		}
	}
}

// pendingWrite is a setting with its file and what that held before.
type pendingWrite struct {
	*setting
	path   string
	before string
}

func (w *pendingWrite) write() error { return writeFile(w.path, w.value) }

func (w *pendingWrite) undo() error {
	if w.before == "" {
		return nil // a line that the kernel has no way to take back
	}
	return writeFile(w.path, w.before)
}

// classify turns what the kernel says to a write into one of our classes, with
// the field that the user set.
func (w *pendingWrite) classify(err error) error {
	class := containerizer.ErrInvalid
	switch {
	case errors.Is(err, unix.EBUSY):
		// Below what is used now, and nothing could be reclaimed; cpuset: no CPU left.
		class = containerizer.ErrFailedPrecondition
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		class = containerizer.ErrPermission
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.Errno(524)): // 524: ENOTSUPP of the kernel
		class = containerizer.ErrUnsupported
	case errors.Is(err, unix.ENOENT):
		return err // the group is gone
	}
	return fmt.Errorf("set %s to %s: %w: %w", w.field, strings.TrimSpace(w.value), err, class)
}

// order-dependent errors: the kernel checks a value against its neighbours
// (memory and memory+swap, quota and burst), so that a refused write may succeed
// once the others are done.
func orderDependent(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ERANGE)
}

// applyAll writes until nothing is left, or nothing more succeeds. done is what
// was written, in order.
func applyAll(writes []pendingWrite) (done []pendingWrite, err error) {
	for len(writes) > 0 {
		var again []pendingWrite
		var first error
		for n := range writes {
			w := writes[n]
			err := w.write()
			switch {
			case err == nil:
				done = append(done, w)
			case !orderDependent(err):
				return done, w.classify(err)
			default:
				if first == nil {
					first = w.classify(err)
				}
				again = append(again, w)
			}
		}
		if len(again) == len(writes) {
			return done, first
		}
		writes = again
	}
	return done, nil
}

// set writes the settings to a group just made.
func (i *Isolator) set(g group, settings []setting) error {
	if len(settings) == 0 {
		return nil
	}
	writes := make([]pendingWrite, 0, len(settings))
	for n := range settings {
		s := &settings[n]
		dir := g.in(i.node.of(s.controller))
		if s.or != nil || s.lax {
			found, err := s.resolve(dir)
			if err != nil {
				return err
			}
			if found == nil {
				continue
			}
			s = found
		}
		writes = append(writes, pendingWrite{setting: s, path: dir + "/" + s.file})
	}
	_, err := applyAll(writes)
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%w; this kernel does not have that file: %w", err, containerizer.ErrUnsupported)
	}
	return err
}

// change writes the settings to a living group: all of them, or none.
func (i *Isolator) change(g group, settings []setting) (undo func() error, err error) {
	writes := make([]pendingWrite, 0, len(settings))
	for n := range settings {
		dir := g.in(i.node.of(settings[n].controller))
		s, err := settings[n].resolve(dir)
		if err != nil {
			return nil, err
		}
		if s == nil {
			continue
		}
		w := pendingWrite{setting: s, path: dir + "/" + s.file}
		if w.before, err = readFile(w.path); err != nil {
			return nil, err
		}
		w.before = s.previous(w.before)
		writes = append(writes, w)
	}
	done, err := applyAll(writes)
	undo = func() error { return undoAll(done) }
	if err != nil {
		return nil, errors.Join(err, undo())
	}
	return undo, nil
}

// previous is what to write to bring back content, which the file had before.
func (s *setting) previous(content string) string {
	if s.key == "" {
		if content == "" {
			return "\n" // cpuset.cpus of version 2: no restriction
		}
		return content
	}
	for line := range strings.SplitSeq(content, "\n") {
		rest, found := strings.CutPrefix(line, s.key+" ")
		switch {
		case found && s.bare:
			return rest
		case found:
			return line
		}
	}
	return s.reset
}

// undoAll writes back what was there, latest first, in rounds like applyAll.
func undoAll(done []pendingWrite) error {
	for len(done) > 0 {
		var again []pendingWrite
		var first error
		for n := len(done) - 1; n >= 0; n-- {
			if err := done[n].undo(); err != nil {
				first = errors.Join(first, err)
				again = append([]pendingWrite{done[n]}, again...)
			}
		}
		if len(again) == len(done) {
			return fmt.Errorf("bring back the limits that were: %w", first)
		}
		done = again
	}
	return nil
}

// lateController refuses a limit in a version 1 hierarchy that the container was
// not put into when it was launched.
func lateController(s *setting) error {
	return fmt.Errorf("%s: the container was launched without the controller %q and cannot get it while it runs; launch it with that limit, or name %q in the isolation setting: %w",
		s.field, s.controller, s.controller.setting(), containerizer.ErrFailedPrecondition)
}

// defaultDevicesOnly explains a refused device of a container that was launched
// with the default devices, which are those of its parent group.
func defaultDevicesOnly(id containerizer.ContainerID, err error) error {
	return fmt.Errorf("container %q was launched with the default devices only, and with cgroup version 1 it cannot get more while it runs: %w", id, err)
}
