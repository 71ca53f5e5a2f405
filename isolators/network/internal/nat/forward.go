package nat

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// AllowForward lets packets of b pass the chain FORWARD of iptables, where that
// drops what it does not know (Docker and ufw set it so). An accept in a table of
// our own would not count against it. The two rules are such as iptables itself
// would write, so that it still understands its table; isolation stays, since a
// drop in our table counts as well.
func (t *Table) AllowForward(b Bridge) error {
	missing, err := t.missingRules(b)
	if err != nil || len(missing) == 0 {
		return err
	}
	for _, r := range missing {
		t.conn.InsertRule(r)
	}
	return t.flush(fmt.Sprintf("let bridge %q pass chain FORWARD of iptables", b.Name))
}

// ForwardAllowed says whether AllowForward has nothing to do.
func (t *Table) ForwardAllowed(b Bridge) (bool, error) {
	missing, err := t.missingRules(b)
	return len(missing) == 0, err
}

// ForbidForward takes back what AllowForward did.
func (t *Table) ForbidForward(b Bridge) error {
	chains, err := t.forwardChains(b)
	if err != nil {
		return err
	}
	for _, c := range chains {
		rules, err := t.forwardRules(c)
		if err != nil {
			return err
		}
		for _, r := range rules {
			if !accepts(r, expr.MetaKeyIIFNAME, b.Name) && !accepts(r, expr.MetaKeyOIFNAME, b.Name) {
				continue
			}
			if err := t.conn.DelRule(r); err != nil {
				return fmt.Errorf("encode the removal of a rule: %w", err)
			}
		}
	}
	return t.flush(fmt.Sprintf("remove bridge %q from chain FORWARD of iptables", b.Name))
}

func (t *Table) missingRules(b Bridge) ([]*nftables.Rule, error) {
	chains, err := t.forwardChains(b)
	if err != nil {
		return nil, err
	}
	var missing []*nftables.Rule
	for _, c := range chains {
		if c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		rules, err := t.forwardRules(c)
		if err != nil {
			return nil, err
		}
		for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			if slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return accepts(r, key, b.Name) }) {
				continue
			}
			missing = append(missing, &nftables.Rule{Table: c.Table, Chain: c, Exprs: []expr.Any{
				&expr.Meta{Key: key, Register: unix.NFT_REG_1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: ifnameKey(b.Name)},
				&expr.Counter{},
				&expr.Verdict{Kind: expr.VerdictAccept},
			}})
		}
	}
	return missing, nil
}

// forwardChains are the chains FORWARD of iptables for the families of b.
func (t *Table) forwardChains(b Bridge) ([]*nftables.Chain, error) {
	families := map[nftables.TableFamily]bool{}
	for _, s := range b.Subnets {
		if s.Addr().Is4() {
			families[nftables.TableFamilyIPv4] = true
		} else {
			families[nftables.TableFamilyIPv6] = true
		}
	}
	var out []*nftables.Chain
	for family := range families {
		var chains []*nftables.Chain
		err := t.consistent(func() (err error) {
			chains, err = t.conn.ListChainsOfTableFamily(family)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list nftables chains: %w", classify(err))
		}
		for _, c := range chains {
			if c.Table.Name == "filter" && c.Name == "FORWARD" {
				out = append(out, c)
			}
		}
	}
	return out, nil
}

func (t *Table) forwardRules(c *nftables.Chain) ([]*nftables.Rule, error) {
	var rules []*nftables.Rule
	err := t.consistent(func() (err error) {
		rules, err = t.conn.GetRules(c.Table, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list rules of iptables' chain FORWARD: %w", classify(err))
	}
	return rules, nil
}

// accepts says whether r accepts all packets of the interface.
func accepts(r *nftables.Rule, key expr.MetaKey, bridge string) bool {
	var named, accepting bool
	loaded := expr.MetaKey(0)
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Meta:
			loaded = e.Key
		case *expr.Cmp:
			if loaded != key || e.Op != expr.CmpOpEq || !bytes.Equal(bytes.TrimRight(e.Data, "\x00"), []byte(bridge)) {
				return false
			}
			named = true
		case *expr.Verdict:
			accepting = e.Kind == expr.VerdictAccept
		case *expr.Counter:
		default:
			return false
		}
	}
	return named && accepting
}
