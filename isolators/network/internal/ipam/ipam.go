package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/berth-dev/berth/containerizer"
)

const (
	lockName   = "lock"
	lastPrefix = "last_reserved_ip."
	// separator is what host-local writes between the id and the interface.
	separator = "\r\n"
)

// Owner is who an address is for.
type Owner struct {
	ID     string // CNI container id
	IfName string
}

func (o Owner) String() string { return o.ID + separator + o.IfName }

// Store holds the addresses of one network.
type Store struct{ dir string }

// Open returns the store of network below dir. Nothing is created before the
// first reservation.
func Open(dir, network string) *Store { return &Store{dir: filepath.Join(dir, network)} }

// Gateway is the address of subnet that the network's bridge takes.
func Gateway(subnet netip.Prefix) netip.Addr { return subnet.Masked().Addr().Next() }

// Reserve gives owner one address of each subnet, in their order. A valid want
// that lies in the subnet is taken instead of the next free one. On error nothing
// stays reserved. Errors: ErrInvalid for a want that no subnet can give,
// ErrAlreadyExists for one in use, ErrResourceExhausted for a full subnet.
func (s *Store) Reserve(owner Owner, subnets []netip.Prefix, want []netip.Addr) (addrs []netip.Addr, err error) {
	unlock, err := s.lockOrMake()
	if err != nil {
		return nil, err
	}
	defer unlock()
	defer func() {
		if err != nil {
			for _, a := range addrs {
				err = errors.Join(err, os.Remove(s.path(a)))
			}
			addrs = nil
		}
	}()
	for _, w := range want {
		if err := checkWanted(w, subnets); err != nil {
			return nil, err
		}
	}
	for i, subnet := range subnets {
		addr, err := s.reserveIn(owner, i, subnet, want)
		if err != nil {
			return addrs, err
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

func checkWanted(w netip.Addr, subnets []netip.Prefix) error {
	for _, subnet := range subnets {
		if !subnet.Contains(w) {
			continue
		}
		if first, last := bounds(subnet); w.Less(first) || last.Less(w) {
			return fmt.Errorf("address %s of %s is the network's own: %w", w, subnet, containerizer.ErrInvalid)
		}
		return nil
	}
	return fmt.Errorf("address %s is in no subnet of the network %v: %w", w, subnets, containerizer.ErrInvalid)
}

func (s *Store) reserveIn(owner Owner, index int, subnet netip.Prefix, want []netip.Addr) (netip.Addr, error) {
	for _, w := range want {
		if !subnet.Contains(w) {
			continue
		}
		taken, err := s.take(owner, w)
		if err == nil && !taken {
			err = fmt.Errorf("address %s is in use: %w", w, containerizer.ErrAlreadyExists)
		}
		return w, err
	}
	first, last := bounds(subnet)
	start := s.last(index).Next()
	if !start.IsValid() || start.Less(first) || last.Less(start) {
		start = first
	}
	for addr := start; ; {
		taken, err := s.take(owner, addr)
		if err != nil {
			return netip.Addr{}, err
		}
		if taken {
			return addr, s.write(lastPrefix+strconv.Itoa(index), addr.String())
		}
		if addr = addr.Next(); last.Less(addr) {
			addr = first
		}
		if addr == start {
			return netip.Addr{}, fmt.Errorf("every address of %s is in use (%s): %w", subnet, s.dir, containerizer.ErrResourceExhausted)
		}
	}
}

// bounds returns the first and the last address for containers.
func bounds(subnet netip.Prefix) (first, last netip.Addr) {
	subnet = subnet.Masked()
	b := subnet.Addr().AsSlice()
	for i := subnet.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ = netip.AddrFromSlice(b)
	if subnet.Addr().Is4() {
		last = last.Prev() // the broadcast address
	}
	return Gateway(subnet).Next(), last
}

// take makes the file of addr; it is false when another one has it. A file
// without an owner was left by a process that was killed: the lock is ours.
func (s *Store) take(owner Owner, addr netip.Addr) (bool, error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if info, err := os.Stat(s.path(addr)); err == nil && info.Size() == 0 {
		flags = os.O_WRONLY
	}
	f, err := os.OpenFile(s.path(addr), flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reserve address %s: %w", addr, err)
	}
	_, err = f.WriteString(owner.String())
	if err = errors.Join(err, f.Close()); err != nil {
		return false, errors.Join(fmt.Errorf("reserve address %s: %w", addr, err), os.Remove(s.path(addr)))
	}
	return true, nil
}

// last is the address reserved last in the subnet of that index, the zero
// address when there is none.
func (s *Store) last(index int) netip.Addr {
	b, err := os.ReadFile(filepath.Join(s.dir, lastPrefix+strconv.Itoa(index)))
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.ParseAddr(strings.TrimSpace(string(b))) // damaged: begin at the first
	return addr
}

func (s *Store) write(name, content string) error {
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		return fmt.Errorf("note the last address: %w", err)
	}
	return nil
}

func (s *Store) path(addr netip.Addr) string { return filepath.Join(s.dir, addr.String()) }

// Release gives up every address of owner. Hints are tried first; the whole
// store is searched only when none of them is owner's.
func (s *Store) Release(owner Owner, hints ...netip.Addr) error {
	unlock, err := s.lock(os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nobody ever had an address
	}
	if err != nil {
		return err
	}
	defer unlock()
	found := false
	for _, addr := range hints {
		if addr.IsValid() && s.owner(addr.String()) == owner.String() {
			found = true
			if err := os.Remove(s.path(addr)); err != nil {
				return fmt.Errorf("release address %s: %w", addr, err)
			}
		}
	}
	if found {
		return nil
	}
	return s.each(func(addr netip.Addr, o string) error {
		if o != owner.String() {
			return nil
		}
		if err := os.Remove(s.path(addr)); err != nil {
			return fmt.Errorf("release address %s: %w", addr, err)
		}
		return nil
	})
}

// Addresses returns who holds what.
func (s *Store) Addresses() (map[netip.Addr]Owner, error) {
	held := map[netip.Addr]Owner{}
	err := s.each(func(addr netip.Addr, o string) error {
		id, ifName, _ := strings.Cut(o, separator)
		held[addr] = Owner{ID: id, IfName: ifName}
		return nil
	})
	return held, err
}

func (s *Store) each(f func(netip.Addr, string) error) error {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, e := range entries {
		addr, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue // lock, last_reserved_ip
		}
		if err := f(addr, s.owner(e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) owner(name string) string {
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// lockOrMake makes the store when it is missing and takes its lock.
func (s *Store) lockOrMake() (unlock func(), err error) {
	unlock, err = s.lock(os.O_RDWR | os.O_CREATE)
	if !errors.Is(err, fs.ErrNotExist) {
		return unlock, err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("create address store: %w", err)
	}
	return s.lock(os.O_RDWR | os.O_CREATE)
}

func (s *Store) lock(flags int) (unlock func(), err error) {
	path := filepath.Join(s.dir, lockName)
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open address store: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %q: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing releases the lock; nothing was written
}
