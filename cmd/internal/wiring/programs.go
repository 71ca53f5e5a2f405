package wiring

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/berth-dev/berth/cmd/internal/config"
	"github.com/berth-dev/berth/containerizer"
)

// ImageRoot is where the images are that cfg describes.
func ImageRoot(cfg config.Config) string { return filepath.Join(cfg.Root, "images") }

// Become executes another of the programs, with the same arguments. It returns only
// when that fails.
func Become(name string) error {
	path, err := Program(name)
	if err != nil {
		return err
	}
	return fmt.Errorf("execute %q: %w", path, syscall.Exec(path, os.Args, os.Environ()))
}

// Program finds one of the programs that berth consists of: beside the one that
// runs, or where distributions put helper programs.
func Program(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the path of berth: %w", err)
	}
	candidates := []string{
		filepath.Join(filepath.Dir(self), name),
		filepath.Join(filepath.Dir(filepath.Dir(self)), "libexec", "berth", name),
		filepath.Join("/usr/libexec/berth", name),
		filepath.Join("/usr/lib/berth", name),
	}
	for _, path := range candidates {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: looked for %q: %w", name, candidates, containerizer.ErrFailedPrecondition)
}
