package cgroup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// access is a set of what can be done with a device, in the kernel's bits
// (BPF_DEVCG_ACC_*).
type access uint8

const (
	accessMknod access = 1 << iota
	accessRead
	accessWrite
	accessAll = accessMknod | accessRead | accessWrite
)

func (a access) String() string {
	var b []byte
	for n, letter := range []byte("rwm") {
		if a&[]access{accessRead, accessWrite, accessMknod}[n] != 0 {
			b = append(b, letter)
		}
	}
	return string(b)
}

// anyNumber is the wildcard of a device number.
const anyNumber = -1

// deviceRule allows or denies access to devices of a kind: 'a' is both, 'b' and
// 'c' block and character devices.
type deviceRule struct {
	allow        bool
	kind         byte
	major, minor int64
	access       access
}

// everything is whether r is about every access to every device.
func (r deviceRule) everything() bool {
	return r.kind == 'a' && r.major == anyNumber && r.minor == anyNumber && r.access == accessAll
}

// String is r in the form of the version 1 control files.
func (r deviceRule) String() string {
	number := func(n int64) string {
		if n == anyNumber {
			return "*"
		}
		return strconv.FormatInt(n, 10)
	}
	return string(r.kind) + " " + number(r.major) + ":" + number(r.minor) + " " + r.access.String()
}

// defaultDevices is what every container may use: those that the runtime
// specification demands in /dev, pseudo terminals, and mknod of anything, which
// by itself gives access to nothing. It is the list of runc and crun.
func defaultDevices() []deviceRule {
	return []deviceRule{
		{true, 'c', anyNumber, anyNumber, accessMknod},
		{true, 'b', anyNumber, anyNumber, accessMknod},
		{true, 'c', 1, 3, accessAll},           // null
		{true, 'c', 1, 5, accessAll},           // zero
		{true, 'c', 1, 7, accessAll},           // full
		{true, 'c', 1, 8, accessAll},           // random
		{true, 'c', 1, 9, accessAll},           // urandom
		{true, 'c', 5, 0, accessAll},           // tty
		{true, 'c', 5, 2, accessAll},           // ptmx
		{true, 'c', 136, anyNumber, accessAll}, // pts/*
	}
}

// deviceRules are the rules for c, later ones overriding earlier ones, on top of
// denying everything; changed, when not nil, stands for the spec's resources.
func deviceRules(c *containerizer.Container, changed []specs.LinuxDeviceCgroup) ([]deviceRule, error) {
	everything := deviceRule{true, 'a', anyNumber, anyNumber, accessAll}
	if c.Spec.Security.Privileged || c.Spec.Class == containerizer.ClassPodSandbox {
		// A pod sandbox runs nothing of the user's, and what it denies would be denied
		// to every container below it.
		return []deviceRule{everything}, nil
	}
	asked := c.Spec.Resources.Linux.Devices
	if changed != nil {
		asked = changed
	}
	lists := [][]specs.LinuxDeviceCgroup{asked}
	if c.Launch != nil {
		lists = append(lists, c.Launch.DeviceRules)
	}
	var rules []deviceRule
	for _, list := range lists {
		for _, d := range list {
			r, err := parseDeviceRule(d)
			if err != nil {
				return nil, err
			}
			if r.everything() {
				rules = rules[:0] // whatever was before
			}
			rules = append(rules, r)
		}
	}
	if allowsAll(rules) {
		return rules, nil
	}
	return append(rules, defaultDevices()...), nil
}

// allowsAll is whether rules forbid nothing.
func allowsAll(rules []deviceRule) bool {
	return len(rules) == 1 && rules[0].everything() && rules[0].allow
}

func parseDeviceRule(d specs.LinuxDeviceCgroup) (deviceRule, error) {
	r := deviceRule{allow: d.Allow, major: anyNumber, minor: anyNumber}
	invalid := func(why string) (deviceRule, error) {
		return r, fmt.Errorf("device rule %s: %s: %w", deviceRuleText(d), why, containerizer.ErrInvalid)
	}
	switch d.Type {
	case "", "a":
		r.kind = 'a'
	case "b", "c":
		r.kind = d.Type[0]
	case "u":
		r.kind = 'c' // unbuffered character device: mknod(1) knows it, the kernel does not
	default:
		return invalid("the type is none of a, b and c")
	}
	for _, n := range []struct {
		name  string
		given *int64
		to    *int64
		limit int64
	}{{"major", d.Major, &r.major, 1 << 12}, {"minor", d.Minor, &r.minor, 1 << 20}} {
		if n.given == nil {
			continue
		}
		if *n.given < anyNumber || *n.given >= n.limit {
			return invalid("the " + n.name + " number is outside 0 to " + strconv.FormatInt(n.limit-1, 10))
		}
		*n.to = *n.given
	}
	var ok bool
	if r.access, ok = parseAccess(d.Access); !ok {
		return invalid("the access holds other letters than r, w and m")
	}
	if r.access == 0 {
		r.access = accessAll // the runtime specification's "a *:* rwm" written short
	}
	return r, nil
}

func deviceRuleText(d specs.LinuxDeviceCgroup) string {
	number := func(n *int64) string {
		if n == nil {
			return "*"
		}
		return strconv.FormatInt(*n, 10)
	}
	verb := "deny "
	if d.Allow {
		verb = "allow "
	}
	return strconv.Quote(verb + d.Type + " " + number(d.Major) + ":" + number(d.Minor) + " " + d.Access)
}

// deviceSet is what the version 1 controller can express: everything, or
// nothing, but for exceptions.
type deviceSet struct {
	allowAll   bool
	exceptions []deviceRule // allow is unused; one for each device
}

// newDeviceSet applies rules in order, as the kernel would, to a group where
// nothing is allowed.
func newDeviceSet(rules []deviceRule) (deviceSet, error) {
	var s deviceSet
	for _, r := range rules {
		if r.everything() {
			s = deviceSet{allowAll: r.allow}
			continue
		}
		kinds := []byte{r.kind}
		if r.kind == 'a' { // the kernel takes 'a' for everything, numbers or not
			kinds = []byte{'b', 'c'}
		}
		for _, kind := range kinds {
			one := r
			one.kind = kind
			if err := s.apply(one); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

func (s *deviceSet) apply(r deviceRule) error {
	at := slices.IndexFunc(s.exceptions, func(e deviceRule) bool {
		return e.kind == r.kind && e.major == r.major && e.minor == r.minor
	})
	switch {
	case r.allow == s.allowAll:
		return s.takeBack(r, at)
	case at >= 0:
		s.exceptions[at].access |= r.access
	default:
		r.allow = false
		s.exceptions = append(s.exceptions, r)
	}
	return nil
}

// takeBack removes r from the exceptions; at is the one about the same devices.
func (s *deviceSet) takeBack(r deviceRule, at int) error {
	for n, e := range s.exceptions {
		if n != at && overlap(e, r) {
			return fmt.Errorf("device rule %q overlaps the earlier rule %q; cgroup version 1 cannot express that: %w", r, e, containerizer.ErrUnsupported)
		}
	}
	if at < 0 {
		return nil
	}
	s.exceptions[at].access &^= r.access
	if s.exceptions[at].access == 0 {
		s.exceptions = slices.Delete(s.exceptions, at, at+1)
	}
	return nil
}

// overlap is whether a and b are about a common access to a common device.
func overlap(a, b deviceRule) bool {
	same := func(x, y int64) bool { return x == y || x == anyNumber || y == anyNumber }
	return a.kind == b.kind && a.access&b.access != 0 && same(a.major, b.major) && same(a.minor, b.minor)
}

// parseDeviceList reads a devices.list file.
func parseDeviceList(content string) (deviceSet, error) {
	var s deviceSet
	for line := range strings.SplitSeq(content, "\n") {
		if line == "" {
			continue
		}
		r, ok := parseDeviceLine(line)
		switch {
		case !ok:
			return s, corrupt("a rule of devices.list", line)
		case r.everything():
			s.allowAll = true
		default:
			s.exceptions = append(s.exceptions, r)
		}
	}
	return s, nil
}

// parseDeviceLine reads a rule as deviceRule.String writes it.
func parseDeviceLine(line string) (r deviceRule, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return r, false
	}
	kind, letters := fields[0], fields[2]
	major, minor, ok := strings.Cut(fields[1], ":")
	if !ok || len(kind) != 1 || !strings.Contains("abc", kind) {
		return r, false
	}
	r.kind = kind[0]
	for _, n := range []struct {
		text string
		to   *int64
	}{{major, &r.major}, {minor, &r.minor}} {
		if n.text == "*" {
			*n.to = anyNumber
			continue
		}
		v, err := strconv.ParseUint(n.text, 10, 32)
		if err != nil {
			return r, false
		}
		*n.to = int64(v)
	}
	r.access, ok = parseAccess(letters)
	return r, ok
}

// parseAccess reads letters of "rwm".
func parseAccess(letters string) (a access, ok bool) {
	for _, letter := range letters {
		switch letter {
		case 'r':
			a |= accessRead
		case 'w':
			a |= accessWrite
		case 'm':
			a |= accessMknod
		default:
			return 0, false
		}
	}
	return a, true
}
