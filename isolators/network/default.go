package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/bridge"
)

// candidates are the subnets the default network takes the first free one of. They
// stay clear of what others take by default: 10.88/16 (Podman), 10.96/12 and
// 10.244/16 (Kubernetes), 172.17/16 and up and 192.168/16 (Docker, homes).
func candidates() []netip.Prefix {
	var out []netip.Prefix
	for second := range 8 {
		for third := 0; third < 256; third += 16 {
			out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(80 + second), byte(third), 0}), 20))
		}
	}
	for third := range 256 {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(255 - third), 0}), 24))
	}
	return out
}

// bridgeName is berth0 for the usual state directory; each other one has a bridge
// of its own, as it has addresses of its own.
func (i *Isolator) bridgeName() string {
	if i.opts.StateDir == defaultStateDir {
		return "berth0"
	}
	sum := sha256.Sum256([]byte(i.opts.StateDir))
	return "berth" + hex.EncodeToString(sum[:4])
}

func (i *Isolator) defaultPath() string {
	return filepath.Join(i.opts.StateDir, "network", DefaultNetwork+".conflist")
}

// chooseAttempts bounds how often a subnet is chosen; each time somebody who is
// not of berth took the last one at that moment.
const chooseAttempts = 4

// defaultNetwork returns the generated network. Its subnet is chosen at first use
// and kept while the bridge exists; after a reboot it is chosen again. The bridge is
// made together with the choice, which from then on other nodes of the machine see.
func (i *Isolator) defaultNetwork(ctx context.Context) (*libcni.NetworkConfigList, error) {
	list, err := i.readDefault()
	if err == nil && list != nil && bridge.Exists(i.bridgeName()) {
		return list, nil
	}
	err = bridge.Exclusive(ctx, func() error {
		for attempt := 1; ; attempt++ {
			list, err = i.settleDefault()
			if !errors.Is(err, bridge.ErrOverlap) || attempt == chooseAttempts {
				return err
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("set up network %q: %w", DefaultNetwork, err)
	}
	return list, nil
}

// settleDefault makes the bridge of the generated network, which is generated anew
// where there is none or the host has begun to use its subnet. The caller has the
// lock.
func (i *Isolator) settleDefault() (*libcni.NetworkConfigList, error) {
	list, err := i.readDefault()
	if err != nil {
		return nil, err
	}
	if list == nil || (!bridge.Exists(i.bridgeName()) && !i.stillFree(list)) {
		if err := i.generateDefault(); err != nil {
			return nil, err
		}
		if list, err = i.readDefault(); err != nil {
			return nil, err
		}
	}
	config, err := pluginConfig(list)
	if err != nil {
		return nil, err
	}
	return list, bridge.Ensure(config)
}

// pluginConfig is the configuration of the plug-in of the generated network as
// libcni hands it over: with the name and version of the list.
func pluginConfig(list *libcni.NetworkConfigList) ([]byte, error) {
	plugin, err := libcni.InjectConf(list.Plugins[0], map[string]any{"name": list.Name, "cniVersion": list.CNIVersion})
	if err != nil {
		return nil, fmt.Errorf("read the generated network: %w", err)
	}
	return plugin.Bytes, nil
}

// readDefault returns nil when there is none or it is damaged.
func (i *Isolator) readDefault() (*libcni.NetworkConfigList, error) {
	b, err := os.ReadFile(i.defaultPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the generated network: %w", err)
	}
	list, err := libcni.NetworkConfFromBytes(b)
	if err != nil || len(list.Plugins) == 0 {
		return nil, nil //nolint:nilerr // a damaged file is generated anew
	}
	return list, nil
}

// stillFree says whether the host has not begun to use the subnet of list.
func (i *Isolator) stillFree(list *libcni.NetworkConfigList) bool {
	var c bridge.Config
	if json.Unmarshal(list.Plugins[0].Bytes, &c) != nil {
		return false
	}
	_, err := bridge.ChooseSubnet(c.Subnets, i.bridgeName(), i.hostServers())
	return err == nil
}

// hostServers are addresses that the default network must not hide from
// containers: the host's DNS servers.
func (i *Isolator) hostServers() []netip.Addr {
	r, err := i.hostResolver(mode{kind: kindPrivate})
	if err != nil {
		return nil // told where the file is made
	}
	var out []netip.Addr
	for _, s := range r.servers {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// generateDefault chooses a subnet and writes the network. The caller has the lock.
func (i *Isolator) generateDefault() error {
	subnet, err := bridge.ChooseSubnet(candidates(), i.bridgeName(), i.hostServers())
	if err != nil {
		return err
	}
	list := map[string]any{
		"cniVersion": "1.0.0",
		"name":       DefaultNetwork,
		"plugins": []any{map[string]any{
			"type": bridge.Type, "bridge": i.bridgeName(), "subnets": []netip.Prefix{subnet},
			"ipMasq": true, "isolate": true,
			"capabilities": map[string]bool{"portMappings": true, "ips": true, "mac": true},
		}},
	}
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return fmt.Errorf("encode network: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(i.defaultPath()), 0o700); err != nil {
		return fmt.Errorf("make the folder of networks: %w", err)
	}
	if err := os.WriteFile(i.defaultPath()+".new", append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write network: %w", err)
	}
	if err := os.Rename(i.defaultPath()+".new", i.defaultPath()); err != nil {
		return fmt.Errorf("write network: %w: %w", err, containerizer.ErrUnavailable)
	}
	return nil
}
