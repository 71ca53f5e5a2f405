package provisioner_test

import (
	"os"
	"testing"

	"github.com/berth-dev/berth/provisioner/unpack/apply"
)

const childArg = "unpack-child"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == childArg {
		os.Exit(apply.ChildMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// unpackCommand runs this test binary as the child. Under the race detector it
// would sleep for a second at its exit.
func unpackCommand() []string {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return []string{"/usr/bin/env", "GORACE=atexit_sleep_ms=0", exe, childArg}
}
