package nettest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// pluginsOf is where the plug-ins come from, at the version of go.mod.
const pluginsOf = "github.com/containernetworking/plugins/plugins/"

// Plugins returns a folder with real CNI plug-ins, named as in "main/bridge": that of
// `make build` below BERTH_BIN, or where that is not set, dir, built now.
func Plugins(ctx context.Context, dir string, names ...string) (string, error) {
	if bin := os.Getenv("BERTH_BIN"); bin != "" {
		dir = filepath.Join(bin, "cni")
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(dir, path.Base(name))); err != nil {
				return "", fmt.Errorf("CNI plug-ins of BERTH_BIN: %w", err)
			}
		}
		return dir, nil
	}
	args := []string{"build", "-o", dir + "/"}
	for _, name := range names {
		args = append(args, pluginsOf+name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build CNI plug-ins: %w\n%s", err, out)
	}
	return dir, nil
}
