package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// conmon is a container monitor under crun: what Podman and CRI-O keep beside every
// container. It is measured for its memory only.
type conmon struct {
	path    string
	runtime *ociRuntime
	dir     string
}

func (c *conmon) Name() string { return "conmon" }

func (c *conmon) Start(ctx context.Context, id string) error {
	dir := filepath.Join(c.dir, id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := c.create(ctx, id, dir); err != nil {
		return fmt.Errorf("conmon: %w", err)
	}
	return quietly(ctx, c.runtime.command("start", id)...)
}

// create starts conmon, which goes into the background at once and writes a line of
// JSON with the container's process id, or -1 and a message, to its "sync pipe".
func (c *conmon) create(ctx context.Context, id, dir string) error {
	sockets := filepath.Join(c.dir, "sockets")
	if err := os.MkdirAll(sockets, 0o755); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // only read from
	cmd := exec.CommandContext(
		ctx, c.path, "--cid", id, "--cuuid", id, "--runtime", c.runtime.path,
		"--runtime-arg", "--root", "--runtime-arg", filepath.Join(c.runtime.dir, "state"),
		"--bundle", filepath.Join(c.runtime.dir, "sleep"), "--exit-dir", dir, "--socket-dir-path", sockets, "--log-path", "k8s-file:"+filepath.Join(dir, "log"),
		"--container-pidfile", filepath.Join(dir, "pid"),
	)
	cmd.Env = append(os.Environ(), "_OCI_SYNCPIPE=3")
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Run()
	_ = w.Close() // conmon's end keeps it open
	if err != nil {
		return err
	}
	var created struct {
		PID     int    `json:"data"`
		Message string `json:"message"`
	}
	if err := json.NewDecoder(r).Decode(&created); err != nil {
		return err
	}
	if created.PID < 0 {
		return errors.New(created.Message)
	}
	return nil
}

func (c *conmon) Stop(ctx context.Context, id string) error { return c.runtime.Stop(ctx, id) }
