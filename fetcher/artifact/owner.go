package artifact

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// owner resolves "uid[:gid]" or the name of a user of the node.
func (f *Fetcher) owner(s string) (containerizer.Owner, error) {
	u, g, both := strings.Cut(s, ":")
	uid, err := number(u)
	if err != nil {
		if both {
			return containerizer.Owner{}, fmt.Errorf("user %.100q: with a group both are numbers: %w", s, containerizer.ErrInvalid)
		}
		return f.o.LookupUser(s)
	}
	o := containerizer.Owner{UID: uid, GID: uid}
	if both {
		if o.GID, err = number(g); err != nil {
			return o, fmt.Errorf("user %.100q: the group is no number: %w", s, containerizer.ErrInvalid)
		}
	}
	return o, nil
}

// number parses an id; the last one means "no change" to chown(2).
func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, fmt.Errorf("%q is no id: %w", s, containerizer.ErrInvalid)
	}
	return uint32(n), nil
}

func lookupUser(name string) (containerizer.Owner, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return containerizer.Owner{}, fmt.Errorf("user %.100q is not known on this node: %w", name, containerizer.ErrInvalid)
	}
	uid, err := number(u.Uid)
	if err != nil {
		return containerizer.Owner{}, err
	}
	gid, err := number(u.Gid)
	return containerizer.Owner{UID: uid, GID: gid}, err
}
