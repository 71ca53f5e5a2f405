package apparmor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/berth-dev/berth/containerizer"
)

// kernel is AppArmor as this node has it.
type kernel struct{ root, parser string }

func (k kernel) path(p string) string { return filepath.Join(k.root, p) }

// enabled says whether the kernel confines with AppArmor.
func (k kernel) enabled() (bool, error) {
	data, err := os.ReadFile(k.path("/sys/module/apparmor/parameters/enabled"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask whether AppArmor is enabled: %w", err)
	}
	return bytes.HasPrefix(data, []byte("Y")), nil
}

// loaded says whether the profile called name is in the kernel. The list has lines
// "NAME (MODE)".
func (k kernel) loaded(name string) (bool, error) {
	file, err := os.Open(k.path("/sys/kernel/security/apparmor/profiles"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("list AppArmor profiles: securityfs is not mounted on /sys/kernel/security: %w", containerizer.ErrUnsupported)
	}
	if err != nil {
		return false, fmt.Errorf("list AppArmor profiles: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read from
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		if i := strings.LastIndex(line, " ("); i >= 0 && line[:i] == name {
			return true, nil
		}
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("list AppArmor profiles: %w", err)
	}
	return false, nil
}

// load gives the default profile, under name, to the kernel. Several processes may
// do so at once: loading replaces.
func (k kernel) load(ctx context.Context, name string) error {
	parser, err := k.findParser()
	if err != nil {
		return err
	}
	own, err := k.own()
	if err != nil {
		return err
	}
	// -K: do not write a cache below /etc or /var; -r: replace.
	cmd := exec.CommandContext(ctx, parser, "-Kr")
	cmd.Stdin = strings.NewReader(profileText(name, own, k.includes()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load it with %s: %w: %s", parser, err, bytes.TrimSpace(out))
	}
	return nil
}

func (k kernel) findParser() (string, error) {
	if k.parser != "" {
		return k.parser, nil
	}
	if p, err := exec.LookPath("apparmor_parser"); err == nil {
		return p, nil
	}
	// A daemon's PATH need not have sbin.
	for _, p := range []string{"/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("load it: apparmor_parser is not installed: %w", containerizer.ErrUnsupported)
}

// own returns the profile that berth itself is under.
func (k kernel) own() (string, error) {
	data, err := os.ReadFile(k.path("/proc/self/attr/apparmor/current"))
	if err != nil {
		return "", fmt.Errorf("read berth's own AppArmor profile: %w", err)
	}
	name := strings.TrimSpace(string(data))
	if i := strings.LastIndex(name, " ("); i >= 0 {
		name = name[:i]
	}
	return name, nil
}

// includes returns what profiles can include on this node.
func (k kernel) includes() includes {
	for _, f := range []string{"tunables/global", "abstractions/base"} {
		if _, err := os.Stat(k.path("/etc/apparmor.d/" + f)); err != nil {
			return noFiles()
		}
	}
	return policyFiles()
}
