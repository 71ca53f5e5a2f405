package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/isolators/network/internal/bridge"
)

// PluginDirs are where plug-ins are looked for: beside the running program, where
// `make install` puts them, and where distributions do.
func PluginDirs() []string {
	var dirs []string
	if exe, err := os.Executable(); err == nil {
		bin := filepath.Dir(exe)
		dirs = append(dirs, filepath.Join(bin, "cni"), filepath.Join(bin, "../libexec/berth/cni"), filepath.Join(bin, "../lib/berth/cni"))
	}
	return append(dirs, "/usr/lib/berth/cni", "/usr/libexec/cni", "/opt/cni/bin", "/usr/lib/cni")
}

// builtin begins the path of a plug-in that runs in this process.
const builtin = "builtin:"

// executor runs plug-ins: programs, and the one of package bridge in this process.
type executor struct {
	invoke.DefaultExec
	bridge *bridge.Plugin
}

func newExecutor(b *bridge.Plugin) *executor {
	return &executor{
		DefaultExec: invoke.DefaultExec{RawExec: &invoke.RawExec{}, PluginDecoder: version.PluginDecoder{}},
		bridge:      b,
	}
}

// FindInPath implements invoke.Exec.
func (e *executor) FindInPath(plugin string, dirs []string) (string, error) {
	if plugin == bridge.Type {
		return builtin + plugin, nil
	}
	if plugin == "" || strings.ContainsRune(plugin, filepath.Separator) {
		return "", fmt.Errorf("CNI plug-in type %q is no name: %w", plugin, containerizer.ErrInvalid)
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, plugin)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("CNI plug-in %q is in none of %s (install it, or run `make build` for the common ones): %w", plugin, strings.Join(dirs, ", "), containerizer.ErrUnsupported)
}

// ExecPlugin implements invoke.Exec.
func (e *executor) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	if !strings.HasPrefix(path, builtin) {
		out, err := e.DefaultExec.ExecPlugin(ctx, path, stdin, withSystemPath(environ))
		return out, classifyPlugin(err)
	}
	env := map[string]string{}
	for _, kv := range environ {
		if k, v, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "CNI_") {
			env[k] = v
		}
	}
	r := bridge.Request{ContainerID: env["CNI_CONTAINERID"], NetNS: env["CNI_NETNS"], IfName: env["CNI_IFNAME"], Config: stdin}
	switch env["CNI_COMMAND"] {
	case "ADD":
		return e.bridge.Add(ctx, r)
	case "DEL":
		return nil, e.bridge.Del(r)
	case "CHECK":
		return nil, e.bridge.Check(r)
	case "VERSION":
		return []byte(`{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}`), nil
	}
	return nil, fmt.Errorf("CNI command %q: %w", env["CNI_COMMAND"], containerizer.ErrUnsupported)
}

// classifyPlugin gives a plug-in's error its class (SPEC.md, "Error").
func classifyPlugin(err error) error {
	var e *types.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case types.ErrIncompatibleCNIVersion, types.ErrUnsupportedField:
		return fmt.Errorf("%w: %w", err, containerizer.ErrUnsupported)
	case types.ErrInvalidEnvironmentVariables, types.ErrDecodingFailure, types.ErrInvalidNetworkConfig:
		return fmt.Errorf("%w: %w", err, containerizer.ErrInvalid)
	case types.ErrTryAgainLater:
		return fmt.Errorf("%w: %w", err, containerizer.ErrUnavailable)
	}
	return err
}

// withSystemPath lets plug-ins find iptables and nft whatever the caller's PATH.
func withSystemPath(environ []string) []string {
	const system = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
	out := make([]string, 0, len(environ)+1)
	found := false
	for _, kv := range environ {
		if rest, is := strings.CutPrefix(kv, "PATH="); is {
			found = true
			kv = "PATH=" + rest + ":" + system
		}
		out = append(out, kv)
	}
	if !found {
		out = append(out, "PATH="+system)
	}
	return out
}
