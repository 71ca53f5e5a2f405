package nat

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers of 32 bits, so that the parts of a concatenation lie one after the
// other (include/uapi/linux/netfilter/nf_tables.h, NFT_REG32_00).
const (
	reg0 = unix.NFT_REG32_00
	reg1 = reg0 + 1
	reg2 = reg0 + 2
	reg4 = reg0 + 4
	reg5 = reg0 + 5
)

const (
	ipsDstNAT      = 1 << 5 // IPS_DST_NAT, linux/netfilter/nf_conntrack_common.h
	ctEstablished  = 1 << 1 // NF_CT_STATE_BIT(IP_CT_ESTABLISHED)
	ctRelated      = 1 << 2 // NF_CT_STATE_BIT(IP_CT_RELATED)
	offsetIPv4Src  = 12
	offsetIPv4Dst  = 16
	offsetIPv6Src  = 8
	offsetIPv6Dst  = 24
	offsetPortDst  = 2
	priorityRaw    = -300
	prioritySrcNAT = 100
	priorityDstNAT = -100
)

// addChains adds the chains and rules of the package comment to the transaction.
func (t *Table) addChains() {
	raw := t.chain("raw", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, priorityRaw)
	t.rule(raw, t.isIn(t.meta(expr.MetaKeyIIFNAME), t.sets.bridges), isIPv4(), loopback(offsetIPv4Dst), verdict(expr.VerdictDrop))

	for _, hook := range []struct {
		name string
		hook *nftables.ChainHook
	}{{"prerouting", nftables.ChainHookPrerouting}, {"output", nftables.ChainHookOutput}} {
		c := t.chain(hook.name, nftables.ChainTypeNAT, hook.hook, priorityDstNAT)
		t.rule(c, isIPv4(), load(expr.PayloadBaseNetworkHeader, offsetIPv4Dst, 4, reg0), portKey(reg1, reg2), dnat(t.sets.ports4, unix.NFPROTO_IPV4, reg1))
		t.rule(c, isIPv4(), toLocal(), portKey(reg0, reg1), dnat(t.sets.ports4any, unix.NFPROTO_IPV4, reg1))
		t.rule(c, isIPv6(), load(expr.PayloadBaseNetworkHeader, offsetIPv6Dst, 16, reg0), portKey(reg4, reg5), dnat(t.sets.ports6, unix.NFPROTO_IPV6, reg4))
		t.rule(c, isIPv6(), toLocal(), portKey(reg0, reg1), dnat(t.sets.ports6any, unix.NFPROTO_IPV6, reg4))
	}

	forward := t.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0)
	toIsolated := t.isIn(t.meta(expr.MetaKeyOIFNAME), t.sets.isolated)
	t.rule(forward, toIsolated, ct(expr.CtKeySTATE, ctEstablished|ctRelated), verdict(expr.VerdictAccept))
	t.rule(forward, toIsolated, ct(expr.CtKeySTATUS, ipsDstNAT), verdict(expr.VerdictAccept))
	t.rule(forward, t.isInside(), verdict(expr.VerdictAccept))
	t.rule(forward, toIsolated, verdict(expr.VerdictDrop))

	post := t.chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, prioritySrcNAT)
	toBridge := t.isIn(t.meta(expr.MetaKeyOIFNAME), t.sets.bridges)
	masquerade := []expr.Any{&expr.Masq{}}
	t.rule(post, toBridge, isIPv4(), loopback(offsetIPv4Src), masquerade)
	// From a container to itself or a neighbour by a published port: not by iifname,
	// which br_netfilter leaves out here.
	viaPort := ct(expr.CtKeySTATUS, ipsDstNAT)
	t.rule(post, isIPv4(), inSet(load(expr.PayloadBaseNetworkHeader, offsetIPv4Src, 4, unix.NFT_REG_1), t.sets.subnets4), toBridge, viaPort, masquerade)
	t.rule(post, isIPv6(), inSet(load(expr.PayloadBaseNetworkHeader, offsetIPv6Src, 16, unix.NFT_REG_1), t.sets.subnets6), toBridge, viaPort, masquerade)
	// iifname is known here since kernel 5.7.
	t.rule(post, t.isIn(t.meta(expr.MetaKeyIIFNAME), t.sets.masquerade), t.isNotIn(t.meta(expr.MetaKeyOIFNAME), t.sets.bridges), masquerade)
}

func (t *Table) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
	return t.conn.AddChain(&nftables.Chain{Table: t.table, Name: name, Type: kind, Hooknum: hook, Priority: &priority})
}

func (t *Table) rule(c *nftables.Chain, parts ...[]expr.Any) {
	var exprs []expr.Any
	for _, p := range parts {
		exprs = append(exprs, p...)
	}
	t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: c, Exprs: exprs})
}

func (t *Table) meta(key expr.MetaKey) expr.Any {
	return &expr.Meta{Key: key, Register: unix.NFT_REG_1}
}

func (t *Table) isIn(what expr.Any, s *nftables.Set) []expr.Any { return inSet([]expr.Any{what}, s) }

// inSet looks up what loads register 1.
func inSet(what []expr.Any, s *nftables.Set) []expr.Any {
	return append(what, &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: s.Name, SetID: s.ID})
}

func (t *Table) isNotIn(what expr.Any, s *nftables.Set) []expr.Any {
	return []expr.Any{what, &expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: s.Name, SetID: s.ID, Invert: true}}
}

// isInside matches what is forwarded from a bridge to itself (br_netfilter, and
// published ports reached from the same network).
func (t *Table) isInside() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: unix.NFT_REG_1},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: unix.NFT_REG_2},
		&expr.Lookup{SourceRegister: unix.NFT_REG_1, SetName: t.sets.inside.Name, SetID: t.sets.inside.ID},
	}
}

func isIPv4() []expr.Any { return isFamily(unix.NFPROTO_IPV4) }
func isIPv6() []expr.Any { return isFamily(unix.NFPROTO_IPV6) }

func isFamily(f byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1}, &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{f}}}
}

// loopback matches an address of 127.0.0.0/8 at offset.
func loopback(offset uint32) []expr.Any {
	return append(load(expr.PayloadBaseNetworkHeader, offset, 1, unix.NFT_REG_1), &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: []byte{127}})
}

// toLocal matches packets for an address of the host.
func toLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: unix.NFT_REG_1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
	}
}

func ct(key expr.CtKey, mask uint32) []expr.Any {
	zero := make([]byte, 4)
	return []expr.Any{
		&expr.Ct{Key: key, Register: unix.NFT_REG_1},
		&expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4, Mask: binary.NativeEndian.AppendUint32(nil, mask), Xor: zero},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: zero},
	}
}

func load(base expr.PayloadBase, offset, size, register uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: size}}
}

// portKey loads the transport protocol and the destination port.
func portKey(proto, port uint32) []expr.Any {
	return append([]expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: proto}}, load(expr.PayloadBaseTransportHeader, offsetPortDst, 2, port)...)
}

// dnat looks the key at reg0 up in the map and goes to the address at reg0 and
// the port at register port that it gives.
func dnat(s *nftables.Set, family, port uint32) []expr.Any {
	return []expr.Any{
		&expr.Lookup{SourceRegister: reg0, DestRegister: reg0, IsDestRegSet: true, SetName: s.Name, SetID: s.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: reg0, RegProtoMin: port, Specified: true},
	}
}

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }
