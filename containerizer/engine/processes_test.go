package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"github.com/berth-dev/berth/containerizer"
)

const (
	workerEnv  = "BERTH_ENGINE_WORKER" // number of the worker process
	workerRuns = 16
	workers    = 4
)

// TestWorkerChild is one of several processes that launch at once.
func TestWorkerChild(t *testing.T) {
	number := os.Getenv(workerEnv)
	if number == "" {
		return // only TestManyProcesses starts it
	}
	n := nodeAt(t, os.Getenv(crashDirEnv))
	var wg sync.WaitGroup
	errs := make([]error, workerRuns)
	for i := range errs {
		wg.Go(func() { errs[i] = oneLife(t.Context(), n.engine(t), number, i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// oneLife runs a container as `berth run` does, each second one with --rm.
func oneLife(ctx context.Context, e interface {
	containerizer.Engine
	Close(context.Context) error
}, worker string, i int,
) error {
	id := containerizer.ContainerID(fmt.Sprintf("w%s-%d", worker, i))
	s := imageSpec(fmt.Sprintf("exit %d", i))
	s.Name = "name-" + string(id)
	s.AutoRemove = i%2 == 0
	if _, err := e.Launch(ctx, id, s, containerizer.LaunchOptions{}); err != nil {
		return err
	}
	got, err := e.Wait(ctx, id)
	if err == nil && got.ExitCode != i {
		err = fmt.Errorf("container %q ended as %+v", id, got)
	}
	if _, lerr := e.List(ctx, containerizer.Filter{}); lerr != nil {
		err = errors.Join(err, lerr)
	}
	if !s.AutoRemove {
		err = errors.Join(err, e.Destroy(ctx, id))
	}
	return errors.Join(err, e.Close(ctx))
}

// TestManyProcesses runs 64 containers from four processes over one state folder,
// while a fifth repairs all the time.
func TestManyProcesses(t *testing.T) {
	dir := t.TempDir()
	n := nodeAt(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg, repairs sync.WaitGroup
	e := n.engine(t)
	repairs.Go(func() {
		for ctx.Err() == nil {
			if r, err := e.Recover(ctx, true); err != nil && ctx.Err() == nil || len(r.Owed) > 0 {
				t.Errorf("Recover = %+v, %v", r, err)
			}
		}
	})
	for w := range workers {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestWorkerChild$")
			cmd.Env = append(os.Environ(), workerEnv+"="+strconv.Itoa(w), crashDirEnv+"="+dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("worker %d: %v\n%s", w, err, bytes.TrimSpace(out))
			}
		})
	}
	wg.Wait()
	cancel()
	repairs.Wait()
	if left := n.leftovers(t); len(left) > 0 {
		t.Errorf("left on the node: %q", left)
	}
}
