package engine_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/engine"
	"github.com/berth-dev/berth/containerizer/enginetest"
)

// A container is launched, waited for and removed.
func Example() {
	dir, err := os.MkdirTemp("", "berth-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	e, err := engine.New(engine.Options{
		Root:     filepath.Join(dir, "root"),
		State:    filepath.Join(dir, "state"),
		Launcher: &enginetest.Launcher{},
	})
	if err != nil {
		log.Fatal(err)
	}

	ctx := context.Background()
	spec := &containerizer.Spec{
		Name:       "greeter",
		RootfsPath: "/",
		Process:    containerizer.Process{Args: []string{"/bin/sh", "-c", "echo hello; exit 3"}},
	}
	session, err := e.Launch(ctx, "example", spec, containerizer.LaunchOptions{Attach: &containerizer.IO{Stdout: os.Stdout}})
	if err != nil {
		log.Fatal(err)
	}
	if err := session.Wait(); err != nil { // all of the output is written
		log.Fatal(err)
	}
	ended, err := e.Wait(ctx, "example")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("exit code", ended.ExitCode)
	if err := e.Destroy(ctx, "example"); err != nil {
		log.Fatal(err)
	}
	if err := e.Close(ctx); err != nil { // what goes on in the background
		log.Fatal(err)
	}
	// Output:
	// hello
	// exit code 3
}
