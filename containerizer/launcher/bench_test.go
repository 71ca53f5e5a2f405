package launcher_test

import (
	"context"
	"syscall"
	"testing"

	"github.com/berth-dev/berth/containerizer"
)

func BenchmarkExec(b *testing.B) {
	l := newLauncher(b)
	r := request(b, "sleep 600")
	ctx := context.Background()
	if _, err := l.Launch(ctx, r); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		e, err := l.Exec(ctx, containerizer.ExecRequest{
			Container: r.Container, Info: r.Info, ID: r.Container.ID.Child("exec"),
			Process: &containerizer.Process{Args: []string{"/bin/busybox", "true"}},
		})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := e.Wait(ctx); err != nil {
			b.Fatal(err)
		}
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Signal(ctx, r.Container, int(syscall.SIGKILL)); err != nil {
		b.Fatal(err)
	}
	if _, err := l.Wait(ctx, r.Container); err != nil {
		b.Fatal(err)
	}
	cleanup(b, l, r)
}
