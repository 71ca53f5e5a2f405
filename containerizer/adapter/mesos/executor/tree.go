package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	"github.com/berth-dev/berth/containerizer/log"
)

// Labels of the root of a tree.
const (
	labelFramework = "dev.berth.mesos/framework"
	labelExecutor  = "dev.berth.mesos/executor"
	labelDirectory = "dev.berth.mesos/directory"
	// labelTask is what a task's container has.
	labelTask = "dev.berth.mesos/task"

	classExecutor = "executor"
)

// tree is the containers of an executor. Its root is made with the first task.
type tree struct {
	x  *Executor
	id containerizer.ContainerID

	mu     sync.Mutex // one at a time looks after the root
	made   bool
	status *containerizer.Status
	// members are the orders of tasks that have not ended; memory is the most that they
	// were ever given, because a limit is not lowered under those who use it.
	members []*translate.Order
	memory  int64
}

// join makes room for a task, in a root that is made if there is none. It returns the
// root as it stands.
func (t *tree) join(ctx context.Context, o *translate.Order) (*containerizer.Status, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.members = append(t.members, o)
	resources, err := t.resources()
	if err == nil && !t.made {
		err = t.make(ctx, resources)
	} else if err == nil {
		err = t.x.Engine.Update(ctx, t.id, resources)
	}
	if err != nil {
		t.drop(o)
		return nil, err
	}
	return t.status, nil
}

// leave gives back what a task had. A limit that stays too high is no fault.
func (t *tree) leave(ctx context.Context, o *translate.Order) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop(o)
	if !t.made || len(t.members) == 0 {
		return
	}
	resources, err := t.resources()
	if err == nil {
		err = t.x.Engine.Update(ctx, t.id, resources)
	}
	if err != nil && ctx.Err() == nil {
		t.x.Log.Debug("the executor keeps what a task had", log.Error(err))
	}
}

func (t *tree) drop(o *translate.Order) {
	t.members = slices.DeleteFunc(t.members, func(m *translate.Order) bool { return m == o })
}

// resources are those of the executor and its tasks.
func (t *tree) resources() (*containerizer.Resources, error) {
	t.x.mu.Lock()
	own := &translate.Order{Resources: t.x.info.GetResources()}
	t.x.mu.Unlock()
	linux, err := t.x.translator.Sum(append([]*translate.Order{own}, t.members...))
	if err != nil {
		return nil, err
	}
	if m := linux.Memory; m != nil && m.Limit != nil {
		if unlimited(*m.Limit) || unlimited(t.memory) {
			t.memory = -1
		} else {
			t.memory = max(t.memory, *m.Limit)
		}
		m.Limit = new(t.memory)
	}
	return &containerizer.Resources{Linux: linux}, nil
}

func unlimited(bytes int64) bool { return bytes < 0 }

func (t *tree) make(ctx context.Context, resources *containerizer.Resources) error {
	host := containerizer.Namespace{Mode: containerizer.NamespaceHost}
	spec := &containerizer.Spec{
		Class: containerizer.ClassPodSandbox, Origin: &containerizer.Origin{Adapter: adapterName},
		Labels: map[string]string{
			translate.LabelClass: classExecutor, translate.LabelRoot: translate.RootHost, translate.LabelSandbox: t.x.env.Directory,
			labelFramework: t.x.env.FrameworkID, labelExecutor: t.x.env.ExecutorID, labelDirectory: t.x.env.Directory,
		},
		Namespaces:   containerizer.Namespaces{Network: host, UTS: host},
		Process:      containerizer.Process{Init: true}, // for tasks that share their pid namespace
		Security:     containerizer.Security{MaskedPaths: &[]string{}, ReadonlyPaths: &[]string{}},
		Log:          containerizer.LogConfig{Driver: containerizer.LogNone},
		CgroupParent: t.x.o.CgroupParent, Resources: *resources,
	}
	_, err := t.x.Engine.Launch(ctx, t.id, spec, containerizer.LaunchOptions{})
	if err == nil {
		t.status, err = t.x.Engine.Status(ctx, t.id)
	}
	if err != nil {
		return fmt.Errorf("make what the tasks are in: %w", errors.Join(err, t.x.Engine.Destroy(context.WithoutCancel(ctx), t.id)))
	}
	t.made = true
	return nil
}

// remove ends the tree. It is a no-op when there is none.
func (t *tree) remove(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.made {
		return nil
	}
	t.made = false
	return t.x.Engine.Destroy(ctx, t.id)
}

// removeLeft removes the trees of executors that are no more: nobody holds the lock in
// their sandboxes.
func (x *Executor) removeLeft(ctx context.Context) {
	all, err := x.Engine.List(ctx, containerizer.Filter{Labels: map[string]string{translate.LabelClass: classExecutor}})
	if err != nil {
		x.Log.Warn("what other executors left is not looked for", log.Error(err))
		return
	}
	for i := range all {
		st := &all[i]
		if st.Spec == nil || st.Spec.Origin == nil || st.Spec.Origin.Adapter != adapterName || !st.ID.IsRoot() || st.ID == x.tree.id {
			continue
		}
		lock, err := lockFile(lockPath(st.Spec.Labels[labelDirectory]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue // it is in use, or cannot be known
		}
		err = x.Engine.Destroy(ctx, st.ID)
		if lock != nil {
			_ = lock.Close() // nobody else wants it
		}
		x.Log.Info("the tree of an executor that was killed is removed", log.String("container_id", st.ID.String()), log.Error(err))
	}
}

func lockPath(directory string) string { return filepath.Join(directory, ".berth-executor.lock") }

// lockFile opens and locks a file of an executor's sandbox, which tasks may write to. The
// folder has to exist.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the sandbox: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("the sandbox is another executor's (lock %q): %w: %w", path, err, containerizer.ErrFailedPrecondition), f.Close())
	}
	return f, nil
}
