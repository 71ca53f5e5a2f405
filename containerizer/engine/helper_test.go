package engine_test

import (
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func memory(limit int64) *specs.LinuxMemory { return &specs.LinuxMemory{Limit: &limit} }

func linuxMemory(limit int64) specs.LinuxResources {
	return specs.LinuxResources{Memory: memory(limit)}
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
