package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/berth-dev/berth/containerizer"
)

// leave runs DEL for every network that rec or the ledger names, the last first.
func (i *Isolator) leave(ctx context.Context, c *containerizer.Container, rec *record) error {
	known := map[string]bool{}
	for _, a := range rec.Networks {
		known[a.Name+"/"+a.IfName] = true
	}
	attachments := rec.Networks
	for _, entry := range c.Ledger.Held(ledgerNetwork) {
		if known[entry] {
			continue
		}
		a, err := i.reconstruct(ctx, c.ID, entry)
		if err != nil {
			return err
		}
		attachments = append(attachments, a)
	}
	netns := namespacePath(c)
	var errs error
	for k := len(attachments) - 1; k >= 0; k-- {
		a := &attachments[k]
		if err := i.part(ctx, c.ID, a, netns); err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		errs = errors.Join(errs, c.Ledger.Release(ledgerNetwork, a.Name+"/"+a.IfName))
	}
	return errs
}

// part runs DEL for one network.
func (i *Isolator) part(ctx context.Context, id containerizer.ContainerID, a *attachment, netns string) error {
	if len(a.Config) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pluginTimeout)
	defer cancel()
	list, err := libcni.NetworkConfFromBytes(a.Config)
	if err != nil {
		return fmt.Errorf("leave network %q: read its configuration: %w: %w", a.Name, err, containerizer.ErrDataCorrupt)
	}
	if needsStandIn(list, a, netns) {
		ns, path, err := standIn(a)
		if err != nil {
			return fmt.Errorf("leave network %q: %w", a.Name, err)
		}
		defer func() { _ = ns.Close() }() // read only
		netns = path
	}
	if err := i.cni.DelNetworkList(ctx, list, a.runtime(id, netns)); err != nil {
		return fmt.Errorf("leave network %q: %w", a.Name, err)
	}
	return nil
}

// reconstruct finds what is needed to leave a network whose record is lost: from
// libcni's cache, else from the configuration as it is now. An attachment without
// configuration has nothing to leave that anybody could name.
func (i *Isolator) reconstruct(ctx context.Context, id containerizer.ContainerID, entry string) (attachment, error) {
	name, ifName, _ := strings.Cut(entry, "/")
	a := attachment{Name: name, IfName: ifName, Args: [][2]string{{"IgnoreUnknown", "1"}}}
	cached, err := i.cni.GetCachedAttachments(cniID(id))
	if err != nil && !os.IsNotExist(err) { //nolint:forbidigo // libcni does not wrap
		return a, fmt.Errorf("read libcni's cache: %w", err)
	}
	for _, ca := range cached {
		if ca.Network == name && ca.IfName == ifName {
			a.Config, a.Args, a.Capabilities = ca.Config, ca.CniArgs, ca.CapabilityArgs
			return a, nil
		}
	}
	list, err := i.find(ctx, name)
	if errors.Is(err, containerizer.ErrNotFound) {
		return a, nil
	}
	if err != nil {
		return a, err
	}
	a.Config = list.Bytes
	a.Capabilities = map[string]any{"portMappings": portMappings(i.portsOf(id))}
	return a, nil
}

// portsOf are the ports that the registry has for id.
func (i *Isolator) portsOf(id containerizer.ContainerID) []containerizer.PortMapping {
	all, err := i.ports.List()
	if err != nil {
		return nil // releasing them will tell
	}
	var out []containerizer.PortMapping
	for _, e := range all {
		if e.Owner == cniID(id) {
			out = append(out, e.Port)
		}
	}
	return out
}
