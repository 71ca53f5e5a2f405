package nat

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"

	"github.com/berth-dev/berth/containerizer"
)

// sets are the parts of the table that change. The name of bridges carries the
// generation of the rules: with other rules it gets another name, and the table
// is made anew at the next launch.
type sets struct {
	bridges    *nftables.Set // ifname
	masquerade *nftables.Set // ifname
	isolated   *nftables.Set // ifname
	inside     *nftables.Set // ifname . ifname, a bridge with itself
	subnets4   *nftables.Set // address ranges of the bridges
	subnets6   *nftables.Set
	ports4     *nftables.Set // address . protocol . port : address . port
	ports4any  *nftables.Set // protocol . port : address . port
	ports6     *nftables.Set
	ports6any  *nftables.Set
}

func newSets(t *nftables.Table) sets {
	ifname := func(name string) *nftables.Set {
		return &nftables.Set{Table: t, Name: name, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	}
	ports := func(name string, data nftables.SetDatatype, key ...nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{
			Table: t, Name: name, IsMap: true, Concatenation: true,
			KeyType:  nftables.MustConcatSetType(key...),
			DataType: nftables.MustConcatSetType(data, nftables.TypeInetService),
		}
	}
	inside := ifname("inside")
	inside.Concatenation = true
	inside.KeyType = nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIFName)
	s := sets{
		bridges: ifname("bridges-1"), masquerade: ifname("masquerade"), isolated: ifname("isolated"), inside: inside,
		subnets4:  &nftables.Set{Table: t, Name: "subnets4", KeyType: nftables.TypeIPAddr, Interval: true},
		subnets6:  &nftables.Set{Table: t, Name: "subnets6", KeyType: nftables.TypeIP6Addr, Interval: true},
		ports4:    ports("ports4", nftables.TypeIPAddr, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
		ports4any: ports("ports4any", nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService),
		ports6:    ports("ports6", nftables.TypeIP6Addr, nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService),
		ports6any: ports("ports6any", nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService),
	}
	for i, set := range s.all() {
		set.ID = uint32(i + 1) // within one transaction; the library's own counter is not safe for concurrent use
	}
	return s
}

func (s *sets) all() []*nftables.Set {
	return append([]*nftables.Set{s.bridges, s.masquerade, s.isolated, s.inside, s.subnets4, s.subnets6}, s.maps()...)
}

func (s *sets) maps() []*nftables.Set {
	return []*nftables.Set{s.ports4, s.ports4any, s.ports6, s.ports6any}
}

// member says which elements belong in a set.
type member struct {
	set      *nftables.Set
	elements []nftables.SetElement
}

// members are the elements that stand for b.
func (s *sets) members(b Bridge) []member {
	key := ifnameKey(b.Name)
	one := func(set *nftables.Set, key []byte) member {
		return member{set, []nftables.SetElement{{Key: key}}}
	}
	out := []member{one(s.bridges, key), one(s.inside, append(append([]byte{}, key...), key...))}
	if b.Masquerade {
		out = append(out, one(s.masquerade, key))
	}
	if b.Isolate {
		out = append(out, one(s.isolated, key))
	}
	for _, p := range b.Subnets {
		set := s.subnets4
		if p.Addr().Is6() {
			set = s.subnets6
		}
		first := p.Masked().Addr().AsSlice()
		out = append(out, member{set, []nftables.SetElement{{Key: first}, {Key: beyond(first, p.Bits()), IntervalEnd: true}}})
	}
	return out
}

// beyond is the address after the last one of a subnet.
func beyond(first []byte, bits int) []byte {
	next := append([]byte{}, first...)
	for i := bits - 1; i >= 0; i-- {
		next[i/8] ^= 0x80 >> (i % 8)
		if next[i/8]&(0x80>>(i%8)) != 0 {
			break
		}
	}
	return next
}

// ifnameKey is the name padded to IFNAMSIZ.
func ifnameKey(name string) []byte {
	key := make([]byte, syscall.IFNAMSIZ)
	copy(key[:syscall.IFNAMSIZ-1], name)
	return key
}

// element returns the map that holds m, and its element. Each part of a
// concatenation is padded to four bytes.
func (s *sets) element(m Mapping) (*nftables.Set, nftables.SetElement, error) {
	host, dst := m.Host.Addr().Unmap(), m.Container.Addr().Unmap()
	proto, known := protocols(m.Protocol)
	if !known || !host.IsValid() || !dst.IsValid() || host.Is4() != dst.Is4() {
		return nil, nftables.SetElement{}, fmt.Errorf("map port %s/%s to %s: the families differ or the protocol is unknown: %w", m.Host, m.Protocol, m.Container, containerizer.ErrInvalid)
	}
	var key []byte
	if !host.IsUnspecified() {
		key = host.AsSlice()
	}
	key = append(key, proto, 0, 0, 0)
	key = append(binary.BigEndian.AppendUint16(key, m.Host.Port()), 0, 0)
	val := append(binary.BigEndian.AppendUint16(dst.AsSlice(), m.Container.Port()), 0, 0)
	set := s.ports4
	switch {
	case host.Is4() && host.IsUnspecified():
		set = s.ports4any
	case host.Is6() && host.IsUnspecified():
		set = s.ports6any
	case host.Is6():
		set = s.ports6
	}
	return set, nftables.SetElement{Key: key, Val: val}, nil
}

// mapping is the reverse of element; it is false for what element never makes.
func (s *sets) mapping(set *nftables.Set, e nftables.SetElement) (Mapping, bool) {
	size, host := 4, netip.IPv4Unspecified()
	if set == s.ports6 || set == s.ports6any {
		size, host = 16, netip.IPv6Unspecified()
	}
	key := e.Key
	if set == s.ports4 || set == s.ports6 {
		if len(key) < size {
			return Mapping{}, false
		}
		host, _ = netip.AddrFromSlice(key[:size])
		key = key[size:]
	}
	if len(key) != 8 || len(e.Val) != size+4 {
		return Mapping{}, false
	}
	dst, _ := netip.AddrFromSlice(e.Val[:size])
	m := Mapping{
		Host:      netip.AddrPortFrom(host, binary.BigEndian.Uint16(key[4:])),
		Container: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(e.Val[size:])),
	}
	for _, p := range []containerizer.Protocol{containerizer.ProtocolTCP, containerizer.ProtocolUDP, containerizer.ProtocolSCTP} {
		if n, _ := protocols(p); n == key[0] {
			m.Protocol = p
			return m, true
		}
	}
	return Mapping{}, false
}

func protocols(p containerizer.Protocol) (number byte, known bool) {
	switch p {
	case containerizer.ProtocolTCP:
		return syscall.IPPROTO_TCP, true
	case containerizer.ProtocolUDP:
		return syscall.IPPROTO_UDP, true
	case containerizer.ProtocolSCTP:
		return syscall.IPPROTO_SCTP, true
	}
	return 0, false
}
