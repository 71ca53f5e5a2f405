package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
)

// nriPlugin is a plug-in of the Node Resource Interface, over the field's own library.
// It notes what it is told.
type nriPlugin struct {
	onCreate func(*api.Container) (*api.ContainerAdjustment, error)
	onUpdate func(*api.Container, *api.LinuxResources) *api.LinuxResources

	mu    sync.Mutex
	heard []string // "EVENT id"
}

func (p *nriPlugin) note(event, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, event+" "+id)
}

// events are those of one id, in their order.
func (p *nriPlugin) events(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for _, h := range p.heard {
		if event, of, _ := strings.Cut(h, " "); of == id {
			list = append(list, event)
		}
	}
	return strings.Join(list, " ")
}

func (p *nriPlugin) Synchronize(_ context.Context, pods []*api.PodSandbox, containers []*api.Container) ([]*api.ContainerUpdate, error) {
	for _, pod := range pods {
		p.note("SyncPod", pod.GetId())
	}
	for _, c := range containers {
		p.note("Sync:"+c.GetState().String(), c.GetId())
	}
	return nil, nil
}

func (p *nriPlugin) RunPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	p.note("RunPod", pod.GetId())
	return nil
}

func (p *nriPlugin) StopPodSandbox(_ context.Context, pod *api.PodSandbox) error {
	p.note("StopPod", pod.GetId())
	return nil
}

func (p *nriPlugin) RemovePodSandbox(_ context.Context, pod *api.PodSandbox) error {
	p.note("RemovePod", pod.GetId())
	return nil
}

func (p *nriPlugin) CreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) (*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	p.note("Create", c.GetId())
	if p.onCreate == nil {
		return nil, nil, nil
	}
	a, err := p.onCreate(c)
	return a, nil, err
}

func (p *nriPlugin) PostCreateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	p.note("PostCreate", c.GetId())
	return nil
}

func (p *nriPlugin) StartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	p.note("Start", c.GetId())
	return nil
}

func (p *nriPlugin) PostStartContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	p.note("PostStart", c.GetId())
	return nil
}

func (p *nriPlugin) UpdateContainer(_ context.Context, _ *api.PodSandbox, c *api.Container, r *api.LinuxResources) ([]*api.ContainerUpdate, error) {
	p.note("Update", c.GetId())
	if p.onUpdate == nil {
		return nil, nil
	}
	u := &api.ContainerUpdate{ContainerId: c.GetId(), Linux: &api.LinuxContainerUpdate{Resources: p.onUpdate(c, r)}}
	return []*api.ContainerUpdate{u}, nil
}

func (p *nriPlugin) StopContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) ([]*api.ContainerUpdate, error) {
	p.note("Stop", c.GetId())
	return nil, nil
}

func (p *nriPlugin) RemoveContainer(_ context.Context, _ *api.PodSandbox, c *api.Container) error {
	p.note("Remove", c.GetId())
	return nil
}

// installedConfig is the configuration of a plug-in that berthd starts.
type installedConfig struct {
	// Set is a variable that each container gets, with the value of Copy's added.
	Set, Value, Copy string
	// Do is "hang" or "crash" at a container's creation.
	Do string
}

// installed is the plug-in that this test's binary is when it was started as one.
type installed struct {
	nriPlugin
	config installedConfig
}

func (p *installed) Configure(_ context.Context, config, _, _ string) (stub.EventMask, error) {
	return 0, json.Unmarshal([]byte(config), &p.config)
}

func (p *installed) create(c *api.Container) (*api.ContainerAdjustment, error) {
	switch p.config.Do {
	case "hang":
		time.Sleep(time.Hour)
	case "crash":
		os.Exit(3)
	}
	value := p.config.Value
	for _, kv := range c.GetEnv() {
		if v, ok := strings.CutPrefix(kv, p.config.Copy+"="); ok {
			value += v
		}
	}
	a := &api.ContainerAdjustment{}
	a.AddEnv(p.config.Set, value)
	return a, nil
}

// runInstalled is main of the plug-in.
func runInstalled() int {
	p := &installed{}
	p.onCreate = p.create
	s, err := stub.New(p)
	if err == nil {
		err = s.Run(context.Background())
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
