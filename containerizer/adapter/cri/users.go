package cri

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-dev/berth/containerizer"
)

// users knows who the processes of containers began as. It is read from a process that
// is held before its command, and remembered: afterwards the process may change it.
type users struct{ known sync.Map } // containerizer.ContainerID -> *runtimeapi.LinuxContainerUser

// note reads the user of a container that has just been prepared.
func (u *users) note(ctx context.Context, engine containerizer.Query, id containerizer.ContainerID) {
	s, err := engine.Status(ctx, id)
	if err != nil || s.PID == 0 {
		return
	}
	if user := userOf(s.PID); user != nil {
		u.known.Store(id, user)
	}
}

func (u *users) forget(id containerizer.ContainerID) { u.known.Delete(id) }

// of returns the user of a container, as far as it can be known.
func (u *users) of(s *containerizer.Status) *runtimeapi.ContainerUser {
	v, has := u.known.Load(s.ID)
	if !has {
		if s.PID == 0 {
			return nil
		}
		user := userOf(s.PID)
		if user == nil {
			return nil
		}
		v = user
	}
	return &runtimeapi.ContainerUser{Linux: v.(*runtimeapi.LinuxContainerUser)} //nolint:forcetypeassert // nothing else is stored
}

// userOf reads /proc/PID/status (proc_pid_status(5)); nil when it has gone. The ids are
// those of the container: the kernel shows those of the node.
func userOf(pid int) *runtimeapi.LinuxContainerUser {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return nil
	}
	uids, gids := idMap(pid, "uid_map"), idMap(pid, "gid_map")
	user := &runtimeapi.LinuxContainerUser{}
	for line := range strings.Lines(string(content)) {
		key, rest, _ := strings.Cut(line, ":")
		ids := numbers(rest)
		switch {
		case key == "Uid" && len(ids) > 0:
			user.Uid = inside(uids, ids[0])
		case key == "Gid" && len(ids) > 0:
			user.Gid = inside(gids, ids[0])
		case key == "Groups":
			for _, id := range ids {
				user.SupplementalGroups = append(user.SupplementalGroups, inside(gids, id))
			}
		}
	}
	if !slices.Contains(user.SupplementalGroups, user.Gid) {
		user.SupplementalGroups = append(user.SupplementalGroups, user.Gid)
	}
	slices.Sort(user.SupplementalGroups)
	return user
}

func numbers(text string) []int64 {
	var out []int64
	for f := range strings.FieldsSeq(text) {
		if n, err := strconv.ParseInt(f, 10, 64); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// idMap reads a map of ids (user_namespaces(7)).
func idMap(pid int, name string) []specs.LinuxIDMapping {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + name)
	if err != nil {
		return nil
	}
	var out []specs.LinuxIDMapping
	for line := range strings.Lines(string(content)) {
		if n := numbers(line); len(n) == 3 {
			out = append(out, specs.LinuxIDMapping{ContainerID: uint32(n[0]), HostID: uint32(n[1]), Size: uint32(n[2])}) //nolint:gosec // the kernel's are 32 bits
		}
	}
	return out
}

func inside(m []specs.LinuxIDMapping, id int64) int64 {
	for _, r := range m {
		if id >= int64(r.HostID) && id < int64(r.HostID)+int64(r.Size) {
			return id - int64(r.HostID) + int64(r.ContainerID)
		}
	}
	return id
}
