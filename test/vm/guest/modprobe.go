package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/test/vm/internal/plan"
)

var errNoModule = errors.New("no such module")

// modprobe does what the kernel wants of `modprobe -q -- NAME`.
func modprobe(args []string) error {
	if len(args) == 0 {
		return errors.New("no module named")
	}
	return load(args[len(args)-1])
}

// load loads the module called name, or all that have it as an alias. One that
// is compiled in is not in the index: errNoModule.
func load(name string) error {
	data, err := os.ReadFile(plan.ModulesPath)
	if err != nil {
		return err
	}
	var index plan.Modules
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("parse %s: %w", plan.ModulesPath, err)
	}
	name = strings.ReplaceAll(name, "-", "_")
	if _, ok := index.Files[name]; ok {
		return insert(&index, name)
	}
	found := false
	for _, a := range index.Aliases {
		if ok, _ := path.Match(strings.ReplaceAll(a.Pattern, "-", "_"), name); ok {
			found = true
			if err := insert(&index, a.Module); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("%q: %w", name, errNoModule)
	}
	return nil
}

// insert loads the module called name after what it depends on.
func insert(index *plan.Modules, name string) error {
	m := index.Files[name]
	for _, d := range m.Depends {
		if err := insert(index, d); err != nil {
			return err
		}
	}
	f, err := os.Open(m.Path)
	if err != nil {
		return fmt.Errorf("module %s: %w", name, err)
	}
	defer f.Close() //nolint:errcheck // only read from
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", name, err)
	}
	return nil
}
