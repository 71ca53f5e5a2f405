package launcher

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// Limits on what is read of an image's user database (CVE-2026-47262).
const (
	maxDatabaseBytes = 8 << 20
	maxLineBytes     = 64 << 10
	maxGroups        = 65536 // NGROUPS_MAX
)

// identity is who a process is.
type identity struct {
	uid, gid uint32
	groups   []uint32
	known    map[uint32]bool // those of groups
	home     string
}

// userDatabase reads the user and group files of a root filesystem.
type userDatabase struct {
	root *os.File
	// lower are directories below root that are not mounted together with it yet; the
	// first that has a file counts.
	lower []*os.File
}

// identify resolves the user and groups of p in a root filesystem. The forms of
// the user are those of Docker: "", "user", "uid", "user:group", with names and
// numbers in any combination. A number is never taken for a name
// (CVE-2026-46680).
func (d userDatabase) identify(p *containerizer.Process) (*identity, error) {
	user, group, hasGroup := strings.Cut(p.User, ":")
	if hasGroup && group == "" {
		return nil, fmt.Errorf("user %q has an empty group: %w", p.User, containerizer.ErrInvalid)
	}
	if user == "" {
		user = "0"
	}
	id := &identity{home: "/"}
	name, err := d.user(user, id)
	if err != nil {
		return nil, err
	}
	if hasGroup {
		if id.gid, err = d.group(group); err != nil {
			return nil, err
		}
	}
	id.add(id.gid)
	if !hasGroup && name != "" && p.GroupsPolicy == containerizer.GroupsMerge {
		if err := d.memberships(name, id); err != nil {
			return nil, err
		}
	}
	for _, g := range p.AdditionalGroups {
		n, err := d.group(g)
		if err != nil {
			return nil, err
		}
		id.add(n)
	}
	return id, nil
}

// add takes no more groups than the kernel does.
func (id *identity) add(gid uint32) {
	if len(id.groups) == maxGroups || id.known[gid] {
		return
	}
	if id.known == nil {
		id.known = map[uint32]bool{}
	}
	id.known[gid] = true
	id.groups = append(id.groups, gid)
}

// user finds a user by name or number. The name is "" for a number without entry.
func (d userDatabase) user(user string, id *identity) (name string, err error) {
	number, isNumber, err := parseID("user", user)
	if err != nil {
		return "", err
	}
	found := false
	err = d.scan("etc/passwd", func(fields []string) bool {
		if len(fields) < 4 {
			return true
		}
		uid, err := strconv.ParseUint(fields[2], 10, 31)
		if err != nil || isNumber && uint32(uid) != number || !isNumber && fields[0] != user {
			return true
		}
		gid, err := strconv.ParseUint(fields[3], 10, 31)
		if err != nil {
			return true
		}
		found, name = true, fields[0]
		id.uid, id.gid = uint32(uid), uint32(gid)
		if len(fields) > 5 && strings.HasPrefix(fields[5], "/") && !strings.ContainsRune(fields[5], 0) {
			id.home = fields[5]
		}
		return false
	})
	switch {
	case err != nil:
		return "", err
	case !found && !isNumber:
		return "", fmt.Errorf("user %q is not in the container's /etc/passwd: %w", user, containerizer.ErrInvalid)
	case !found:
		id.uid = number
	}
	return name, nil
}

// group finds a group's number.
func (d userDatabase) group(group string) (uint32, error) {
	number, isNumber, err := parseID("group", group)
	if err != nil || isNumber {
		return number, err
	}
	found := false
	err = d.scan("etc/group", func(fields []string) bool {
		if len(fields) < 3 || fields[0] != group {
			return true
		}
		gid, err := strconv.ParseUint(fields[2], 10, 31)
		if err != nil {
			return true
		}
		number, found = uint32(gid), true
		return false
	})
	if err == nil && !found {
		err = fmt.Errorf("group %q is not in the container's /etc/group: %w", group, containerizer.ErrInvalid)
	}
	return number, err
}

// memberships adds the groups that list the user.
func (d userDatabase) memberships(name string, id *identity) error {
	return d.scan("etc/group", func(fields []string) bool {
		if len(fields) < 4 || !slices.Contains(strings.Split(fields[3], ","), name) {
			return true
		}
		if gid, err := strconv.ParseUint(fields[2], 10, 31); err == nil {
			id.add(uint32(gid))
		}
		return true
	})
}

// parseID tells numbers from names. Numbers beyond 2^31-1 are refused: some
// programs take them for negative ones (CVE-2024-40635).
func parseID(what, s string) (number uint32, isNumber bool, err error) {
	if s == "" {
		return 0, false, fmt.Errorf("an empty %s: %w", what, containerizer.ErrInvalid)
	}
	if strings.Trim(s, "0123456789") != "" {
		if s[0] == '-' || strings.ContainsAny(s, "\x00\n:") {
			return 0, false, fmt.Errorf("%s %q is neither a name nor a number: %w", what, s, containerizer.ErrInvalid)
		}
		return 0, false, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > math.MaxInt32 {
		return 0, false, fmt.Errorf("%s %s is beyond the last id %d: %w", what, s, math.MaxInt32, containerizer.ErrInvalid)
	}
	return uint32(n), true, nil
}

// scan calls f with the fields of every line of a file until it returns false. A
// file that does not exist has no lines.
func (d userDatabase) scan(path string, f func(fields []string) bool) error {
	file, err := d.open(path)
	if file == nil {
		return err
	}
	defer func() { _ = file.Close() }()
	return scanLines(io.LimitReader(file, maxDatabaseBytes), path, f)
}

// open opens a file below the root; it is nil when there is none. It must be a
// regular one (CVE-2024-9676), which is known before it is opened: to open a device
// may do something, such as start a watchdog, or wait.
func (d userDatabase) open(path string) (*os.File, error) {
	file, err := openIn(d.root, path)
	for _, root := range d.lower {
		if file != nil || err != nil {
			break
		}
		file, err = openIn(root, path)
	}
	return file, err
}

func openIn(root *os.File, path string) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(int(root.Fd()), path, &how)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		return nil, nil
	case errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENAMETOOLONG):
		return nil, fmt.Errorf("open the container's /%s: %w: %w", path, err, containerizer.ErrInvalid)
	case err != nil:
		return nil, fmt.Errorf("open the container's /%s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("the container's /%s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("the container's /%s is no regular file: %w", path, containerizer.ErrInvalid)
	}
	if st.Size > maxDatabaseBytes {
		return nil, fmt.Errorf("the container's /%s has %d bytes, at most %d are read: %w", path, st.Size, maxDatabaseBytes, containerizer.ErrInvalid)
	}
	file, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("open the container's /%s: %w", path, err)
	}
	return file, nil
}

func scanLines(r io.Reader, path string, f func(fields []string) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLineBytes)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if !f(strings.Split(line, ":")) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the container's /%s: %w: %w", path, err, containerizer.ErrInvalid)
	}
	return nil
}
