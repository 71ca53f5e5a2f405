package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-dev/berth/test/vm/internal/plan"
)

// moduleIndex reads all modules below dir and returns an index of the wanted ones,
// and the host's file for each path in the guest.
func moduleIndex(dir string) (*plan.Modules, map[string]string, error) {
	all, err := readModules(dir)
	if err != nil {
		return nil, nil, err
	}
	index := &plan.Modules{Files: map[string]plan.Module{}}
	files := map[string]string{}
	var add func(name string)
	add = func(name string) {
		if _, done := index.Files[name]; done {
			return
		}
		m := all[name]
		guest := "/lib/modules/" + name + ".ko"
		files[guest] = m.path
		// What is not there is compiled in.
		m.depends = slices.DeleteFunc(m.depends, func(d string) bool { return all[d] == nil })
		index.Files[name] = plan.Module{Path: guest, Depends: m.depends}
		for _, d := range m.depends {
			add(d)
		}
		for _, a := range m.aliases {
			index.Aliases = append(index.Aliases, plan.Alias{Pattern: a, Module: name})
		}
	}
	for name, m := range all {
		if wanted(strings.TrimPrefix(m.path, filepath.Join(dir, "kernel")+"/")) {
			add(name)
		}
	}
	return index, files, nil
}

// wanted tells whether the machine gets the module at path, relative to "kernel/",
// for its own sake: what a container runtime may ask for.
func wanted(path string) bool {
	for _, w := range []string{
		"fs/overlayfs", "fs/fuse",
		"net/8021q", "net/bridge", "net/core", "net/ipv4", "net/ipv6", "net/llc", "net/netfilter", "net/sched", "net/unix",
		"drivers/block/loop", "drivers/block/virtio_blk", "drivers/char/virtio_console", "drivers/virtio",
		"drivers/net/dummy", "drivers/net/ipvlan", "drivers/net/macvlan", "drivers/net/tun", "drivers/net/veth",
	} {
		if path == w+".ko" || strings.HasPrefix(path, w+"/") {
			return true
		}
	}
	return false
}

// readModules reads what all modules below dir say of themselves, by name.
func readModules(dir string) (map[string]*moduleInfo, error) {
	all := map[string]*moduleInfo{}
	err := filepath.WalkDir(filepath.Join(dir, "kernel"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".ko" {
			return err
		}
		info, err := readModule(path)
		if err != nil {
			return fmt.Errorf("module %s: %w", path, err)
		}
		all[info.name] = info
		return nil
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("no modules (.ko) below %s", dir)
	}
	return all, err
}

// moduleInfo is what a module says of itself.
type moduleInfo struct {
	path, name       string
	depends, aliases []string
}

// readModule reads the section ".modinfo": KEY=VALUE strings that end in NUL.
func readModule(path string) (*moduleInfo, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no section .modinfo")
	}
	data, err := section.Data()
	if err != nil {
		return nil, err
	}
	underscores := func(s string) string { return strings.ReplaceAll(s, "-", "_") }
	m := &moduleInfo{path: path, name: underscores(strings.TrimSuffix(filepath.Base(path), ".ko"))}
	for field := range bytes.SplitSeq(data, []byte{0}) {
		key, value, _ := strings.Cut(string(field), "=")
		switch key {
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.depends = append(m.depends, underscores(d))
				}
			}
		case "alias":
			m.aliases = append(m.aliases, value)
		}
	}
	return m, nil
}
