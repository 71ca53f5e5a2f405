package launch

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/launch/program"
)

// UserNamespaceProgram is the program of a process that waits in a new user
// namespace with these mappings until it is killed.
func UserNamespaceProgram(uids, gids []specs.LinuxIDMapping) ([]byte, error) {
	var b program.Builder
	b.Clone(unix.CLONE_NEWUSER, program.None)
	b.IDMaps(idMap(uids), idMap(gids))
	answer := b.Zeros(8)
	b.Call(unix.SYS_READ, program.Progress, answer, 1) // the id maps are written
	b.Call(unix.SYS_READ, program.Progress, answer, 1) // never answered
	return b.Encode()
}
