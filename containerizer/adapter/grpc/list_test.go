package grpc_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/berth-dev/berth/containerizer"
	grpcadapter "github.com/berth-dev/berth/containerizer/adapter/grpc"
	"github.com/berth-dev/berth/containerizer/adapter/grpc/client"
	berthv1 "github.com/berth-dev/berth/proto/berth/v1"
)

// shared is an engine with a list.
type shared struct {
	containerizer.Engine

	list []*containerizer.Status
}

func (e *shared) ListShared(context.Context, containerizer.Filter) ([]*containerizer.Status, error) {
	return e.list, nil
}

// listed is a container as `berth run` makes them, of some kind.
func listed(i int) *containerizer.Status {
	id := fmt.Sprintf("%064x", i)
	return &containerizer.Status{
		ID: containerizer.ContainerID(id), State: containerizer.StateRunning, PID: 1000 + i, MonitorPID: 999 + i,
		CreatedAt: time.Unix(1_700_000_000, int64(i)).UTC(), StartedAt: time.Unix(1_700_000_001, int64(i)).UTC(),
		ImageManifest:  "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		ImageReference: "docker.io/library/debian:12", LogPath: "/var/lib/berth/containers/" + id + "/log",
		Rootfs: &containerizer.Rootfs{Lower: []string{"/var/lib/berth/images/layers/" + id}, Upper: "/var/lib/berth/rootfs/" + id},
		Spec: &containerizer.Spec{
			Name: fmt.Sprintf("name-%d", i), Image: &containerizer.ImageSource{Reference: "debian:12"},
			Labels:  map[string]string{"app": "web", "tier": "front"},
			Process: containerizer.Process{Args: []string{"sh", "-c", "exec server"}, Env: []string{"PATH=/usr/bin:/bin", "LANG=C"}},
		},
	}
}

// serve makes a client of a server over e. served is told how long the server took for
// each list.
func serve(tb testing.TB, e containerizer.Engine, served func(time.Duration)) *client.Engine {
	tb.Helper()
	dir, err := os.MkdirTemp("", "berth-list-") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer(grpc.StreamInterceptor(func(s any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		began := time.Now()
		defer func() { served(time.Since(began)) }()
		return handle(s, stream)
	}))
	(&grpcadapter.Server{Engine: e}).Register(server)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) }) // until it is stopped
	c, err := client.New("unix://"+path, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = c.Close() // only read
		server.Stop()
		wg.Wait()
		_ = os.RemoveAll(dir) // a temporary directory
	})
	return c.Containers
}

// TestList: what is remembered of earlier lists is of the same containers only.
func TestList(t *testing.T) {
	e := &shared{}
	for i := range 1000 {
		e.list = append(e.list, listed(i))
	}
	c := serve(t, e, func(time.Duration) {})
	check := func(brief bool) {
		t.Helper()
		got, err := c.List(t.Context(), containerizer.Filter{Brief: brief})
		if err != nil {
			t.Fatal(err)
		}
		want := make([]containerizer.Status, len(e.list))
		for i, s := range e.list {
			want[i] = *s
			if brief {
				want[i].Rootfs = nil
				spec := *s.Spec
				spec.Process.Env = nil
				want[i].Spec = &spec
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("brief %v: %s", brief, diff)
		}
	}
	for range 2 {
		check(false)
		check(true)
	}
	for i := range e.list { // a change is another pointer
		s := *e.list[i]
		s.State = containerizer.StatePaused
		e.list[i] = &s
		if i%300 == 0 {
			check(true)
		}
	}
	check(false)
	e.list = e.list[:3]
	check(true)
	check(false)
}

// discarded is a stream whose messages are made and go nowhere.
type discarded struct {
	grpc.ServerStream

	b *testing.B
}

func (d discarded) Context() context.Context { return d.b.Context() }

func (d discarded) SendMsg(m any) error {
	_, err := proto.Marshal(m.(proto.Message)) //nolint:forcetypeassert // of a generated service
	return err
}

// registrar catches the service.
type registrar struct {
	containers berthv1.ContainersServiceServer
}

func (r *registrar) RegisterService(_ *grpc.ServiceDesc, service any) {
	if s, is := service.(berthv1.ContainersServiceServer); is {
		r.containers = s
	}
}

// BenchmarkListInDaemon is a list of 5 000 containers of which none has changed, as far
// as the daemon has to do with it: made, and sent to nobody.
func BenchmarkListInDaemon(b *testing.B) {
	e := &shared{}
	for i := range 5000 {
		e.list = append(e.list, listed(i))
	}
	for _, brief := range []bool{false, true} {
		b.Run(fmt.Sprintf("brief=%v", brief), func(b *testing.B) {
			var r registrar
			(&grpcadapter.Server{Engine: e}).Register(&r)
			stream := &grpc.GenericServerStream[berthv1.ListRequest, berthv1.ListResponse]{ServerStream: discarded{b: b}}
			if err := r.containers.List(&berthv1.ListRequest{Brief: brief}, stream); err != nil { // the first encodes
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := r.containers.List(&berthv1.ListRequest{Brief: brief}, stream); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkList is a list of 5 000 containers of which none has changed, as the client
// sees it and how long the server was at it.
func BenchmarkList(b *testing.B) {
	for _, brief := range []bool{false, true} {
		b.Run(fmt.Sprintf("brief=%v", brief), func(b *testing.B) {
			e := &shared{}
			for i := range 5000 {
				e.list = append(e.list, listed(i))
			}
			var mu sync.Mutex
			var server time.Duration
			c := serve(b, e, func(d time.Duration) {
				mu.Lock()
				defer mu.Unlock()
				server += d
			})
			list := func() {
				all, err := c.List(b.Context(), containerizer.Filter{Brief: brief})
				if err != nil || len(all) != len(e.list) {
					b.Fatalf("%d containers, %v", len(all), err)
				}
			}
			list()
			server = 0
			b.ReportAllocs()
			for b.Loop() {
				list()
			}
			mu.Lock()
			defer mu.Unlock()
			b.ReportMetric(float64(server)/float64(time.Millisecond)/float64(b.N), "server-ms/op")
		})
	}
}
