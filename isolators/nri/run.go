package nri

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	nrilog "github.com/containerd/nri/pkg/log"
	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/log"
)

// resubscribe is how long is waited before events are asked for again.
const resubscribe = time.Second

// unsolicited marks updates that plug-ins asked for, which they are not asked about.
type unsolicited struct{}

// Run starts the plug-ins and lets others connect, and tells them of e's containers
// until ctx ends. There is one Run in a process: the library's settings are the
// process's.
func (i *Isolator) Run(ctx context.Context, e containerizer.Engine) error {
	nrilog.Set(logger{i.log})
	adaptation.SetPluginRegistrationTimeout(i.o.RegistrationTimeout)
	adaptation.SetPluginRequestTimeout(i.o.RequestTimeout)
	options := []adaptation.Option{
		adaptation.WithPluginPath(i.o.PluginDir), adaptation.WithPluginConfigPath(i.o.ConfigDir), adaptation.WithSocketPath(i.o.Socket),
	}
	if i.o.NoConnections {
		options = append(options, adaptation.WithDisabledExternalConnections())
	} else if listening(ctx, i.o.Socket) {
		return fmt.Errorf("NRI socket %q: another runtime serves it; choose another one (nri.socket_path): %w", i.o.Socket, containerizer.ErrAlreadyExists)
	}
	a, err := adaptation.New("berth", i.o.Version, i.synchronize, i.update, options...)
	if err != nil {
		return fmt.Errorf("NRI: %w", err)
	}
	i.adaptation, i.engine = a, e
	events, err := e.Events(ctx, 0)
	if err != nil {
		return fmt.Errorf("NRI: %w", err)
	}
	if err := i.look(ctx); err != nil {
		return fmt.Errorf("NRI: %w", err)
	}
	if err := a.Start(); err != nil {
		return fmt.Errorf("NRI: %w", err)
	}
	defer a.Stop()
	if !i.o.NoConnections {
		if err := os.Chmod(i.o.Socket, 0o600); err != nil { // its folder lets nobody else in, if we made it
			return fmt.Errorf("NRI: %w", err)
		}
		defer func() { _ = os.Remove(i.o.Socket) }() // the next one removes it otherwise
	}
	close(i.started)
	for ctx.Err() == nil {
		for event := range events {
			i.tell(ctx, &event)
		}
		select { // we were too slow
		case <-ctx.Done():
			return nil
		case <-time.After(resubscribe):
		}
		if events, err = e.Events(ctx, 0); err != nil {
			return fmt.Errorf("NRI: %w", err)
		}
		i.catchUp(ctx)
	}
	return nil
}

// look remembers the containers that are there.
func (i *Isolator) look(ctx context.Context) error {
	all, err := i.engine.List(ctx, containerizer.Filter{})
	if err != nil {
		return err
	}
	pods := map[containerizer.ContainerID]*api.PodSandbox{}
	for n := range all {
		if s := &all[n]; s.ID.IsRoot() && s.Spec != nil {
			pods[s.ID] = podOf(s.ID, s.Spec, s.PID)
		}
	}
	for n := range all {
		s := &all[n]
		pod := pods[s.ID.Root()]
		if pod == nil || s.Spec == nil || i.find(s.ID) != nil {
			continue
		}
		if s.State != containerizer.StatePreparing && s.State != containerizer.StateDestroying {
			i.show(s.ID, statusShown(s, pod))
		}
	}
	return nil
}

// catchUp tells what was missed: containers that are gone.
func (i *Isolator) catchUp(ctx context.Context) {
	all, err := i.engine.List(ctx, containerizer.Filter{})
	if err != nil {
		i.log.Warn("plug-ins may have missed something", log.Error(err))
		return
	}
	there := map[containerizer.ContainerID]bool{}
	for n := range all {
		there[all[n].ID] = true
	}
	for id := range i.all() {
		if s := i.find(id); !there[id] && s != nil {
			i.take(id)
			i.gone(ctx, id, s)
		}
	}
	if err := i.look(ctx); err != nil {
		i.log.Warn("plug-ins may have missed something", log.Error(err))
	}
}

// all is a copy of what plug-ins know.
func (i *Isolator) all() map[containerizer.ContainerID]*shown {
	i.mu.Lock()
	defer i.mu.Unlock()
	copied := make(map[containerizer.ContainerID]*shown, len(i.shown))
	maps.Copy(copied, i.shown)
	return copied
}

// tell tells plug-ins of an event. What they do wrong is theirs.
func (i *Isolator) tell(ctx context.Context, event *containerizer.Event) {
	s := i.find(event.ID)
	if s == nil {
		return
	}
	var err error
	switch event.Type {
	case containerizer.EventStarted:
		if s = i.refresh(ctx, event.ID, s); s.container != nil {
			err = i.adaptation.PostStartContainer(ctx, &api.PostStartContainerRequest{Pod: s.pod, Container: s.container})
		}
	case containerizer.EventUpdated:
		if s = i.refresh(ctx, event.ID, s); s.container != nil {
			err = i.adaptation.PostUpdateContainer(ctx, &api.PostUpdateContainerRequest{Pod: s.pod, Container: s.container})
		}
	case containerizer.EventExited:
		i.stopped(ctx, event.ID, s)
	case containerizer.EventDestroyed:
		i.take(event.ID)
		i.gone(ctx, event.ID, s)
	case containerizer.EventCreated, containerizer.EventPaused, containerizer.EventResumed, containerizer.EventOOM, containerizer.EventRenamed:
	}
	if err != nil {
		i.log.Warn("a plug-in failed", log.String("container_id", event.ID.String()), log.String("event", string(event.Type)), log.Error(err))
	}
}

// refresh takes up what the engine knows of a container by now.
func (i *Isolator) refresh(ctx context.Context, id containerizer.ContainerID, old *shown) *shown {
	status, err := i.engine.Status(ctx, id)
	if err != nil || status.Spec == nil || old.container == nil {
		return old
	}
	s := statusShown(status, old.pod)
	// What plug-ins changed is not in the description that the engine keeps.
	s.container.Env, s.container.Args, s.container.Mounts = old.container.Env, old.container.Args, old.container.Mounts
	i.show(id, s)
	return s
}

// stopped tells of the end of a container's process.
func (i *Isolator) stopped(ctx context.Context, id containerizer.ContainerID, s *shown) {
	if s.container == nil || s.stopped {
		return
	}
	s = &shown{pod: s.pod, container: proto.Clone(s.container).(*api.Container), stopped: true} // others may be reading it
	s.container.State, s.container.Pid = api.ContainerState_CONTAINER_STOPPED, 0
	i.mu.Lock()
	if i.shown[id] != nil {
		i.shown[id] = s
	}
	i.mu.Unlock()
	answer, err := i.adaptation.StopContainer(ctx, &api.StopContainerRequest{Pod: s.pod, Container: s.container})
	if err != nil {
		i.log.Warn("a plug-in failed", log.String("container_id", id.String()), log.Error(err))
		return
	}
	i.applyOthers(ctx, id, answer.GetUpdate())
}

// gone tells that a container, and its pod with it, is no more.
func (i *Isolator) gone(ctx context.Context, id containerizer.ContainerID, s *shown) {
	i.stopped(ctx, id, s)
	var errs []error
	if s.container != nil {
		errs = append(errs, i.adaptation.RemoveContainer(ctx, &api.RemoveContainerRequest{Pod: s.pod, Container: s.container}))
	}
	if id.IsRoot() {
		errs = append(errs,
			i.adaptation.StopPodSandbox(ctx, &api.StopPodSandboxRequest{Pod: s.pod}),
			i.adaptation.RemovePodSandbox(ctx, &api.RemovePodSandboxRequest{Pod: s.pod}))
	}
	if err := errors.Join(errs...); err != nil {
		i.log.Warn("a plug-in failed", log.String("container_id", id.String()), log.Error(err))
	}
}

// synchronize shows everything to plug-ins that have just come.
func (i *Isolator) synchronize(ctx context.Context, show adaptation.SyncCB) error {
	if err := i.look(ctx); err != nil {
		return err
	}
	pods := map[string]*api.PodSandbox{}
	var containers []*api.Container
	for _, s := range i.all() {
		pods[s.pod.GetId()] = s.pod
		if s.container != nil {
			containers = append(containers, s.container)
		}
	}
	list := make([]*api.PodSandbox, 0, len(pods))
	for _, p := range pods {
		list = append(list, p)
	}
	updates, err := show(ctx, list, containers)
	if err != nil {
		return err
	}
	_, err = i.update(ctx, updates)
	return err
}

// applyOthers does what plug-ins want of containers other than id.
func (i *Isolator) applyOthers(ctx context.Context, id containerizer.ContainerID, updates []*api.ContainerUpdate) {
	var others []*api.ContainerUpdate
	for _, u := range updates {
		if u != nil && u.GetContainerId() != id.String() {
			others = append(others, u)
		}
	}
	if len(others) == 0 {
		return
	}
	if _, err := i.update(ctx, others); err != nil {
		i.log.Warn("what a plug-in wants of other containers failed", log.String("container_id", id.String()), log.Error(err))
	}
}

// update does what plug-ins want of containers, and returns what failed.
func (i *Isolator) update(ctx context.Context, updates []*api.ContainerUpdate) ([]*api.ContainerUpdate, error) {
	ctx = context.WithValue(ctx, unsolicited{}, true)
	var failed []*api.ContainerUpdate
	var errs []error
	for _, u := range updates {
		err := i.updateOne(ctx, u)
		if err == nil || u.GetIgnoreFailure() {
			continue
		}
		failed = append(failed, u)
		errs = append(errs, fmt.Errorf("update container %q: %w", u.GetContainerId(), err))
	}
	return failed, errors.Join(errs...)
}

func (i *Isolator) updateOne(ctx context.Context, u *api.ContainerUpdate) error {
	id, err := containerizer.ParseContainerID(u.GetContainerId())
	if err != nil {
		return err
	}
	var r containerizer.Resources
	if err := overlay(&r.Linux, u.GetLinux().GetResources()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, i.o.RequestTimeout)
	defer cancel()
	return i.engine.Update(ctx, id, &r)
}
