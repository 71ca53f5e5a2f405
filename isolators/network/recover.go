package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/bridge"
)

// Recover releases what belongs to none of the live containers: attachments (also
// those from before a reboot, for plug-ins that keep state on disk), files, ports,
// addresses and rules.
func (i *Isolator) Recover(ctx context.Context, live []*containerizer.Container) ([]containerizer.ContainerID, error) {
	names, owners := map[string]bool{}, map[string]bool{}
	for _, c := range live {
		names[fileName(c.ID)], owners[cniID(c.ID)] = true, true
	}
	var orphans []containerizer.ContainerID
	found, err := i.strangers(names)
	if err != nil {
		return nil, err
	}
	var errs error
	for _, id := range found {
		if err := i.Cleanup(ctx, &containerizer.Container{ID: id, Ledger: noLedger{}}); err != nil {
			errs = errors.Join(errs, fmt.Errorf("container %q, which is no more: %w", id.Short(), err))
			continue
		}
		orphans = append(orphans, id)
	}
	if _, err := os.Stat(filepath.Join(i.opts.StateDir, "network")); errors.Is(err, fs.ErrNotExist) {
		return orphans, errs // nothing was ever done here
	}
	errs = errors.Join(errs, i.exec.bridge.Recover(func(owner string) bool { return owners[owner] }, i.defaultSubnets()))
	return orphans, errors.Join(errs, i.retireDefault(ctx))
}

// retireDefault removes the bridge of the generated network while nobody uses it.
func (i *Isolator) retireDefault(ctx context.Context) error {
	list, err := i.readDefault()
	if err != nil || list == nil {
		return err
	}
	config, err := pluginConfig(list)
	if err != nil {
		return err
	}
	if err := i.exec.bridge.Retire(ctx, config); err != nil {
		return fmt.Errorf("remove the idle bridge of network %q: %w", DefaultNetwork, err)
	}
	return nil
}

// strangers lists the containers that have attachments or files and no name in live.
func (i *Isolator) strangers(live map[string]bool) ([]containerizer.ContainerID, error) {
	var out []containerizer.ContainerID
	seen := map[string]bool{}
	for _, dir := range []string{i.recordDir(), filepath.Dir(i.folder("x"))} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list containers with a network: %w", err)
		}
		for _, e := range entries {
			name := strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".new"), ".json")
			if live[name] || seen[name] {
				continue
			}
			seen[name] = true
			out = append(out, i.recordedID(name))
		}
	}
	return out, nil
}

// recordedID is the id behind a file's name, which may be a hash of it.
func (i *Isolator) recordedID(name string) containerizer.ContainerID {
	if rec, err := i.load(containerizer.ContainerID(name)); err == nil && rec.ID != "" {
		return rec.ID
	}
	return containerizer.ContainerID(name)
}

// defaultSubnets are those of the generated network, none before it exists.
func (i *Isolator) defaultSubnets() []netip.Prefix {
	list, err := i.readDefault()
	if err != nil || list == nil {
		return nil
	}
	var c bridge.Config
	if json.Unmarshal(list.Plugins[0].Bytes, &c) != nil {
		return nil
	}
	return c.Subnets
}

// noLedger stands for the ledger of a container that is gone.
type noLedger struct{}

// Acquire implements containerizer.Ledger.
func (noLedger) Acquire(string, string) error { return nil }

// Release implements containerizer.Ledger.
func (noLedger) Release(string, string) error { return nil }

// Held implements containerizer.Ledger.
func (noLedger) Held(string) []string { return nil }
