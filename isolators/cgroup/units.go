package cgroup

import (
	"fmt"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// With this driver a container has a slice with a scope in it. The scope has the
// limits and the processes, and systemd removes it with the last of them. The
// slice stays until Cleanup, and what the kernel counted, OOM kills above all, is
// read there. A pod sandbox is a slice alone: the slices of its containers are in
// it.

// wantsUnit is whether c gets units of its own. A container below one with a scope
// is a plain directory in that, which systemd has delegated to us, unless it names
// a slice.
func (i *Isolator) wantsUnit(c *containerizer.Container) bool {
	return c.Parent == nil || c.Spec.CgroupParent != "" || c.Parent.Spec.Class == containerizer.ClassPodSandbox
}

// sliceOf names c's slice and the one that it is in.
func (i *Isolator) sliceOf(c *containerizer.Container) (name, parent string, err error) {
	switch {
	case c.Spec.CgroupParent != "":
		parent = c.Spec.CgroupParent
	case c.Parent != nil:
		if parent, _, err = i.sliceOf(c.Parent); err != nil {
			return "", "", err
		}
	default:
		parent = i.parent
	}
	if _, err := slicePath(parent); err != nil {
		return "", "", err
	}
	name = escapeElement(c.ID.Base()) + ".slice"
	if parent != "-.slice" {
		name = strings.TrimSuffix(parent, ".slice") + "-" + name
	}
	if len(name) > maxUnitName {
		return "", "", fmt.Errorf("container id %q makes a unit name of %d bytes, systemd takes %d: %w", c.ID, len(name), maxUnitName, containerizer.ErrInvalid)
	}
	return name, parent, nil
}

const maxUnitName = 255 // UNIT_NAME_MAX

// scopeOf names c's scope: "<prefix>-<id>.scope", by which the kubelet finds a
// container that has a slice given.
func scopeOf(c *containerizer.Container) (string, error) {
	id := c.ID.String()
	if c.Spec.CgroupParent != "" {
		id = c.ID.Base()
	}
	name := "berth-" + strings.ReplaceAll(escapeElement(id), ".", "-") + ".scope"
	if len(name) > maxUnitName {
		return "", fmt.Errorf("container id %q makes a unit name of %d bytes, systemd takes %d: %w", c.ID, len(name), maxUnitName, containerizer.ErrInvalid)
	}
	return name, nil
}

// escapeElement makes an id part of a unit name (systemd.unit(5)): what is not
// allowed there, or separates names, becomes \xHH.
func escapeElement(s string) string {
	var b strings.Builder
	for _, r := range []byte(s) {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == ':', r == '_', r == '.':
			b.WriteByte(r)
		default:
			fmt.Fprintf(&b, `\x%02x`, r)
		}
	}
	return b.String()
}

// slicePath is the control group of a slice: a-b-c.slice is within a-b.slice
// within a.slice (systemd.slice(5)).
func slicePath(name string) (string, error) {
	stem, ok := strings.CutSuffix(name, ".slice")
	if name == "-.slice" {
		return "/", nil
	}
	if !ok || stem == "" || strings.ContainsAny(name, "/\n\x00") || strings.HasPrefix(stem, "-") || strings.HasSuffix(stem, "-") || strings.Contains(stem, "--") {
		return "", fmt.Errorf("cgroup parent %q is not the name of a slice, such as machine.slice, which the systemd driver needs: %w", name, containerizer.ErrInvalid)
	}
	var p strings.Builder
	for at, r := range stem {
		if r == '-' {
			p.WriteString("/" + stem[:at] + ".slice")
		}
	}
	return p.String() + "/" + name, nil
}
