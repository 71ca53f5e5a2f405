package network_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/isolatortest"
	"github.com/berth-dev/berth/isolators/network/internal/nettest"
)

// realPlugins are those of containernetworking/plugins at the version of go.mod.
func realPlugins(t *testing.T, n *node) {
	t.Helper()
	nettest.Need(t)
	dir, err := plugins()
	if err != nil {
		t.Fatal(err)
	}
	n.opts.PluginDirs = append(n.opts.PluginDirs, dir)
}

func bridgeConf(n *node, backend string) string {
	return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"users","plugins":[
	{"type":"bridge","bridge":"users0","isGateway":true,"ipMasq":true,"ipMasqBackend":%q,"hairpinMode":true,"capabilities":{"ips":true},
	 "ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"10.77.0.0/24"}]],"routes":[{"dst":"0.0.0.0/0"}]},
	 "dns":{"nameservers":["10.77.0.1"],"search":["users.example"]}},
	{"type":"portmap","backend":%q,"snat":true,"capabilities":{"portMappings":true}},
	{"type":"tuning","sysctl":{"net.ipv4.conf.eth0.accept_redirects":"0"},"capabilities":{"mac":true}}]}`,
		backend, filepath.Join(n.opts.StateDir, "host-local"), backend)
}

// TestUserNetwork joins a network of the user made of the usual plug-ins.
func TestUserNetwork(t *testing.T) {
	for _, backend := range []string{"nftables", "iptables"} {
		t.Run(backend, func(t *testing.T) {
			if _, err := exec.LookPath(backend); backend == "iptables" && err != nil {
				t.Skipf("needs the program that the plug-ins call: %v", err)
			}
			n := newNode(t)
			realPlugins(t, n)
			n.conf(t, "10-broken.conflist", "{")
			n.conf(t, "20-users.conflist", bridgeConf(n, backend))
			n.conf(t, "30-single.conf", `{"cniVersion":"1.0.0","name":"single","type":"bridge","bridge":"single0","isGateway":true,"ipam":{"type":"host-local","dataDir":"`+filepath.Join(n.opts.StateDir, "host-local")+`","subnet":"10.78.0.0/24"}}`)
			c := n.run(t, withImage(containerizer.Network{
				Hostname: "web",
				Networks: []containerizer.NetworkAttachment{{Name: "users", IPs: []string{"10.77.0.77"}, MAC: "02:00:00:00:00:77"}, {Name: "single"}, {}},
				Ports:    []containerizer.PortMapping{{ContainerPort: 80}, {ContainerPort: 53, Protocol: "udp"}},
			}))
			s := n.status(t, c)
			if len(s.Networks) != 3 || s.Networks[0].IPs[0] != "10.77.0.77/24" || s.Networks[0].MAC != "02:00:00:00:00:77" || s.Networks[1].Interface != "eth1" || s.Networks[2].Name != "berth" {
				t.Fatalf("Status() = %+v", s.Networks)
			}
			if hosts := c.file(t, "/etc/hosts"); !strings.Contains(hosts, "10.77.0.77\tweb\n10.78.0.2\tweb\n") {
				t.Errorf("/etc/hosts:\n%s", hosts)
			}
			if got, want := c.file(t, "/etc/resolv.conf"), "search users.example\nnameserver 10.77.0.1\n"; got != want {
				t.Errorf("resolv.conf = %q, want %q", got, want)
			}
			c.ns.Serve(t, "tcp", "0.0.0.0:80")
			c.ns.Serve(t, "udp", "0.0.0.0:53")
			for k, network := range []string{"tcp", "udp"} {
				if _, err := nettest.Dial(network, fmt.Sprint("127.0.0.1:", s.Ports[k].HostPort)); err != nil {
					t.Errorf("published %s port: %v", network, err)
				}
			}
			// The configuration is gone when the container goes.
			if err := os.RemoveAll(n.opts.ConfigDirs[0]); err != nil {
				t.Fatal(err)
			}
			c.ns.End()
			if err := n.isolator(t).Cleanup(t.Context(), c.Damaged()); err != nil {
				t.Fatalf("Cleanup() = %v", err)
			}
			left, err := filepath.Glob(filepath.Join(n.opts.StateDir, "host-local", "*", "10.*"))
			if err != nil || len(left) > 0 {
				t.Errorf("addresses left: %q, %v", left, err)
			}
			rules := nettest.Run(t, "nft", "list", "ruleset")
			if strings.Contains(rules, "10.77.0.77") {
				t.Errorf("rules left:\n%s", rules)
			}
			nettest.Run(t, "nft", "flush", "ruleset")
		})
	}
}

func TestNetworkErrors(t *testing.T) {
	nettest.Need(t)
	n := newNode(t)
	n.conf(t, "a.conflist", `{"cniVersion":"1.0.0","name":"no-plugin","plugins":[{"type":"vanished"}]}`)
	n.conf(t, "b.conflist", `{"cniVersion":"1.0.0","name":"no-ipam","plugins":[{"type":"berth-bridge","ipam":{"type":"vanished-ipam"}}]}`)
	n.conf(t, "c.conflist", `{"cniVersion":"1.0.0","name":"no-ports","plugins":[{"type":"berth-bridge","bridge":"b0","subnets":["10.60.0.0/24"]}]}`)
	write(t, filepath.Join(n.opts.PluginDirs[0], "fails"), "#!/bin/sh\necho '{\"cniVersion\":\"1.0.0\",\"code\":7,\"msg\":\"no good\"}'; exit 1\n")
	write(t, filepath.Join(n.opts.PluginDirs[0], "dies"), "#!/bin/sh\necho oops >&2; exit 3\n")
	for _, p := range []string{"fails", "dies"} {
		if err := os.Chmod(filepath.Join(n.opts.PluginDirs[0], p), 0o755); err != nil {
			t.Fatal(err)
		}
		n.conf(t, p+".conflist", `{"cniVersion":"1.0.0","name":"`+p+`","plugins":[{"type":"`+p+`"}]}`)
	}
	for _, c := range []struct {
		network string
		ports   []containerizer.PortMapping
		class   error
		says    string
	}{
		{"missing", nil, containerizer.ErrNotFound, "there are berth, dies, fails, no-ipam, no-plugin, no-ports"},
		{"no-plugin", nil, containerizer.ErrUnsupported, `CNI plug-in "vanished" is in none of ` + n.opts.PluginDirs[0]},
		{"no-ipam", nil, containerizer.ErrUnsupported, "vanished-ipam"},
		{"no-ports", []containerizer.PortMapping{{ContainerPort: 80}}, containerizer.ErrInvalid, "portMappings"},
		{"fails", nil, containerizer.ErrInvalid, "no good"},
		{"dies", nil, nil, "oops"},
	} {
		t.Run(c.network, func(t *testing.T) {
			f := isolatortest.NewContainer(t, withImage(containerizer.Network{Networks: []containerizer.NetworkAttachment{{Name: c.network}}, Ports: c.ports}))
			iso := n.isolator(t)
			_, err := iso.Prepare(t.Context(), f.Container)
			if err == nil {
				err = iso.Isolate(t.Context(), f.Container, nettest.New(t).PID())
			}
			if err == nil || (c.class != nil && !errors.Is(err, c.class)) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want class %v and %q", err, c.class, c.says)
			}
			// A plug-in that fails DEL is owed until it does not.
			err = iso.Cleanup(t.Context(), f.Damaged())
			if failing := c.network == "fails" || c.network == "dies"; failing != (err != nil) {
				t.Errorf("Cleanup() = %v", err)
			}
			if err != nil {
				write(t, filepath.Join(n.opts.PluginDirs[0], c.network), "#!/bin/sh\nexit 0\n")
				if err := n.isolator(t).Cleanup(t.Context(), f.Damaged()); err != nil {
					t.Errorf("Cleanup() with a plug-in that works again = %v", err)
				}
			}
			if left := n.leftovers(t, f.ID); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			if held := f.Ledger.All(); len(held) > 0 {
				t.Errorf("ledger holds %v", held)
			}
		})
	}
}

// TestCapabilities checks what plug-ins are told, by one that writes it down.
func TestCapabilities(t *testing.T) {
	n := newNode(t)
	seen := filepath.Join(t.TempDir(), "seen")
	write(t, filepath.Join(n.opts.PluginDirs[0], "scribe"), `#!/bin/sh
[ "$CNI_COMMAND" = ADD ] && { env | grep ^CNI_ARGS; cat; } > `+seen+`
echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"x","mac":"02:00:00:00:00:01"}],"ips":[{"address":"10.1.2.3/24","interface":0}]}'
`)
	if err := os.Chmod(filepath.Join(n.opts.PluginDirs[0], "scribe"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.conf(t, "a.conflist", `{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"scribe","capabilities":{"dns":true,"aliases":true,"mac":true,"portMappings":true,"bandwidth":true}}]}`)
	c := n.run(t, withImage(containerizer.Network{
		DNSServers: []string{"192.0.2.1"}, DNSSearch: []string{"s.example"}, DNSOptions: []string{"ndots:1"},
		Ports: []containerizer.PortMapping{{ContainerPort: 80, HostPort: 18081, HostIP: "127.0.0.1"}},
		Networks: []containerizer.NetworkAttachment{{
			Name: "a", Aliases: []string{"www"}, MAC: "02:00:00:00:00:01", IPs: []string{"10.1.2.3"},
			Args: map[string]string{"K8S_POD_NAME": "p"}, Capability: map[string]any{"bandwidth": map[string]any{"egressRate": 1}},
		}},
	}))
	b, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	got := string(b)
	for _, want := range []string{
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.1.2.3\n", `"aliases":{"a":["www"]}`, `"mac":"02:00:00:00:00:01"`,
		`"dns":{"options":["ndots:1"],"searches":["s.example"],"servers":["192.0.2.1"]}`, `"bandwidth":{"egressRate":1}`,
		`"portMappings":[{"containerPort":80,"hostIP":"127.0.0.1","hostPort":18081,"protocol":"tcp"}]`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the plug-in was not told %s:\n%s", want, got)
		}
	}
	if s := n.status(t, c); s.Networks[0].MAC != "02:00:00:00:00:01" || s.Networks[0].IPs[0] != "10.1.2.3/24" {
		t.Errorf("Status() = %+v", s.Networks)
	}
	other := isolatortest.NewContainer(t, withImage(containerizer.Network{Networks: []containerizer.NetworkAttachment{{Name: "a", IPs: []string{"10.1.2.9"}}}}))
	iso := n.isolator(t)
	if _, err := iso.Prepare(t.Context(), other.Container); err != nil {
		t.Fatal(err)
	}
	if err := iso.Isolate(t.Context(), other.Container, c.ns.PID()); !errors.Is(err, containerizer.ErrUnsupported) || !strings.Contains(err.Error(), "10.1.2.9") {
		t.Errorf("Isolate() with another address than asked for = %v, want ErrUnsupported", err)
	}
	if err := iso.Cleanup(t.Context(), other.Container); err != nil {
		t.Error(err)
	}
	other.Spec = withImage(containerizer.Network{Networks: []containerizer.NetworkAttachment{{Name: "a"}}, ExtraHosts: []string{"h:host-gateway"}})
	if _, err := iso.Prepare(t.Context(), other.Container); err != nil {
		t.Fatal(err)
	}
	if err := iso.Isolate(t.Context(), other.Container, c.ns.PID()); !errors.Is(err, containerizer.ErrUnsupported) {
		t.Errorf("Isolate() with host-gateway and no gateway = %v, want ErrUnsupported", err)
	}
	if err := iso.Cleanup(t.Context(), other.Container); err != nil {
		t.Error(err)
	}
}

// TestHeldNamespace checks a pod sandbox without process, whose namespace somebody
// holds by a descriptor.
func TestHeldNamespace(t *testing.T) {
	nettest.Need(t)
	n := newNode(t)
	spec := withImage(containerizer.Network{})
	spec.Class, spec.Image = containerizer.ClassPodSandbox, nil
	f := isolatortest.NewContainer(t, spec)
	iso := n.isolator(t)
	if _, err := iso.Prepare(t.Context(), f.Container); err != nil {
		t.Fatal(err)
	}
	if err := iso.Isolate(t.Context(), f.Container, 0); !errors.Is(err, containerizer.ErrFailedPrecondition) {
		t.Errorf("Isolate() without namespace = %v, want ErrFailedPrecondition", err)
	}
	held, err := os.Open(nettest.New(t).Path())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	f.NamespacePath = func(containerizer.ContainerID, specs.LinuxNamespaceType) (string, error) {
		return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), held.Fd()), nil
	}
	if err := iso.Isolate(t.Context(), f.Container, 0); err != nil {
		t.Fatalf("Isolate() = %v", err)
	}
	var u containerizer.Usage
	if err := iso.Usage(t.Context(), f.Container, &u); err != nil || len(u.Network) != 1 || u.Network[0].Interface != "eth0" {
		t.Errorf("Usage() = %+v, %v", u.Network, err)
	}
	if err := iso.Cleanup(t.Context(), f.Container); err != nil {
		t.Errorf("Cleanup() = %v", err)
	}
	if cables, _ := wires(t); len(cables) > 0 {
		t.Errorf("left: %v", cables)
	}
}

// TestOddID checks ids that CNI and the file system would not take.
func TestOddID(t *testing.T) {
	nettest.Need(t)
	n := newNode(t)
	for _, id := range []containerizer.ContainerID{"_a(b)%", containerizer.ContainerID(strings.Repeat("x", 240) + ".child")} {
		f := isolatortest.NewContainer(t, withImage(containerizer.Network{Ports: []containerizer.PortMapping{{ContainerPort: 80}}}))
		f.ID = id
		iso := n.isolator(t)
		if _, err := iso.Prepare(t.Context(), f.Container); err != nil {
			t.Fatalf("Prepare(%s) = %v", id, err)
		}
		if err := iso.Isolate(t.Context(), f.Container, nettest.New(t).PID()); err != nil {
			t.Fatalf("Isolate(%s) = %v", id, err)
		}
		if found, err := n.isolator(t).Recover(t.Context(), nil); err != nil || len(found) != 1 || found[0] != id {
			t.Errorf("Recover() = %v, %v; want %s", found, err, id)
		}
	}
	if cables, ports := wires(t); len(cables)+len(ports) > 0 {
		t.Errorf("left: cables %v, ports %v", cables, ports)
	}
}
