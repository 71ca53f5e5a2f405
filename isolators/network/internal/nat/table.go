package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// TableName is the name of the table, in family inet.
const TableName = "berth"

// Bridge is what the rules do for one bridge.
type Bridge struct {
	Name string
	// Subnets are what containers on it have addresses of.
	Subnets []netip.Prefix
	// Masquerade gives packets that leave the bridge's network an address of the host.
	Masquerade bool
	// Isolate lets in from outside only replies and what goes to published ports.
	Isolate bool
}

// Table is the connection to the table in the namespace of the calling thread.
// It is safe for concurrent use; Close it.
type Table struct {
	conn   *nftables.Conn
	asking *nl.SocketHandle // for the generation
	table  *nftables.Table
	sets   sets
}

// Open connects. The table need not exist yet.
func Open() (*Table, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket for nftables: %w", classify(err))
	}
	asking, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a netlink socket for nftables: %w", classify(err)), conn.CloseLasting())
	}
	t := &nftables.Table{Name: TableName, Family: nftables.TableFamilyINet}
	return &Table{conn: conn, asking: &nl.SocketHandle{Socket: asking}, table: t, sets: newSets(t)}, nil
}

// Close ends the connection.
func (t *Table) Close() error {
	t.asking.Close()
	return t.conn.CloseLasting()
}

// EnsureBridge makes the rules hold for b. created says that the table was not
// there (first use, or somebody flushed the ruleset): published ports have to be
// published again. ErrUnsupported when the kernel has no nftables with NAT.
//
// Preconditions: nobody else on the machine is in EnsureBridge, unless Knows(b).
func (t *Table) EnsureBridge(b Bridge) (created bool, err error) {
	if known, err := t.Knows(b); err != nil || known {
		return false, err
	}
	err = t.addBridge(b)
	if !errors.Is(err, syscall.ENOENT) {
		return false, err
	}
	if err := t.create(b); err != nil {
		return false, err
	}
	return true, nil
}

// Knows says whether b is in all sets it belongs in.
func (t *Table) Knows(b Bridge) (bool, error) {
	for _, m := range t.sets.members(b) {
		elements, exists, err := t.elements(m.set)
		if err != nil || !exists {
			return false, err
		}
		if !hasKey(elements, m.elements[0].Key) {
			return false, nil
		}
	}
	return true, nil
}

// elements reads a set, exists false when it is missing.
func (t *Table) elements(s *nftables.Set) (elements []nftables.SetElement, exists bool, err error) {
	err = t.consistent(func() error {
		elements, exists, err = t.read(s)
		return err
	})
	return elements, exists, err
}

// read reads a set once. The library hides the error number of a missing set, so
// after an error the sets that exist tell.
func (t *Table) read(s *nftables.Set) (elements []nftables.SetElement, exists bool, err error) {
	for range 2 { // it may be made in between
		elements, err = t.conn.GetSetElements(s)
		if err == nil {
			return elements, true, nil
		}
		exists, existsErr := t.exists(s)
		if existsErr != nil {
			return nil, false, existsErr
		}
		if !exists {
			return nil, false, nil
		}
	}
	return nil, false, fmt.Errorf("read nftables set %q: %w", s.Name, err)
}

func (t *Table) exists(s *nftables.Set) (bool, error) {
	tables, err := t.conn.ListTablesOfFamily(t.table.Family)
	if errors.Is(err, syscall.EINVAL) { // no such subsystem (net/netfilter/nfnetlink.c)
		return false, fmt.Errorf("list nftables tables: %w (%s): %w", err, kernelNeeds, containerizer.ErrUnsupported)
	}
	if err != nil {
		return false, fmt.Errorf("list nftables tables: %w", classify(err))
	}
	if !slices.ContainsFunc(tables, func(x *nftables.Table) bool { return x.Name == t.table.Name }) {
		return false, nil
	}
	sets, err := t.conn.GetSets(t.table)
	if err != nil {
		return false, fmt.Errorf("list nftables sets: %w", classify(err))
	}
	return slices.ContainsFunc(sets, func(x *nftables.Set) bool { return x.Name == s.Name }), nil
}

func hasKey(elements []nftables.SetElement, key []byte) bool {
	for _, e := range elements {
		if string(e.Key) == string(key) {
			return true
		}
	}
	return false
}

func (t *Table) addBridge(b Bridge) error {
	for _, m := range t.sets.members(b) {
		if err := t.conn.SetAddElements(m.set, m.elements); err != nil {
			return fmt.Errorf("encode bridge %q: %w", b.Name, err)
		}
	}
	return t.flush(fmt.Sprintf("add bridge %q to nftables table %q", b.Name, TableName))
}

// create makes the table with its rules in one transaction, and b in its sets.
// Rules of an earlier generation go with the old table in the same transaction.
func (t *Table) create(b Bridge) error {
	t.conn.AddTable(t.table)
	t.conn.DelTable(t.table)
	t.conn.AddTable(t.table)
	for _, s := range t.sets.all() {
		if err := t.conn.AddSet(s, nil); err != nil {
			return fmt.Errorf("encode nftables set %q: %w", s.Name, err)
		}
	}
	t.addChains()
	err := t.addBridge(b)
	if errors.Is(err, syscall.ENOENT) { // an expression that the kernel does not know
		return fmt.Errorf("%w (%s): %w", err, kernelNeeds, containerizer.ErrUnsupported)
	}
	return err
}

// RemoveBridge takes a bridge and its subnets out of the rules; a no-op for a
// stranger. With the last one the table goes.
//
// Preconditions: as of EnsureBridge.
func (t *Table) RemoveBridge(b Bridge) error {
	if _, exists, err := t.elements(t.sets.bridges); err != nil || !exists {
		return err
	}
	b.Masquerade, b.Isolate = true, true
	for _, m := range t.sets.members(b) {
		if err := t.remove(m.set, m.elements...); err != nil {
			return err
		}
	}
	left, exists, err := t.elements(t.sets.bridges)
	if err != nil || !exists || len(left) > 0 {
		return err
	}
	return t.Drop()
}

// Drop removes the table with everything in it, for all networks.
func (t *Table) Drop() error {
	t.conn.AddTable(t.table) // so that deleting works without it
	t.conn.DelTable(t.table)
	return t.flush("remove nftables table " + TableName)
}

// remove deletes an element (two for an interval), if it is there.
func (t *Table) remove(s *nftables.Set, elements ...nftables.SetElement) error {
	if err := t.conn.SetDeleteElements(s, elements); err != nil {
		return fmt.Errorf("encode an element of nftables set %q: %w", s.Name, err)
	}
	err := t.flush(fmt.Sprintf("remove an element of nftables set %q", s.Name))
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

func (t *Table) flush(what string) error {
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("%s: %w", what, classify(err))
	}
	return nil
}

const kernelNeeds = "the kernel lacks nftables with NAT: CONFIG_NF_TABLES_INET, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_CT, CONFIG_NFT_FIB_INET"

// classify gives errors of a kernel without nftables or NAT their class.
func classify(err error) error {
	for _, missing := range []error{syscall.EOPNOTSUPP, syscall.EPROTONOSUPPORT, syscall.EAFNOSUPPORT} {
		if errors.Is(err, missing) {
			return fmt.Errorf("%w (%s): %w", err, kernelNeeds, containerizer.ErrUnsupported)
		}
	}
	return err
}

// ErrTaken is a published port that the table maps elsewhere already.
var ErrTaken = fmt.Errorf("the host port is published for another container: %w", containerizer.ErrAlreadyExists)

// Mapping sends packets for a port of the host to a port of a container.
type Mapping struct {
	Protocol containerizer.Protocol
	// Host is the address and port; an unspecified address stands for all of its family.
	Host netip.AddrPort
	// Container is the destination, of the same family.
	Container netip.AddrPort
}

// Publish adds mappings, all or none. One that is there already is fine.
func (t *Table) Publish(mappings []Mapping) error {
	if len(mappings) == 0 {
		return nil
	}
	for _, m := range mappings {
		s, e, err := t.sets.element(m)
		if err != nil {
			return err
		}
		if err := t.conn.SetAddElements(s, []nftables.SetElement{e}); err != nil {
			return fmt.Errorf("encode port mapping %v: %w", m, err)
		}
	}
	err := t.flush("publish ports")
	if errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("%w: %w", ErrTaken, err)
	}
	return err
}

// Unpublish removes the mappings that are as given; others are left alone.
func (t *Table) Unpublish(mappings []Mapping) error {
	for _, m := range mappings {
		s, e, err := t.sets.element(m)
		if err != nil {
			return err
		}
		present, exists, err := t.elements(s)
		if err != nil || !exists {
			return err // no table, no mappings
		}
		for _, p := range present {
			if string(p.Key) != string(e.Key) || string(p.Val) != string(e.Val) {
				continue
			}
			if err := t.remove(s, nftables.SetElement{Key: e.Key}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Published lists the mappings of all networks.
func (t *Table) Published() ([]Mapping, error) {
	var out []Mapping
	for _, s := range t.sets.maps() {
		elements, exists, err := t.elements(s)
		if err != nil || !exists {
			return nil, err
		}
		for _, e := range elements {
			if m, ok := t.sets.mapping(s, e); ok {
				out = append(out, m)
			}
		}
	}
	return out, nil
}
