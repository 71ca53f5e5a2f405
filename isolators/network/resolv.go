package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

// resolver is the content of a resolv.conf(5).
type resolver struct {
	servers, search, options []string
	// loopback are the servers left out because containers cannot reach them.
	loopback []string
}

// parseResolver reads a resolv.conf as glibc does: the last search or domain line
// counts, unknown lines are left out.
func parseResolver(text string) resolver {
	var r resolver
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		line, _, _ = strings.Cut(line, ";")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			r.servers = append(r.servers, words[1])
		case "search", "domain":
			r.search = words[1:]
		case "options":
			r.options = append(r.options, words[1:]...)
		}
	}
	return r
}

func (r *resolver) String() string {
	var b strings.Builder
	if len(r.search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.search, " "))
	}
	for _, s := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return b.String()
}

// resolvConf is the content of /etc/resolv.conf: the spec's settings, else those
// of the networks joined, else the host's.
func (i *Isolator) resolvConf(c *containerizer.Container, m mode, rec *record) (string, error) {
	n := &c.Spec.Network
	r, err := i.hostResolver(m)
	if err != nil {
		return "", err
	}
	if rec != nil {
		r.apply(rec.dns())
	}
	r.apply(types.DNS{Nameservers: n.DNSServers, Search: n.DNSSearch, Options: n.DNSOptions})
	if slices.Equal(r.search, []string{"."}) { // Docker's way to say none
		r.search = nil
	}
	if len(r.servers) == 0 && len(r.loopback) > 0 && m.kind == kindPrivate && !n.None {
		i.once("no DNS", func() {
			i.log.Warn("containers have no DNS server: those of the host listen on its loopback only; name one for the container", log.Strings("servers", r.loopback))
		})
	}
	return r.String(), nil
}

func (r *resolver) apply(d types.DNS) {
	if len(d.Nameservers) > 0 {
		r.servers, r.loopback = d.Nameservers, nil
	}
	switch {
	case len(d.Search) > 0:
		r.search = d.Search
	case d.Domain != "":
		r.search = []string{d.Domain}
	}
	if len(d.Options) > 0 {
		r.options = d.Options
	}
}

// hostResolver is the host's configuration, as far as it holds in a container: in
// a network namespace of its own the host's loopback cannot be reached. Where
// systemd-resolved listens there, its own file names the servers behind it.
func (i *Isolator) hostResolver(m mode) (resolver, error) {
	r, err := i.readResolver("etc/resolv.conf")
	if err != nil || m.kind == kindHost {
		return r, err
	}
	if reachable(r).servers == nil && slices.Contains(r.servers, "127.0.0.53") {
		behind, err := i.readResolver("run/systemd/resolve/resolv.conf")
		if err != nil {
			return r, err
		}
		if len(behind.servers) > 0 {
			r = behind
		}
	}
	return reachable(r), nil
}

// readResolver reads a file of the host; a missing one is empty.
func (i *Isolator) readResolver(name string) (resolver, error) {
	b, err := os.ReadFile(filepath.Join(i.opts.HostRoot, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return resolver{}, fmt.Errorf("read the host's DNS configuration: %w", err)
	}
	return parseResolver(string(b)), nil
}

// reachable leaves out servers on the loopback and those bound to an interface.
func reachable(r resolver) resolver {
	var out []string
	for _, s := range r.servers {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.IsLoopback() || addr.Zone() != "" {
			r.loopback = append(r.loopback, s)
			continue
		}
		out = append(out, s)
	}
	r.servers = out
	return r
}
