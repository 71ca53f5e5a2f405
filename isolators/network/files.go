package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
)

// Files of /etc that are generated, by their names there.
const (
	fileHosts      = "hosts"
	fileHostname   = "hostname"
	fileResolvConf = "resolv.conf"
)

// prepareFiles writes what the container does not share with another one, and
// returns the mounts of all.
func (i *Isolator) prepareFiles(c *containerizer.Container, m mode) ([]specs.Mount, error) {
	uts, err := utsOf(c)
	if err != nil {
		return nil, err
	}
	if err := i.writeFiles(c, m, uts); err != nil {
		return nil, err
	}
	if !hasRootfs(c) || (m.kind == kindHost && path.Clean(c.Spec.RootfsPath) == "/") {
		return nil, nil // nothing to mount on, or the host's own files are right
	}
	var mounts []specs.Mount
	n := &c.Spec.Network
	for _, f := range []struct {
		name string
		skip bool
		mode mode
	}{
		{fileHosts, n.NoHosts, m}, {fileHostname, n.NoHostname, uts}, {fileResolvConf, n.NoResolvConf, m},
	} {
		destination := "/etc/" + f.name
		if f.skip || covered(c, destination) {
			continue
		}
		source, err := i.source(c, f.name, f.mode)
		if err != nil {
			return nil, err
		}
		if source == "" {
			continue
		}
		options := []string{"bind", "rprivate", "nosuid", "nodev", "noexec"}
		if c.Spec.ReadonlyRootfs {
			options = append(options, "ro")
		}
		mounts = append(mounts, specs.Mount{Destination: destination, Type: "bind", Source: source, Options: options})
	}
	return mounts, nil
}

// source is the file to mount; "" when the container that is shared with has none.
func (i *Isolator) source(c *containerizer.Container, name string, m mode) (string, error) {
	id := c.ID
	if m.kind == kindShared {
		id = m.owner
	}
	// A container that itself shares has no file of its own; who it shares with may.
	for hops := 0; id != "" && hops < maxHops; hops++ {
		source := filepath.Join(i.folder(id), name)
		_, err := os.Stat(source)
		if err == nil {
			return source, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("look up the network files of container %q: %w", id.Short(), err)
		}
		if target, err := os.Readlink(filepath.Join(i.folder(id), sharedLink)); err == nil {
			id = containerizer.ContainerID(target)
			continue
		}
		id = id.Parent()
	}
	return "", nil
}

// maxHops bounds the way to the container that has a file: the depth of the tree
// and one join.
const maxHops = 64

// sharedLink in a folder names the container whose network is joined: a symbolic
// link that leads nowhere.
const sharedLink = "shared"

// writeFiles writes the files that belong to c.
func (i *Isolator) writeFiles(c *containerizer.Container, m, uts mode) error {
	content, err := i.content(c, m, uts)
	if err != nil {
		return err
	}
	joins := m.kind == kindShared && !c.ID.HasAncestor(m.owner)
	if len(content) == 0 && !joins {
		return nil
	}
	folder := i.folder(c.ID)
	if err := c.Ledger.Acquire(ledgerFiles, folder); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("make the folder of network files: %w", err)
	}
	if joins {
		if err := os.Symlink(string(m.owner), filepath.Join(folder, sharedLink)); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("note whose network is joined: %w", err)
		}
	}
	for name, text := range content {
		if err := writeFile(c, filepath.Join(folder, name), text); err != nil {
			return err
		}
	}
	return nil
}

// content is what c's own files hold, by their names.
func (i *Isolator) content(c *containerizer.Container, m, uts mode) (map[string]string, error) {
	content := map[string]string{}
	n := &c.Spec.Network
	if m.kind != kindShared && !n.NoHosts {
		content[fileHosts] = i.hosts(c, m, nil)
	}
	if m.kind != kindShared && !n.NoResolvConf {
		resolv, err := i.resolvConf(c, m, nil)
		if err != nil {
			return nil, err
		}
		content[fileResolvConf] = resolv
	}
	if uts.kind != kindShared && !n.NoHostname {
		name := i.hostname(c, m)
		if uts.kind == kindHost {
			name = hostName()
		}
		content[fileHostname] = name + "\n"
	}
	return content, nil
}

// writeFile writes in place: the file may be mounted in the container already. It
// belongs to the container's root.
func writeFile(c *containerizer.Container, path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write network file: %w", err)
	}
	if uid, gid := rootID(uidMappings(c)), rootID(gidMappings(c)); uid != 0 || gid != 0 {
		if err := os.Chown(path, uid, gid); err != nil {
			return fmt.Errorf("give network file to the container's root: %w", err)
		}
	}
	return nil
}

// hasRootfs says whether there is something to mount on.
func hasRootfs(c *containerizer.Container) bool {
	for at := c; at != nil; at = at.Parent {
		if at.Spec.Image != nil || at.Spec.RootfsPath != "" || at.Rootfs != nil {
			return true
		}
	}
	return false
}

// covered says whether a mount of the user is on destination.
func covered(c *containerizer.Container, destination string) bool {
	return slices.ContainsFunc(c.Spec.Mounts, func(m containerizer.Mount) bool {
		return path.Clean(m.Destination) == destination
	})
}

// hostname is the container's host name.
func (i *Isolator) hostname(c *containerizer.Container, m mode) string {
	if c.Spec.Network.Hostname != "" {
		return c.Spec.Network.Hostname
	}
	if m.kind == kindHost {
		return hostName()
	}
	name := strings.Map(func(r rune) rune {
		if r != '.' && r != '_' && isHostName("x"+string(r)) {
			return r
		}
		return '-'
	}, c.ID.Base())
	if len(name) > 12 {
		name = name[:12]
	}
	if name = strings.Trim(name, "-"); name == "" {
		return "container"
	}
	return name
}

// hostName is the name of the host.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}
