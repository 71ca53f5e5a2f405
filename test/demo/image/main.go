// Command image makes the demonstration image: one layer with one static program,
// as an OCI image layout.
//
//	image PROGRAM DIR TAG
package main

import (
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berth-dev/berth/test/fixtures"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: image PROGRAM DIR TAG")
		os.Exit(2)
	}
	if err := build(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func build(program, dir, tag string) error {
	file, err := fixtures.Program("demo", program)
	if err != nil {
		return err
	}
	layer, err := fixtures.Layer(append(fixtures.Base(), file)...)
	if err != nil {
		return err
	}
	image, err := fixtures.Image(v1.Config{Entrypoint: []string{"/demo"}, WorkingDir: "/", User: "app"}, layer)
	if err != nil {
		return err
	}
	return fixtures.WriteLayout(dir, tag, image)
}
