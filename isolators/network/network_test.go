package network_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/network"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

func TestConformance(t *testing.T) {
	nettest.Need(t)
	n := newNode(t)
	refused := func(change func(s *containerizer.Spec)) func() *containerizer.Spec {
		return func() *containerizer.Spec {
			s := withImage(containerizer.Network{})
			change(s)
			return s
		}
	}
	port := func(p ...containerizer.PortMapping) func() *containerizer.Spec {
		return refused(func(s *containerizer.Spec) { s.Network.Ports = p })
	}
	isolatortest.Run(t, isolatortest.Config{
		New: func(t *testing.T) containerizer.Isolator { t.Helper(); return n.isolator(t) },
		Spec: func() *containerizer.Spec {
			return withImage(containerizer.Network{
				Ports:      []containerizer.PortMapping{{ContainerPort: 80}, {ContainerPort: 53, Protocol: "udp", HostIP: "127.0.0.1"}},
				ExtraHosts: []string{"db:10.0.0.1", "host:host-gateway"},
				DNSServers: []string{"192.0.2.53"},
			})
		},
		ChildSpec: func() *containerizer.Spec { // one that shares acquires nothing; see TestShared
			s := withImage(containerizer.Network{})
			s.Namespaces.Network.Mode = containerizer.NamespacePrivate
			return s
		},
		Leftovers: n.leftovers,
		Acquires:  true,
		Refused: map[string]func() *containerizer.Spec{
			"host name":      refused(func(s *containerizer.Spec) { s.Network.Hostname = "a\n127.0.0.1 bank" }),
			"long host name": refused(func(s *containerizer.Spec) { s.Network.Hostname = strings.Repeat("a", 65) }),
			"domain name":    refused(func(s *containerizer.Spec) { s.Network.Domainname = "a b" }),
			"host name in host's uts": refused(func(s *containerizer.Spec) {
				s.Network.Hostname = "a"
				s.Namespaces.UTS.Mode = containerizer.NamespaceHost
			}),
			"DNS server":              refused(func(s *containerizer.Spec) { s.Network.DNSServers = []string{"dns.example"} }),
			"DNS search":              refused(func(s *containerizer.Spec) { s.Network.DNSSearch = []string{"a\nnameserver 1.1.1.1"} }),
			"DNS option":              refused(func(s *containerizer.Spec) { s.Network.DNSOptions = []string{"a b"} }),
			"host entry":              refused(func(s *containerizer.Spec) { s.Network.ExtraHosts = []string{"db"} }),
			"host entry's address":    refused(func(s *containerizer.Spec) { s.Network.ExtraHosts = []string{"db:x"} }),
			"host entry's name":       refused(func(s *containerizer.Spec) { s.Network.ExtraHosts = []string{"a b:10.0.0.1"} }),
			"gateway without network": refused(func(s *containerizer.Spec) { s.Network.None = true; s.Network.ExtraHosts = []string{"h:host-gateway"} }),
			"container port 0":        port(containerizer.PortMapping{}),
			"protocol":                port(containerizer.PortMapping{ContainerPort: 1, Protocol: "icmp"}),
			"host address":            port(containerizer.PortMapping{ContainerPort: 1, HostIP: "localhost"}),
			"port twice":              port(containerizer.PortMapping{ContainerPort: 1, HostPort: 8080}, containerizer.PortMapping{ContainerPort: 2, HostPort: 8080, Protocol: "tcp"}),
			"port without network": refused(func(s *containerizer.Spec) {
				s.Network.None = true
				s.Network.Ports = []containerizer.PortMapping{{ContainerPort: 1}}
			}),
			"network in host's": refused(func(s *containerizer.Spec) {
				s.Namespaces.Network.Mode = containerizer.NamespaceHost
				s.Network.Networks = []containerizer.NetworkAttachment{{}}
			}),
			"parent of a root":   refused(func(s *containerizer.Spec) { s.Namespaces.Network.Mode = containerizer.NamespaceParent }),
			"nameless container": refused(func(s *containerizer.Spec) { s.Namespaces.Network.Mode = containerizer.NamespaceContainer }),
			"unknown mode":       refused(func(s *containerizer.Spec) { s.Namespaces.Network.Mode = "x" }),
			"interface twice": refused(func(s *containerizer.Spec) {
				s.Network.Networks = []containerizer.NetworkAttachment{{IfName: "eth0"}, {IfName: "eth0"}}
			}),
			"address": refused(func(s *containerizer.Spec) {
				s.Network.Networks = []containerizer.NetworkAttachment{{IPs: []string{"x"}}}
			}),
			"hardware address": refused(func(s *containerizer.Spec) { s.Network.Networks = []containerizer.NetworkAttachment{{MAC: "x"}} }),
			"alias": refused(func(s *containerizer.Spec) {
				s.Network.Networks = []containerizer.NetworkAttachment{{Aliases: []string{"a b"}}}
			}),
			"argument": refused(func(s *containerizer.Spec) {
				s.Network.Networks = []containerizer.NetworkAttachment{{Args: map[string]string{"A": "b;IP=1"}}}
			}),
			"shared with ports": refused(func(s *containerizer.Spec) {
				s.Namespaces.Network = containerizer.Namespace{Mode: containerizer.NamespaceContainer, Container: "x"}
				s.Network.Ports = []containerizer.PortMapping{{ContainerPort: 1}}
			}),
			"shared with DNS": refused(func(s *containerizer.Spec) {
				s.Namespaces.Network = containerizer.Namespace{Mode: containerizer.NamespaceContainer, Container: "x"}
				s.Network.DNSServers = []string{"192.0.2.1"}
			}),
		},
	})
}

func TestDefaultNetwork(t *testing.T) {
	n := newNode(t)
	c := n.run(t, withImage(containerizer.Network{
		Hostname: "web", Domainname: "example.org",
		Ports:      []containerizer.PortMapping{{ContainerPort: 80}, {ContainerPort: 80, HostPort: 18080, HostIP: "127.0.0.1"}},
		ExtraHosts: []string{"db:192.0.2.7", "v6=[fd00::7]", "host.internal:host-gateway"},
		Networks:   []containerizer.NetworkAttachment{{Aliases: []string{"www"}}},
	}))
	s := n.status(t, c)
	if len(s.Networks) != 1 || len(s.Networks[0].IPs) != 1 || len(s.Networks[0].Gateways) != 1 || len(s.Ports) != 2 {
		t.Fatalf("Status() = %+v", s)
	}
	ip, _, err := net.ParseCIDR(s.Networks[0].IPs[0])
	if err != nil {
		t.Fatal(err)
	}
	wantHosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n" +
		"192.0.2.7\tdb\nfd00::7\tv6\n" + s.Networks[0].Gateways[0] + "\thost.internal\n" + ip.String() + "\tweb.example.org web www\n"
	if diff := cmp.Diff(wantHosts, c.file(t, "/etc/hosts")); diff != "" {
		t.Errorf("/etc/hosts (-want +got):\n%s", diff)
	}
	if got := c.file(t, "/etc/hostname"); got != "web\n" {
		t.Errorf("/etc/hostname = %q", got)
	}
	if got, want := c.file(t, "/etc/resolv.conf"), "search example.org\nnameserver 198.51.100.53\n"; got != want {
		t.Errorf("/etc/resolv.conf = %q, want %q", got, want)
	}
	c.info.Mounts = nil
	want := &containerizer.LaunchInfo{
		Hostname: "web", Domainname: "example.org", LoopbackUp: true, Barrier: true,
		Sysctl: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"},
	}
	if diff := cmp.Diff(want, c.info); diff != "" {
		t.Errorf("launch information (-want +got):\n%s", diff)
	}
	c.ns.Serve(t, "tcp", "0.0.0.0:80")
	for _, p := range s.Ports {
		if _, err := nettest.Dial("tcp", fmt.Sprint("127.0.0.1:", p.HostPort)); err != nil {
			t.Errorf("published port %+v: %v", p, err)
		}
	}
	var u containerizer.Usage
	if err := n.isolator(t).Usage(t.Context(), c.Container, &u); err != nil || len(u.Network) != 1 || u.Network[0].Interface != "eth0" || u.Network[0].RxBytes == 0 {
		t.Errorf("Usage() = %+v, %v", u.Network, err)
	}
	if _, err := n.isolator(t).Prepare(t.Context(), isolatortest.NewContainer(t, withImage(containerizer.Network{
		Ports: []containerizer.PortMapping{{ContainerPort: 80, HostPort: 18080}},
	})).Container); !errors.Is(err, containerizer.ErrAlreadyExists) {
		t.Errorf("Prepare() with a taken port = %v, want ErrAlreadyExists", err)
	}
}

func TestModes(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	const local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
	const none = "(no mount)"
	for name, c := range map[string]struct {
		change                       func(s *containerizer.Spec)
		hosts, hostname, resolv, uts string
		loopback                     bool
	}{
		"none": {
			change: func(s *containerizer.Spec) { s.Network.None = true; s.Network.Hostname = "web" },
			hosts:  local + "127.0.0.1\tweb\n", hostname: "web\n", resolv: "search example.org\nnameserver 198.51.100.53\n", uts: "web", loopback: true,
		},
		"host": {
			change: func(s *containerizer.Spec) {
				s.Namespaces.Network.Mode = containerizer.NamespaceHost
				s.Network.ExtraHosts = []string{"h:host-gateway"}
				s.Network.Ports = []containerizer.PortMapping{{ContainerPort: 80, HostPort: 80}} // as the kubelet names them
			},
			hosts: "127.0.0.1 localhost\n192.0.2.9 host.example\n127.0.0.1\th\n", hostname: host + "\n", resolv: "search example.org\nnameserver 198.51.100.53\n", uts: host,
		},
		"host with the host's root": {
			change: func(s *containerizer.Spec) {
				s.Namespaces.Network.Mode = containerizer.NamespaceHost
				s.Image, s.RootfsPath = nil, "/"
			},
			hosts: none, hostname: none, resolv: none, uts: host,
		},
		"host's uts": {
			change: func(s *containerizer.Spec) {
				s.Network.None = true
				s.Namespaces.UTS.Mode = containerizer.NamespaceHost
			},
			hosts: local + "127.0.0.1\tberthtest-XX\n", hostname: host + "\n", resolv: "search example.org\nnameserver 198.51.100.53\n", loopback: true,
		},
		"path": {
			change: func(s *containerizer.Spec) {
				s.Namespaces.Network = containerizer.Namespace{Mode: containerizer.NamespacePath, Path: "/proc/self/ns/net"}
				s.Network.Hostname, s.Network.DNSServers, s.Network.DNSOptions, s.Network.DNSSearch = "web", []string{"192.0.2.1"}, []string{"ndots:2"}, []string{"."}
			},
			hosts: local, hostname: "web\n", resolv: "nameserver 192.0.2.1\noptions ndots:2\n", uts: "web",
		},
		"files as in the image": {
			change: func(s *containerizer.Spec) {
				s.Network = containerizer.Network{None: true, Hostname: "web", NoHosts: true, NoHostname: true, NoResolvConf: true}
			},
			hosts: none, hostname: none, resolv: none, uts: "web", loopback: true,
		},
		"covered by mounts of the user": {
			change: func(s *containerizer.Spec) {
				s.Network = containerizer.Network{None: true, Hostname: "web"}
				for _, d := range []string{"/etc/hosts", "/etc//hostname", "/etc/resolv.conf/"} {
					s.Mounts = append(s.Mounts, containerizer.Mount{Type: containerizer.MountBind, Source: "/dev/null", Destination: d})
				}
			},
			hosts: none, hostname: none, resolv: none, uts: "web", loopback: true,
		},
		"without root filesystem": {
			change: func(s *containerizer.Spec) {
				s.Image, s.Class, s.Network = nil, containerizer.ClassPodSandbox, containerizer.Network{None: true, Hostname: "pod"}
			},
			hosts: none, hostname: none, resolv: none, uts: "pod", loopback: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			nettest.Need(t)
			n := newNode(t)
			spec := withImage(containerizer.Network{})
			c.change(spec)
			got := n.run(t, spec)
			replace := strings.NewReplacer(string(got.ID)[:12], "berthtest-XX")
			for destination, want := range map[string]string{"/etc/hosts": c.hosts, "/etc/hostname": c.hostname, "/etc/resolv.conf": c.resolv} {
				if diff := cmp.Diff(want, replace.Replace(got.file(t, destination))); diff != "" {
					t.Errorf("%s (-want +got):\n%s", destination, diff)
				}
			}
			if got.info.Hostname != c.uts || got.info.LoopbackUp != c.loopback || got.info.Barrier {
				t.Errorf("hostname %q, loopback %t, barrier %t; want %q, %t, false", got.info.Hostname, got.info.LoopbackUp, got.info.Barrier, c.uts, c.loopback)
			}
			if s := n.status(t, got); len(s.Networks)+len(s.Ports) > 0 {
				t.Errorf("Status() = %+v, want no networks and ports", s)
			}
		})
	}
}

// TestShared checks that children and joiners have the files of whose network
// they share.
func TestShared(t *testing.T) {
	n := newNode(t)
	pod := withImage(containerizer.Network{Hostname: "pod"})
	pod.Class, pod.Image = containerizer.ClassPodSandbox, nil
	root := n.run(t, pod)
	want := n.status(t, root).Networks[0].IPs[0]
	ip, _, _ := strings.Cut(want, "/")

	child := isolatortest.NewChild(t, root.Fixture, withImage(containerizer.Network{}))
	grandchild := isolatortest.NewChild(t, child, withImage(containerizer.Network{}))
	joiner := isolatortest.NewContainer(t, withImage(containerizer.Network{}))
	joiner.Spec.Namespaces.Network = containerizer.Namespace{Mode: containerizer.NamespaceContainer, Container: child.ID}
	joiner.Spec.ReadonlyRootfs = true
	second := isolatortest.NewContainer(t, withImage(containerizer.Network{}))
	second.Spec.Namespaces.Network = containerizer.Namespace{Mode: containerizer.NamespaceContainer, Container: joiner.ID}

	iso := n.isolator(t)
	for _, c := range []*isolatortest.Fixture{child, grandchild, joiner, second} {
		info, err := iso.Prepare(t.Context(), c.Container)
		if err != nil {
			t.Fatalf("Prepare(%s) = %v", c.ID, err)
		}
		t.Cleanup(func() {
			if err := n.isolator(t).Cleanup(context.WithoutCancel(t.Context()), c.Damaged()); err != nil {
				t.Errorf("Cleanup() = %v", err)
			}
		})
		if hosts := mounted(t, info, "/etc/hosts"); !strings.Contains(hosts, ip+"\tpod\n") {
			t.Errorf("/etc/hosts of %s:\n%s", c.ID, hosts)
		}
		wantName := "pod\n"
		if c.ID.IsRoot() { // shares the network, not the host name
			wantName = string(c.ID)[:12] + "\n"
			if info.Hostname+"\n" != wantName {
				t.Errorf("hostname of %s = %q", c.ID, info.Hostname)
			}
		} else if info.Hostname != "" {
			t.Errorf("child %s sets hostname %q in the pod's namespace", c.ID, info.Hostname)
		}
		if got := mounted(t, info, "/etc/hostname"); got != wantName {
			t.Errorf("/etc/hostname of %s = %q, want %q", c.ID, got, wantName)
		}
		if info.LoopbackUp || info.Barrier || len(info.Sysctl) > 0 {
			t.Errorf("launch information of %s configures a shared namespace: %+v", c.ID, info)
		}
		if c == joiner {
			if o := info.Mounts[0].Options; o[len(o)-1] != "ro" {
				t.Errorf("options %v, want read-only with a read-only root", o)
			}
		}
	}
	var s containerizer.Status
	if err := iso.Status(t.Context(), child.Container, &s); err != nil || len(s.Networks) != 1 || s.Networks[0].IPs[0] != want {
		t.Errorf("Status() of the child = %+v, %v; want address %s", s.Networks, err, want)
	}
}

func TestUserNamespaceOwnsFiles(t *testing.T) {
	nettest.Need(t)
	n := newNode(t)
	spec := withImage(containerizer.Network{None: true})
	spec.Namespaces.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	spec.Namespaces.GIDMappings = spec.Namespaces.UIDMappings
	c := n.run(t, spec)
	out := nettest.Run(t, "stat", "-c", "%u:%g", c.info.Mounts[0].Source)
	if strings.TrimSpace(out) != "100000:100000" {
		t.Errorf("owner of %s is %s", c.info.Mounts[0].Destination, out)
	}
	if _, set := c.info.Sysctl["net.ipv4.ping_group_range"]; set {
		t.Error("ping_group_range is set for unmapped groups")
	}
}

func TestSystemdResolved(t *testing.T) {
	nettest.Need(t)
	n := newNode(t)
	n.host(t, "etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0\nsearch a.example\n")
	n.host(t, "run/systemd/resolve/resolv.conf", "# comment\nnameserver 198.51.100.1\nnameserver fe80::1%eth0\nsearch b.example c.example\n")
	c := n.run(t, withImage(containerizer.Network{None: true}))
	if got, want := c.file(t, "/etc/resolv.conf"), "search b.example c.example\nnameserver 198.51.100.1\n"; got != want {
		t.Errorf("private network: resolv.conf %q, want %q", got, want)
	}
	spec := withImage(containerizer.Network{})
	spec.Namespaces.Network.Mode = containerizer.NamespaceHost
	c = n.run(t, spec)
	if got, want := c.file(t, "/etc/resolv.conf"), "search a.example\nnameserver 127.0.0.53\noptions edns0\n"; got != want {
		t.Errorf("host's network: resolv.conf %q, want %q", got, want)
	}
}

func TestParallel(t *testing.T) {
	nettest.Need(t)
	n := newNode(t)
	const count = 32
	var wg sync.WaitGroup
	errs := make([]error, count)
	fixtures := make([]*isolatortest.Fixture, count)
	spaces := make([]*nettest.Namespace, count)
	for k := range count {
		fixtures[k] = isolatortest.NewContainer(t, withImage(containerizer.Network{Ports: []containerizer.PortMapping{{ContainerPort: 80}}}))
		spaces[k] = nettest.New(t)
	}
	for k, c := range fixtures {
		wg.Go(func() {
			iso := n.isolator(t) // each as another process would
			_, err := iso.Prepare(t.Context(), c.Container)
			if err == nil {
				err = iso.Isolate(t.Context(), c.Container, spaces[k].PID())
			}
			errs[k] = err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if cables, ports := wires(t); len(cables) != count || len(ports) != count {
		t.Errorf("%d cables and %d ports, want %d each", len(cables), len(ports), count)
	}
	for k, c := range fixtures {
		wg.Go(func() { errs[k] = n.isolator(t).Cleanup(t.Context(), c.Damaged()) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if cables, ports := wires(t); len(cables)+len(ports) > 0 {
		t.Errorf("left after Cleanup: cables %v, ports %v", cables, ports)
	}
	for _, c := range fixtures {
		if left := n.leftovers(t, c.ID); len(left) > 0 {
			t.Errorf("left of %s: %q", c.ID, left)
		}
	}
}

func TestRecover(t *testing.T) {
	n := newNode(t)
	spec := func() *containerizer.Spec {
		return withImage(containerizer.Network{Ports: []containerizer.PortMapping{{ContainerPort: 80}}})
	}
	live, orphan := n.run(t, spec()), n.run(t, spec())
	found, err := n.isolator(t).Recover(t.Context(), []*containerizer.Container{live.Container})
	if err != nil || len(found) != 1 || found[0] != orphan.ID {
		t.Errorf("Recover() = %v, %v; want %s", found, err, orphan.ID)
	}
	if left := n.leftovers(t, orphan.ID); len(left) > 0 {
		t.Errorf("left of the orphan: %q", left)
	}
	if cables, ports := wires(t); len(cables) != 1 || len(ports) != 1 {
		t.Errorf("cables %v and ports %v, want those of the live container", cables, ports)
	}
	if !hasBridge(t) {
		t.Error("Recover removed the bridge of a live container")
	}
	// The state directory is lost, the attachments are kept: a reboot, as far as files go.
	if err := os.RemoveAll(n.opts.StateDir); err != nil {
		t.Fatal(err)
	}
	if found, err = n.isolator(t).Recover(t.Context(), nil); err != nil || len(found) != 1 || found[0] != live.ID {
		t.Errorf("Recover() after the loss of the state = %v, %v; want %s", found, err, live.ID)
	}
	if left := n.leftovers(t, live.ID); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestIdleBridge checks that Recover leaves nothing of a network that nobody uses.
func TestIdleBridge(t *testing.T) {
	n := newNode(t)
	if _, err := exec.LookPath("iptables"); err == nil {
		nettest.Need(t)
		nettest.Run(t, "iptables", "-P", "FORWARD", "DROP")
		t.Cleanup(func() {
			_ = exec.CommandContext(context.WithoutCancel(t.Context()), "iptables", "-P", "FORWARD", "ACCEPT").Run()
		})
	}
	c := n.run(t, withImage(containerizer.Network{}))
	c.ns.End()
	if err := n.isolator(t).Cleanup(t.Context(), c.Damaged()); err != nil {
		t.Fatal(err)
	}
	if !hasBridge(t) {
		t.Error("Cleanup removed the bridge")
	}
	for range 2 {
		if _, err := n.isolator(t).Recover(t.Context(), nil); err != nil {
			t.Fatalf("Recover() = %v", err)
		}
	}
	if hasBridge(t) {
		t.Error("the idle bridge is left")
	}
	if rules := nettest.Run(t, "nft", "list", "ruleset"); strings.Contains(rules, "berth") {
		t.Errorf("rules left:\n%s", rules)
	}
	n.run(t, withImage(containerizer.Network{})) // and it comes back
	if !hasBridge(t) {
		t.Error("the bridge did not come back")
	}
}

func hasBridge(t *testing.T) bool {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Type() == "bridge" })
}

// TestDamage checks Cleanup when files are lost or broken.
func TestDamage(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, n *node, c *container){
		"record lost": func(t *testing.T, n *node, _ *container) {
			t.Helper()
			if err := os.RemoveAll(filepath.Join(n.opts.RootDir, "network", "attachments")); err != nil {
				t.Fatal(err)
			}
		},
		"record broken": func(t *testing.T, n *node, c *container) {
			t.Helper()
			write(t, filepath.Join(n.opts.RootDir, "network", "attachments", string(c.ID)+".json"), "{")
		},
		"all of the root directory lost": func(t *testing.T, n *node, _ *container) {
			t.Helper()
			if err := os.RemoveAll(n.opts.RootDir); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			c := n.run(t, withImage(containerizer.Network{Ports: []containerizer.PortMapping{{ContainerPort: 80}}}))
			damage(t, n, c)
			c.ns.End()
			if err := n.isolator(t).Cleanup(t.Context(), c.Damaged()); err != nil {
				t.Fatalf("Cleanup() = %v", err)
			}
			if cables, ports := wires(t); len(cables)+len(ports) > 0 {
				t.Errorf("left: cables %v, ports %v", cables, ports)
			}
			if left := n.leftovers(t, c.ID); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

func TestName(t *testing.T) {
	if got := newNode(t).isolator(t).Name(); got != network.Name {
		t.Errorf("Name() = %q", got)
	}
}
