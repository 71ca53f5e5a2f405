package config

import (
	"fmt"
	"path/filepath"
	"strings"
)

// NativeRuntime is the name of berth's own way to make containers, beside "".
const NativeRuntime = "berth"

// Runtime is an OCI runtime of the node, by whose name containers may ask for it.
type Runtime struct {
	// Path of the program, which has the command line of runc.
	Path string `toml:"path"`
	// Options come before the command, such as "--debug".
	Options []string `toml:"options"`
}

func (c *Config) checkRuntimes() error {
	for name, r := range c.Runtimes {
		switch {
		case name == NativeRuntime:
			return fmt.Errorf("runtimes.%s: this is the name of berth's own", name)
		case !isLabel(name):
			return fmt.Errorf("runtimes.%q: a name has lower case letters, digits and '-', and 63 of them at most", name)
		case !filepath.IsAbs(r.Path):
			return fmt.Errorf("runtimes.%s.path = %q is not an absolute path", name, r.Path)
		}
	}
	return nil
}

// isLabel says whether s is a label of DNS, which kubelets take for the name of a handler.
func isLabel(s string) bool {
	const edges = "abcdefghijklmnopqrstuvwxyz0123456789"
	return s != "" && len(s) <= 63 && strings.Trim(s, edges+"-") == "" && strings.Trim(s[:1]+s[len(s)-1:], edges) == ""
}
