package executor

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/adapter/mesos/translate"
	"github.com/berth-dev/berth/containerizer/log"
)

// output is a container's on its way into the files of its sandbox. Nil is of one that
// writes them itself.
type output struct {
	to     containerizer.IO
	files  []*os.File
	cancel context.CancelFunc // of what the first session came from
	// ended is closed when the container has ended, done when all that can be had is in
	// the files.
	ended, done chan struct{}

	mu      sync.Mutex
	session containerizer.Session
}

// drainTime is how long the rest of the output is waited for when the process has ended.
const drainTime = 5 * time.Second

// launchInto launches what is planned, with its output in the sandbox.
func (x *Executor) launchInto(ctx context.Context, p *translate.Plan) (*output, error) {
	out := &output{}
	stdout, err := out.open(p, "stdout")
	if err != nil {
		return nil, err
	}
	out.to.Stdout = stdout
	if p.Spec.Process.Terminal { // one stream
		return out.launch(ctx, x, p, &out.to)
	}
	stderr, err := out.open(p, "stderr")
	if err != nil {
		return nil, err
	}
	if out.to.Stderr = stderr; !x.o.Passthrough {
		p.Spec.Log.Driver = containerizer.LogNone
		return out.launch(ctx, x, p, &out.to)
	}
	defer out.close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close() //nolint:errcheck // the container has its own
	files := &[3]*os.File{null, stdout, stderr}
	_, err = x.Engine.Launch(ctx, p.ID, p.Spec, containerizer.LaunchOptions{Attach: &containerizer.IO{Files: files}, SecretEnv: p.SecretEnv})
	return nil, err
}

func (o *output) open(p *translate.Plan, name string) (*os.File, error) {
	f, err := p.Sandbox.Output(name, p.Owner)
	if f != nil {
		o.files = append(o.files, f)
	}
	if err != nil {
		o.close()
	}
	return f, err
}

func (o *output) launch(ctx context.Context, x *Executor, p *translate.Plan, to *containerizer.IO) (*output, error) {
	// The session lives as long as the container, not as its launch.
	launching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	o.cancel, o.ended, o.done = cancel, make(chan struct{}), make(chan struct{})
	var err error
	if o.session, err = x.Engine.Launch(launching, p.ID, p.Spec, containerizer.LaunchOptions{Attach: to, SecretEnv: p.SecretEnv}); err != nil {
		o.close()
		return nil, err
	}
	stop()
	go o.follow(launching, x, p.ID)
	return o, nil
}

func (o *output) close() {
	if o.cancel != nil {
		o.cancel()
	}
	for _, f := range o.files {
		_ = f.Close() // what was written is in the page cache
	}
}

// follow copies until the output ends. A session that breaks before, because berthd is
// started anew, is followed by another.
func (o *output) follow(ctx context.Context, x *Executor, id containerizer.ContainerID) {
	defer close(o.done)
	for session := o.session; ; {
		if session != nil && session.Wait() == nil {
			return
		}
		select {
		case <-o.ended:
			return
		case <-ctx.Done():
			return
		case <-time.After(enginePause):
		}
		again, err := x.Engine.Attach(ctx, id, o.to)
		if err != nil {
			x.Log.Warn("the output of a container is not seen at the moment", log.String("container_id", id.String()), log.Error(err))
			again = nil
		}
		session = again
		o.mu.Lock()
		o.session = session
		o.mu.Unlock()
	}
}

// wait waits for what is left of the output of a container that has ended, and closes the
// files.
func (o *output) wait(x *Executor, id containerizer.ContainerID) {
	if o == nil {
		return
	}
	close(o.ended)
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-o.done:
	case <-timer.C:
		x.Log.Warn("output may be missing in the sandbox", log.String("container_id", id.String()))
		o.mu.Lock()
		if o.session != nil {
			o.session.Detach()
		}
		o.mu.Unlock()
		o.cancel()
		<-o.done
	}
	o.close()
}
