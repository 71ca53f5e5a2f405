package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// kernel is what a machine boots.
type kernel struct {
	Image      string
	ModulesDir string // contains the folder "kernel"
}

// debianKernel returns Debian's current cloud kernel for this architecture, from
// the cache or from the package mirrors that this machine uses. Its package is
// unpacked, never installed.
func debianKernel(ctx context.Context) (*kernel, error) {
	meta := "linux-image-cloud-" + runtime.GOARCH
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", "--important", meta).Output()
	if err != nil {
		return nil, fmt.Errorf("ask apt-cache for %s: %w", meta, explain(err))
	}
	name := regexp.MustCompile(`linux-image-[0-9][^\s]*`).FindString(string(out))
	if name == "" {
		return nil, fmt.Errorf("the package %s is not known to apt (apt-get update may help), or give -kernel and -modules-dir", meta)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "berth-vm", name)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		err = fetchPackage(ctx, name, dir)
		if err != nil {
			return nil, fmt.Errorf("fetch the package %s: %w", name, err)
		}
	}
	return findKernel(dir)
}

// fetchPackage unpacks the Debian package called name to dir, which appears whole
// or not at all.
func fetchPackage(ctx context.Context, name, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // a temporary directory; nothing depends on it
	download := exec.CommandContext(ctx, "apt-get", "download", "-qq", name)
	download.Dir = tmp
	if _, err := download.Output(); err != nil {
		return explain(err)
	}
	found, err := filepath.Glob(tmp + "/*.deb")
	if err != nil || len(found) != 1 {
		return fmt.Errorf("apt-get download left %d packages", len(found))
	}
	if _, err := exec.CommandContext(ctx, "dpkg-deb", "-x", found[0], tmp+"/root").Output(); err != nil {
		return explain(err)
	}
	err = os.Rename(tmp+"/root", dir)
	if errors.Is(err, os.ErrExist) {
		return nil // another process was faster
	}
	return err
}

func findKernel(dir string) (*kernel, error) {
	images, _ := filepath.Glob(dir + "/boot/vmlinuz-*")
	modules, _ := filepath.Glob(dir + "/lib/modules/*")
	if len(images) != 1 || len(modules) != 1 {
		return nil, fmt.Errorf("%s holds %d kernels and %d folders of modules; remove it to fetch it again", dir, len(images), len(modules))
	}
	return &kernel{Image: images[0], ModulesDir: modules[0]}, nil
}

// explain adds what a command wrote on standard error.
func explain(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}
