package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/berth-dev/berth/containerizer"
)

// find returns the network called name: a configuration of the user, else the
// generated default one.
func (i *Isolator) find(ctx context.Context, name string) (*libcni.NetworkConfigList, error) {
	var known []string
	var broken error
	for _, dir := range i.opts.ConfigDirs {
		files, err := libcni.ConfFiles(dir, []string{".conflist", ".conf", ".json"})
		if err != nil {
			return nil, fmt.Errorf("look for networks in %q: %w", dir, err)
		}
		slices.SortStableFunc(files, compareConfigs)
		for _, file := range files {
			list, err := readConfig(file)
			if err != nil { // another's broken file is no reason to fail
				broken = errors.Join(broken, err)
				continue
			}
			if list.Name == name {
				return list, nil
			}
			known = append(known, list.Name)
		}
	}
	if name == DefaultNetwork {
		return i.defaultNetwork(ctx)
	}
	slices.Sort(known)
	known = slices.Compact(append([]string{DefaultNetwork}, known...))
	err := fmt.Errorf("network %q is not configured in %s; there are %s: %w", name, strings.Join(i.opts.ConfigDirs, ", "), strings.Join(known, ", "), containerizer.ErrNotFound)
	return nil, errors.Join(err, broken)
}

// compareConfigs puts lists before single configurations, as libcni does.
func compareConfigs(a, b string) int {
	listA, listB := filepath.Ext(a) == ".conflist", filepath.Ext(b) == ".conflist"
	switch {
	case listA && !listB:
		return -1
	case listB && !listA:
		return 1
	}
	return strings.Compare(a, b)
}

func readConfig(file string) (*libcni.NetworkConfigList, error) {
	list, err := loadConfig(file)
	if err != nil {
		return nil, fmt.Errorf("read network configuration %q: %w: %w", file, err, containerizer.ErrInvalid)
	}
	return list, nil
}

// loadConfig reads a list, or a single configuration as a list of one.
func loadConfig(file string) (*libcni.NetworkConfigList, error) {
	if filepath.Ext(file) == ".conflist" {
		return libcni.NetworkConfFromFile(file)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var single types.PluginConf
	if err := json.Unmarshal(b, &single); err != nil {
		return nil, err
	}
	if single.Type == "" {
		return nil, errors.New("no plug-in type")
	}
	list, err := json.Marshal(map[string]any{"cniVersion": single.CNIVersion, "name": single.Name, "plugins": []json.RawMessage{b}})
	if err != nil {
		return nil, err
	}
	return libcni.NetworkConfFromBytes(list)
}

// takes says whether a plug-in of list takes a capability.
func takes(list *libcni.NetworkConfigList, capability string) bool {
	return slices.ContainsFunc(list.Plugins, func(p *libcni.PluginConfig) bool { return p.Network.Capabilities[capability] })
}

// checkPlugins looks every plug-in of list up, so that a missing one is told
// before anything runs.
func (i *Isolator) checkPlugins(list *libcni.NetworkConfigList) error {
	for _, p := range list.Plugins {
		for _, kind := range []string{p.Network.Type, p.Network.IPAM.Type} {
			if kind == "" && kind != p.Network.Type {
				continue
			}
			if _, err := i.exec.FindInPath(kind, i.opts.PluginDirs); err != nil {
				return fmt.Errorf("network %q: %w", list.Name, err)
			}
		}
	}
	return nil
}

// FirstNetwork returns the name of the first network that is configured in dirs, as
// container runtimes of Kubernetes choose the one of pods; "" when there is none. A
// configuration that cannot be read is an error: another network would be a surprise.
func FirstNetwork(dirs ...string) (string, error) {
	for _, dir := range dirs {
		files, err := libcni.ConfFiles(dir, []string{".conflist", ".conf", ".json"})
		if err != nil {
			return "", fmt.Errorf("look for networks in %q: %w", dir, err)
		}
		if len(files) == 0 {
			continue
		}
		slices.Sort(files)
		list, err := readConfig(files[0])
		if err != nil {
			return "", err
		}
		return list.Name, nil
	}
	return "", nil
}
