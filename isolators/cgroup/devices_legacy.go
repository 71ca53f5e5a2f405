package cgroup

import (
	"errors"
	"fmt"
	"hash/fnv"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// The version 1 controller takes one write a rule, 16 to 20 µs each, and a new
// group inherits its parent's rules. So containers that get just the default
// devices are made below a group that has those already: one mkdir, no write.

const templatePrefix = "devices."

// templateName is the group with the default devices. The sum keeps versions of
// berth with other defaults apart.
func templateName(s deviceSet) string {
	h := fnv.New32a()
	for _, e := range s.exceptions {
		_, _ = h.Write([]byte(e.String())) // never fails (package hash)
	}
	return templatePrefix + strconv.FormatUint(uint64(h.Sum32()), 16)
}

// ensureTemplate makes the group with rules s in dir. It appears complete or not
// at all: it is filled under another name, by one process at a time.
func ensureTemplate(dir string, s deviceSet) error {
	parent, err := open(path.Dir(dir), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(parent) }() // and unlock
	if err := retry(func() error { return unix.Flock(parent, unix.LOCK_EX) }); err != nil {
		return fmt.Errorf("lock %q: %w", path.Dir(dir), err)
	}
	if exists(dir) {
		return nil // by another process, while we waited
	}
	work := dir + ".new"
	if err := mkdir(work); err != nil && !errors.Is(err, unix.EEXIST) { // EEXIST: its maker was killed
		return err
	}
	if err := writeDevices(work, s); err != nil {
		return errors.Join(err, rmdir(work))
	}
	if err := retry(func() error { return unix.Rename(work, dir) }); err != nil {
		err = fmt.Errorf("make the group %q for default devices: %w", dir, err)
		return errors.Join(err, rmdir(work))
	}
	return nil
}

// sameDevices is whether a and b allow the same; order does not matter.
func sameDevices(a, b deviceSet) bool {
	if a.allowAll != b.allowAll || len(a.exceptions) != len(b.exceptions) {
		return false
	}
	for _, e := range a.exceptions {
		if !slices.Contains(b.exceptions, e) {
			return false
		}
	}
	return true
}

// writeDevices sets the rules of a new group, which has its parent's.
func writeDevices(dir string, s deviceSet) error {
	file, other := "/devices.deny", "/devices.allow"
	if s.allowAll {
		file, other = other, file
	}
	if err := writeFile(dir+file, "a"); err != nil {
		return deviceError(dir, err)
	}
	for _, e := range s.exceptions {
		if err := writeFile(dir+other, e.String()); err != nil {
			return deviceError(dir, err)
		}
	}
	return nil
}

// changeDevices turns the rules of a living group into s, with no moment in
// which anything is denied that is allowed both before and after.
func changeDevices(dir string, s deviceSet) (undo func() error, err error) {
	list, err := readFile(dir + "/devices.list")
	if err != nil {
		return nil, err
	}
	before, err := parseDeviceList(list)
	if err != nil {
		return nil, err
	}
	undo = func() error { return stepDevices(dir, s, before) }
	if err := stepDevices(dir, before, s); err != nil {
		return nil, errors.Join(err, undo())
	}
	return undo, nil
}

// stepDevices goes from one set to another: what is new first, then what is gone.
func stepDevices(dir string, from, to deviceSet) error {
	if from.allowAll != to.allowAll {
		return writeDevices(dir, to)
	}
	widen, narrow := "/devices.allow", "/devices.deny"
	if from.allowAll {
		widen, narrow = narrow, widen
	}
	for _, step := range []struct {
		file       string
		have, want deviceSet
	}{{widen, from, to}, {narrow, to, from}} {
		for _, e := range step.want.exceptions {
			at := slices.IndexFunc(step.have.exceptions, func(h deviceRule) bool {
				return h.kind == e.kind && h.major == e.major && h.minor == e.minor
			})
			if at >= 0 {
				e.access &^= step.have.exceptions[at].access
			}
			if e.access == 0 {
				continue
			}
			if err := writeFile(dir+step.file, e.String()); err != nil {
				return deviceError(dir, err)
			}
		}
	}
	return nil
}

// deviceError explains the one refusal that users can do something about.
func deviceError(dir string, err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w; a container cannot use devices that its cgroup parent %q may not: %w", err, path.Dir(dir), containerizer.ErrPermission)
	}
	return err
}

// isTemplate is whether name is that of a group with default devices.
func isTemplate(name string) bool { return strings.HasPrefix(name, templatePrefix) }
