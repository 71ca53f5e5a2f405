package executor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/codec"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	"github.com/berth-dev/berth/containerizer/log"
	mesosv1 "github.com/berth-dev/berth/proto/mesos/v1"
	executorv1 "github.com/berth-dev/berth/proto/mesos/v1/executor"
)

// adapterName marks our containers, as their origin.
const adapterName = "mesos-executor"

// Parts are what tasks run on. All are needed.
type Parts struct {
	Engine    containerizer.Engine
	Images    containerizer.Images
	Artifacts containerizer.ArtifactFetcher
	Log       *log.Logger
}

// Options are settings. The zero value works.
type Options struct {
	// Form is that of messages.
	Form codec.Form
	// Command is for tasks that have none, as those of custom executors do: what the
	// executor was started with. Nil is none.
	Command *mesosv1.CommandInfo
	// Image is for such tasks too, where they have no container; "" is the host's files.
	Image string
	// Linger is how long the executor stays when nothing is left to do; 0 is not at all.
	Linger time.Duration
	// CgroupParent is where the tree's control groups go; "" is below the engine's.
	CgroupParent string
	// SeccompDir and EnableCFS are as for the agent's API.
	SeccompDir string
	EnableCFS  bool
	// Passthrough hands files to containers, where the engine is in this process.
	Passthrough bool
	// Failsafe is how long acknowledgements are waited for when nothing else is left;
	// 0 is a minute, as in Mesos.
	Failsafe time.Duration
}

// Executor is one executor. It is run once.
type Executor struct {
	Parts

	env        *Environment
	o          Options
	agent      *agent
	translator *translate.Translator
	tree       tree

	background sync.WaitGroup
	// changed has a place for one: something is to be looked at.
	changed chan struct{}
	// news wakes who sends updates.
	news chan struct{}

	mu         sync.Mutex
	subscribed bool
	gone       bool // the agent is not asked any more
	shutdown   bool // nothing is launched any more
	framework  *mesosv1.FrameworkInfo
	info       *mesosv1.ExecutorInfo
	tasks      map[string]*task // by id, all that ever were
	active     int              // those without a terminal update
	book       book
}

// New returns an executor.
func New(parts Parts, env *Environment, o Options) *Executor {
	if o.Failsafe == 0 {
		o.Failsafe = time.Minute
	}
	x := &Executor{
		Parts: parts, env: env, o: o, agent: newAgent(env, o.Form), tasks: map[string]*task{},
		changed: make(chan struct{}, 1), news: make(chan struct{}, 1),
	}
	x.tree = tree{x: x, id: "mesos-" + containerizer.NewContainerID()}
	x.translator = translate.New(parts.Images, x.sandboxOf, translate.Options{
		Adapter: adapterName, SeccompDir: o.SeccompDir, EnableCFS: o.EnableCFS, Reserved: true, Docker: true, Secrets: true,
	})
	return x
}

// sandboxOf is where the container id has its files: the root's are the executor's.
func (x *Executor) sandboxOf(id containerizer.ContainerID) translate.Sandbox {
	return translate.SandboxOf(x.env.Directory, id)
}

// Run runs what the agent asks for until it says that this is over, until nothing is left
// to do, or until ctx ends; then it ends the tasks, and leaves nothing of them but their
// files. It first removes what executors have left that were killed.
func (x *Executor) Run(ctx context.Context) error {
	lock, err := x.claim()
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // it goes with the process
	alive, stop := context.WithCancel(context.WithoutCancel(ctx))
	lost := make(chan error, 1)
	x.background.Go(func() { x.removeLeft(alive) })
	x.background.Go(func() { lost <- x.follow(alive) })
	x.background.Go(func() { x.send(alive) })
	x.background.Go(func() { x.beat(alive) })
	err = x.attend(ctx, lost)
	x.end(alive)
	stop()
	x.background.Wait()
	x.agent.close()
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	return errors.Join(err, x.tree.remove(cleanup))
}

// cleanupTime bounds how long the end of the tree is waited for; what is left then is
// released by the engine, or the next executor.
const cleanupTime = 30 * time.Second

// attend returns when it is time to end: nil where that is as it should be.
func (x *Executor) attend(ctx context.Context, lost <-chan error) error {
	var idle <-chan time.Time
	linger := x.o.Linger
	for {
		x.mu.Lock()
		over := x.shutdown
		done := len(x.tasks) > 0 && x.active == 0
		acknowledged := len(x.book.updates) == 0
		x.mu.Unlock()
		switch {
		case over:
			return nil
		case !done:
			idle = nil
		case acknowledged && linger == 0:
			return nil
		case idle == nil && acknowledged:
			idle = time.After(linger)
		case idle == nil:
			idle = time.After(max(x.o.Failsafe, linger))
		}
		select {
		case <-x.changed:
			if idle != nil && linger > 0 {
				idle = nil // counted from the last that happened
			}
		case <-idle:
			return nil
		case err := <-lost:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// end kills the tasks that are left, and waits for their updates to arrive, as long as the
// agent waits for us.
func (x *Executor) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, x.env.ShutdownGrace)
	defer cancel()
	x.mu.Lock()
	x.shutdown = true
	left := x.active
	for _, t := range x.tasks {
		t.kill(min(t.grace(nil), x.shutdownGrace()), causeKilled)
	}
	x.mu.Unlock()
	if left > 0 {
		x.Log.Info("the tasks that are left are killed", log.Int("tasks", left))
	}
	for {
		x.mu.Lock()
		done := x.active == 0 && (len(x.book.updates) == 0 || x.gone)
		x.mu.Unlock()
		if done {
			return
		}
		select {
		case <-x.changed:
		case <-ctx.Done():
			return
		}
	}
}

// shutdownGrace is the time that tasks have to end by themselves when the executor has to
// end: what follows takes some of its own.
func (x *Executor) shutdownGrace() time.Duration {
	const after = 1500 * time.Millisecond
	return max(x.env.ShutdownGrace-after, x.env.ShutdownGrace/2)
}

// change wakes attend and end.
func (x *Executor) change() { wake(x.changed) }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// call is a call of this executor.
func (x *Executor) call(t executorv1.Call_Type) *executorv1.Call {
	return &executorv1.Call{Type: &t, ExecutorId: &mesosv1.ExecutorID{Value: &x.env.ExecutorID}, FrameworkId: &mesosv1.FrameworkID{Value: &x.env.FrameworkID}}
}

// follow subscribes, and does what is said, again and again until ctx ends or the agent
// has been away for too long.
func (x *Executor) follow(ctx context.Context) error {
	defer func() {
		x.mu.Lock()
		x.gone = true
		x.mu.Unlock()
		x.change()
	}()
	var since time.Time
	for {
		was, err := x.subscription(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if was { // there was one
			since = time.Time{}
			if !x.env.Checkpoint {
				return fmt.Errorf("the agent has gone, and the framework does not checkpoint: %w", err)
			}
		}
		if r, is := errors.AsType[*refusal](err); is && r.final() {
			return fmt.Errorf("subscribe: %w", err)
		}
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) >= x.env.RecoveryTimeout {
			return fmt.Errorf("the agent has been away for %s: %w", x.env.RecoveryTimeout, err)
		}
		x.Log.Warn("not subscribed", log.Error(err))
		pause := min(rand.N(x.env.BackoffMax+1), x.env.RecoveryTimeout-time.Since(since))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// subscription is one. It returns why it ended, and whether it began.
func (x *Executor) subscription(ctx context.Context) (began bool, err error) {
	call := x.call(executorv1.Call_SUBSCRIBE)
	x.mu.Lock()
	call.Subscribe = x.book.subscribe()
	x.mu.Unlock()
	s, err := x.agent.subscribe(ctx, call)
	if err != nil {
		return false, err
	}
	defer func() {
		_ = s.body.Close() // only read
		x.mu.Lock()
		x.subscribed = false
		x.mu.Unlock()
		x.change()
	}()
	for {
		e, err := s.next()
		if err != nil {
			return began, fmt.Errorf("read what the agent says: %w", err)
		}
		if e.GetType() == executorv1.Event_ERROR {
			return began, fmt.Errorf("the agent reports: %.1000s", e.GetError().GetMessage())
		}
		x.handle(ctx, e)
		began = began || e.GetType() == executorv1.Event_SUBSCRIBED
	}
}

// handle does what the agent says.
func (x *Executor) handle(ctx context.Context, e *executorv1.Event) {
	switch e.GetType() {
	case executorv1.Event_SUBSCRIBED:
		x.mu.Lock()
		x.subscribed, x.framework, x.info = true, e.GetSubscribed().GetFrameworkInfo(), e.GetSubscribed().GetExecutorInfo()
		x.mu.Unlock()
		x.Log.Info("subscribed", log.String("agent", x.env.Endpoint), log.String("container_id", e.GetSubscribed().GetContainerId().GetValue()))
		wake(x.news)
	case executorv1.Event_LAUNCH:
		if t := e.GetLaunch().GetTask(); t != nil {
			x.launch(ctx, t)
		}
	case executorv1.Event_LAUNCH_GROUP:
		x.launchGroup(ctx, e.GetLaunchGroup().GetTaskGroup().GetTasks())
	case executorv1.Event_KILL:
		x.kill(e.GetKill().GetTaskId().GetValue(), e.GetKill().GetKillPolicy())
	case executorv1.Event_ACKNOWLEDGED:
		a := e.GetAcknowledged()
		x.mu.Lock()
		known := x.book.acknowledge(a.GetTaskId().GetValue(), a.GetUuid())
		x.mu.Unlock()
		if !known {
			x.Log.Debug("an update is acknowledged that is not waited for", log.String("task_id", a.GetTaskId().GetValue()))
		}
		x.change()
	case executorv1.Event_SHUTDOWN:
		x.mu.Lock()
		x.shutdown = true
		x.mu.Unlock()
		x.change()
	case executorv1.Event_MESSAGE:
		x.Log.Debug("a message of the framework is of no meaning here")
	case executorv1.Event_HEARTBEAT, executorv1.Event_ERROR:
	case executorv1.Event_UNKNOWN:
		x.Log.Warn("an event of an unknown type is passed over")
	}
}

// send tells updates, in order, while there is a subscription.
func (x *Executor) send(ctx context.Context) {
	const least, most = 50 * time.Millisecond, 5 * time.Second
	pause := least
	for {
		x.mu.Lock()
		var e *entry
		if x.subscribed {
			e = x.book.next()
		}
		x.mu.Unlock()
		if e == nil {
			select {
			case <-x.news:
				continue
			case <-ctx.Done():
				return
			}
		}
		call := x.call(executorv1.Call_UPDATE)
		call.Update = &executorv1.Call_Update{Status: e.status}
		err := x.agent.call(ctx, call)
		r, is := errors.AsType[*refusal](err)
		if err == nil || is && r.final() {
			x.mu.Lock()
			e.sent = true // one that is refused is told again with the next subscription only
			x.mu.Unlock()
			pause = least
		}
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		x.Log.Warn("an update is not taken", log.String("task_id", e.status.GetTaskId().GetValue()), log.Stringer("state", e.status.GetState()), log.Error(err))
		select {
		case <-time.After(pause):
			pause = min(2*pause, most)
		case <-ctx.Done():
			return
		}
	}
}

// beat keeps the connection for calls from being forgotten on the way.
func (x *Executor) beat(ctx context.Context) {
	const interval = 30 * time.Minute
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if err := x.agent.call(ctx, x.call(executorv1.Call_HEARTBEAT)); err != nil {
				x.Log.Debug("no heartbeat", log.Error(err))
			}
		case <-ctx.Done():
			return
		}
	}
}

// tell adds an update. A task has none behind a terminal one.
//
// Preconditions: x.mu is held.
func (x *Executor) tell(s *mesosv1.TaskStatus) {
	s.Uuid, s.Source, s.ExecutorId = newUUID(), mesosv1.TaskStatus_SOURCE_EXECUTOR.Enum(), &mesosv1.ExecutorID{Value: &x.env.ExecutorID}
	s.Timestamp = new(float64(time.Now().UnixNano()) / float64(time.Second))
	x.book.addUpdate(s)
	wake(x.news)
	x.change()
}

// can says whether the framework has a capability.
//
// Preconditions: x.mu is held.
func (x *Executor) can(c mesosv1.FrameworkInfo_Capability_Type) bool {
	for _, have := range x.framework.GetCapabilities() {
		if have.GetType() == c {
			return true
		}
	}
	return false
}

// claim locks the executor's sandbox for as long as this process lives, by which others
// know that its tree is somebody's.
func (x *Executor) claim() (*os.File, error) {
	return lockFile(lockPath(x.env.Directory))
}
