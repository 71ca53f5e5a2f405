package bridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/hostport"
	"github.com/berth-dev/berth/isolators/network/internal/ipam"
	"github.com/berth-dev/berth/isolators/network/internal/nat"
)

// Recover releases ports, addresses and rules of owners that do not live, and
// rules within subnets that no reservation explains.
func (p *Plugin) Recover(live func(id string) bool, subnets []netip.Prefix) error {
	return errors.Join(p.recoverPorts(live, subnets), p.Ports.Sweep(), p.recoverAddresses(live), Sweep())
}

func (p *Plugin) recoverPorts(live func(string) bool, subnets []netip.Prefix) error {
	entries, err := p.Ports.List()
	if err != nil {
		return err
	}
	table, err := nat.Open()
	if errors.Is(err, containerizer.ErrUnsupported) {
		table, err = nil, nil
	}
	if err != nil {
		return err
	}
	if table != nil {
		defer func() { _ = table.Close() }() // a socket
	}
	var wanted []nat.Mapping
	for _, e := range entries {
		if live(e.Owner) {
			wanted = append(wanted, mappingsOf(e)...)
			continue
		}
		if table != nil {
			if err := table.Unpublish(mappingsOf(e)); err != nil {
				return fmt.Errorf("rules of container %q, which is no more: %w", e.Owner, err)
			}
		}
		if err := p.Ports.Release(e.Owner, hostport.Name(e.Port)); err != nil {
			return err
		}
	}
	if table == nil || len(subnets) == 0 {
		return nil
	}
	return sweepRules(table, wanted, subnets)
}

// sweepRules removes mappings to subnets that are not wanted; those of other
// networks may be another state directory's.
func sweepRules(table *nat.Table, wanted []nat.Mapping, subnets []netip.Prefix) error {
	published, err := table.Published()
	if err != nil {
		return err
	}
	var stale []nat.Mapping
	for _, m := range published {
		ours := slices.ContainsFunc(subnets, func(s netip.Prefix) bool { return s.Contains(m.Container.Addr()) })
		if ours && !slices.Contains(wanted, m) {
			stale = append(stale, m)
		}
	}
	return table.Unpublish(stale)
}

func (p *Plugin) recoverAddresses(live func(string) bool) error {
	networks, err := os.ReadDir(p.AddressDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list networks with addresses: %w", err)
	}
	var errs error
	for _, n := range networks {
		store := ipam.Open(p.AddressDir, n.Name())
		held, err := store.Addresses()
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		for addr, owner := range held {
			if !live(owner.ID) {
				errs = errors.Join(errs, store.Release(owner, addr))
			}
		}
	}
	return errs
}

// Retire removes the bridge of a network on which nobody has an address, and its
// rules. It is made again at the next use.
func (p *Plugin) Retire(ctx context.Context, config []byte) error {
	c, err := parse(config)
	if err != nil {
		return err
	}
	return Exclusive(ctx, func() error {
		held, err := ipam.Open(p.AddressDir, c.Name).Addresses()
		if err != nil || len(held) > 0 {
			return err
		}
		return errors.Join(removeRules(c), removeBridge(c.Bridge))
	})
}

func removeRules(c *Config) error {
	table, err := nat.Open()
	if err == nil {
		defer func() { _ = table.Close() }() // a socket
		b := nat.Bridge{Name: c.Bridge, Subnets: c.Subnets}
		err = errors.Join(table.ForbidForward(b), table.RemoveBridge(b))
	}
	if errors.Is(err, containerizer.ErrUnsupported) {
		return nil // then there are none
	}
	return err
}

// removeBridge removes a bridge without ports.
func removeBridge(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up interface %q: %w", name, err)
	}
	links, err := listLinks()
	if err != nil {
		return err
	}
	inUse := slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Attrs().MasterIndex == link.Attrs().Index })
	if inUse || link.Type() != "bridge" {
		return nil // somebody put something else on it
	}
	return ignoreGone(netlink.LinkDel(link), "remove", link)
}
