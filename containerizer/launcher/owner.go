package launcher

import (
	"fmt"
	"os"

	"github.com/berth-dev/berth/containerizer"
)

var _ containerizer.OwnerResolver = (*Launcher)(nil)

// Owner implements [containerizer.OwnerResolver]: the user is looked up in the layers,
// which are not mounted yet. A link from one layer to a file of another is not followed.
func (*Launcher) Owner(c *containerizer.Container) (*containerizer.Owner, error) {
	d, err := openLayers(c)
	if err != nil {
		return nil, err
	}
	defer d.close()
	p := containerizer.Process{User: c.Spec.Process.User, GroupsPolicy: containerizer.GroupsStrict}
	who, err := d.identify(&p)
	if err != nil {
		return nil, err
	}
	info, err := mappings(c)
	if err != nil {
		return nil, err
	}
	return &containerizer.Owner{UID: hostID(info.UIDMappings, who.uid), GID: hostID(info.GIDMappings, who.gid)}, nil
}

// openLayers opens what c's root filesystem will be made of.
func openLayers(c *containerizer.Container) (userDatabase, error) {
	var d userDatabase
	for c.Rootfs == nil && c.Parent != nil {
		c = c.Parent
	}
	if c.Rootfs == nil {
		return d, fmt.Errorf("a container without root filesystem has no users: %w", containerizer.ErrUnsupported)
	}
	dirs := []string{c.Rootfs.Path}
	if c.Rootfs.Path == "" {
		dirs = c.Rootfs.Lower
		if c.Rootfs.Upper != "" {
			dirs = append([]string{c.Rootfs.Upper}, dirs...)
		}
	}
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			d.close()
			return d, fmt.Errorf("open a layer: %w", err)
		}
		if d.root == nil {
			d.root = f
			continue
		}
		d.lower = append(d.lower, f)
	}
	return d, nil
}

func (d userDatabase) close() {
	for _, f := range append(d.lower, d.root) {
		_ = f.Close() // a directory
	}
}

// mappings are those of the user namespace that c will be in.
func mappings(c *containerizer.Container) (*containerizer.LaunchInfo, error) {
	n := c.Spec.Namespaces
	switch n.User.Mode {
	case containerizer.NamespaceHost:
		return &containerizer.LaunchInfo{}, nil
	case containerizer.NamespacePrivate:
		return &containerizer.LaunchInfo{UIDMappings: n.UIDMappings, GIDMappings: n.GIDMappings}, nil
	case containerizer.NamespaceContainer, containerizer.NamespacePath:
		return nil, fmt.Errorf("whose the files are in another container's user namespace is not known: %w", containerizer.ErrUnsupported)
	case containerizer.NamespaceDefault, containerizer.NamespaceParent:
	}
	if c.Parent != nil && c.Parent.Launch != nil {
		return c.Parent.Launch, nil
	}
	return &containerizer.LaunchInfo{}, nil
}
