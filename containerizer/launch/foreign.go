package launch

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/launch/program"
)

// CompileForeign makes the program that executes an OCI runtime: c.Process, as the
// host's root in the host's file tree. The runtime needs paths, and what it needs them
// for is mounted in a mount namespace of its own, which ends with it: nothing of it is
// in the host's mount table. The root filesystem of c.Info is mounted on c.PivotDir,
// its layer mounts on their destinations, all of which are paths of the host that
// exist.
func CompileForeign(c *Config) (*Program, error) {
	k := &compiler{c: c}
	stdio := k.stdio()
	fs := &filesystemPlan{}
	if c.Info.Rootfs != nil {
		fs.rootfs = k.input(Input{Kind: InputRootfs})
	}
	for i := range c.Info.LayerMounts {
		p, err := k.planLayers(&c.Info.LayerMounts[i])
		if err != nil {
			return nil, err
		}
		fs.mounts = append(fs.mounts, p)
	}
	k.Clone(unix.CLONE_NEWNS, program.None)
	k.Call(unix.SYS_UMASK, 0)
	k.attachRootfs(fs)
	for i := range fs.mounts {
		m := &fs.mounts[i]
		k.step(fmt.Sprintf("mount %q on %q", m.Source, m.Destination))
		target := k.NewSlot()
		k.open(atFDCWD, path.Clean(m.Destination), unix.O_PATH, 0, target)
		k.moveMount(m.tree, target)
	}
	k.workingDir(false)
	k.streams(stdio, 0)
	k.session(0)
	k.closeAll()
	k.execute()
	return k.finish()
}

// LayerIsDir says whether a layer mount of c is of a directory, or of a file.
func LayerIsDir(c *Config, i int) (bool, error) {
	l := &c.Info.LayerMounts[i]
	if l.SubPath == "" {
		return true, nil
	}
	return (&compiler{c: c}).partIsDir(l)
}
