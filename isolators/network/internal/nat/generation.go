package nat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
)

// readAttempts bounds how often a list is read that changes meanwhile.
const readAttempts = 64

// consistent calls read until the ruleset of the host did not change meanwhile. A
// list longer than one message of the kernel's may lack elements otherwise, and the
// library does not tell (NLM_F_DUMP_INTR).
func (t *Table) consistent(read func() error) error {
	before, err := t.generation()
	if err != nil {
		return err
	}
	for range readAttempts {
		if err := read(); err != nil {
			return err
		}
		after, err := t.generation()
		if err != nil || after == before {
			return err
		}
		before = after
	}
	return fmt.Errorf("the nftables ruleset changed each of %d times it was read: %w", readAttempts, containerizer.ErrUnavailable)
}

// generation is the number of the host's ruleset; each transaction makes it another.
// It is asked for on a socket that stays open, since closing one waits for the
// kernel to free what was deleted (nft_rcv_nl_event), some 10 ms.
func (t *Table) generation() (uint32, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: t.asking}
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	msgs, err := req.Execute(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN)
	if errors.Is(err, syscall.EINVAL) { // no such subsystem (net/netfilter/nfnetlink.c)
		return 0, fmt.Errorf("read the generation of the nftables ruleset: %w (%s): %w", err, kernelNeeds, containerizer.ErrUnsupported)
	}
	if err != nil {
		return 0, fmt.Errorf("read the generation of the nftables ruleset: %w", classify(err))
	}
	for _, m := range msgs {
		attrs, err := nl.ParseRouteAttr(m[min(len(m), nl.SizeofNfgenmsg):])
		if err != nil {
			return 0, fmt.Errorf("read the generation of the nftables ruleset: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type&nl.NLA_TYPE_MASK == unix.NFTA_GEN_ID && len(a.Value) >= 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, fmt.Errorf("read the generation of the nftables ruleset: the kernel does not say: %w", containerizer.ErrUnsupported)
}
