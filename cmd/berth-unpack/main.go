//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command berth-unpack unpacks one layer or archive, confined: see package apply.
// It is started by berth-images only, once for each layer, and links nothing else so
// that a start is cheap (decisions/0004 of cmd/berth).
package main

import (
	"os"

	_ "github.com/berth-dev/berth/cmd/internal/faststart" // leaves one P; ChildMain takes what it may have
	"github.com/berth-dev/berth/provisioner/unpack/apply"
)

func main() { os.Exit(apply.ChildMain(os.Args[1:])) }
