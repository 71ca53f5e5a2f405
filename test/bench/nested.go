package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// nestedCount containers are launched under one parent, by nestedWorkers clients.
	nestedCount   = 1000
	nestedWorkers = 8
)

// nested are containers in one container of a Mesos agent's API.
type nested struct {
	launch, destroy time.Duration // of all
}

// agent is a client of the operator API of a Mesos agent.
type agent struct{ client *http.Client }

func (a *agent) call(ctx context.Context, format string, args ...any) error {
	body := fmt.Sprintf(format, args...)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/api/v1", strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := a.client.Do(r)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", body, response.Status, answer)
	}
	return err
}

// nested launches containers under one parent through the API of a Mesos agent, and
// then ends the parent.
func (b *bench) nested(ctx context.Context) (_ *nested, err error) {
	state := filepath.Join(b.state, "nested")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	socket, config := filepath.Join(state, "mesos.sock"), filepath.Join(state, "berthd.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "[mesos]\nsocket = %q\n", socket), 0o600); err != nil {
		return nil, err
	}
	served := &berth{name: "berthd", path: filepath.Join(b.bin, "berth"), dir: filepath.Join(b.dir, "nested"), state: state}
	end, err := served.serve(ctx, "--config", config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end(context.WithoutCancel(ctx))) }()
	a := &agent{&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: nestedWorkers, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}}
	defer a.client.CloseIdleConnections()
	if err := a.recovered(ctx); err != nil {
		return nil, err
	}
	const parent = `"container_id":{"value":"p"}`
	if err := a.call(ctx, `{"type":"LAUNCH_CONTAINER","launch_container":{%s,"command":{"value":"sleep 1000"}}}`, parent); err != nil {
		return nil, err
	}
	n := &nested{}
	start := time.Now()
	if err := a.launchMany(ctx); err != nil {
		return nil, err
	}
	n.launch = time.Since(start)
	start = time.Now()
	if err := a.call(ctx, `{"type":"KILL_CONTAINER","kill_container":{%s,"signal":9}}`, parent); err != nil {
		return nil, err
	}
	if err := a.call(ctx, `{"type":"WAIT_CONTAINER","wait_container":{%s}}`, parent); err != nil {
		return nil, err
	}
	err = a.call(ctx, `{"type":"REMOVE_CONTAINER","remove_container":{%s}}`, parent)
	n.destroy = time.Since(start)
	return n, err
}

// recovered waits until the daemon has recovered what an earlier one left: nothing.
func (a *agent) recovered(ctx context.Context) (err error) {
	for range 500 {
		if err = a.call(ctx, `{"type":"GET_HEALTH"}`); err == nil {
			return nil
		}
		wait(ctx, 10*time.Millisecond)
	}
	return err
}

// launchMany launches nestedCount containers that go on.
func (a *agent) launchMany(ctx context.Context) error {
	var (
		next  atomic.Int64
		group sync.WaitGroup
		fails = make([]error, nestedWorkers)
	)
	for w := range nestedWorkers {
		group.Go(func() {
			for i := next.Add(1); i <= nestedCount && fails[w] == nil; i = next.Add(1) {
				fails[w] = a.call(ctx, `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"n%d","parent":{"value":"p"}},"command":{"value":"sleep 1000"}}}`, i)
			}
		})
	}
	group.Wait()
	return errors.Join(fails...)
}
