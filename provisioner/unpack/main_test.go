package unpack_test

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

func command() []string { return []string{"/proc/self/exe", childArg} }
