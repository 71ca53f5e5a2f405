package monitor_test

import (
	"context"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/containerizer/monitor/client"
)

// refill gives a request a new program: each is good for one launch.
func refill(b *testing.B, r *client.LaunchRequest, block []byte) {
	b.Helper()
	if r.Program >= 0 {
		closeFD(r.Program)
	}
	var err error
	if r.Program, err = unix.MemfdCreate("program", unix.MFD_CLOEXEC); err != nil {
		b.Fatal(err)
	}
	if _, err := unix.Write(r.Program, block); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRun is a monitor's whole life, as in a run of a container.
func BenchmarkRun(b *testing.B) {
	dir := b.TempDir()
	block := encode(b, "", options{command: []string{"/bin/true"}})
	r := request(b, "a", "", dir, options{})
	r.Program, r.ProgramSize, r.TearDown = -1, len(block), true
	ctx := context.Background()
	for b.Loop() {
		refill(b, r, block)
		c, err := client.Start(binary, dir, client.Options{})
		if err != nil {
			b.Fatal(err)
		}
		p, err := c.Launch(ctx, r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Wait(ctx); err != nil {
			b.Fatal(err)
		}
		if err := c.Shutdown(ctx, false); err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}

// BenchmarkExec is a process in a monitor that runs.
func BenchmarkExec(b *testing.B) {
	f := start(b, client.Options{})
	f.launch(request(b, "root", "exec sleep 1000", "", options{}))
	block := encode(b, "", options{command: []string{"/bin/true"}})
	r := &client.LaunchRequest{Name: "a", Program: -1, ProgramSize: len(block), Exec: true}
	ctx := context.Background()
	for b.Loop() {
		refill(b, r, block)
		p, err := f.Launch(ctx, r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Wait(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRequest is the round trip of a request.
func BenchmarkRequest(b *testing.B) {
	f := running(b)
	ctx := context.Background()
	for b.Loop() {
		if _, err := f.List(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOutput moves a line of 80 bytes from a process to the log, to a client,
// and to both.
func BenchmarkOutput(b *testing.B) {
	for _, to := range []string{"log", "client", "both"} {
		b.Run(to, func(b *testing.B) {
			f := start(b, client.Options{})
			dir := b.TempDir()
			const size = 32 << 20
			r := request(b, "root", "exec sleep 1000", "", options{})
			f.launch(r)
			line := "yes 0123456789012345678901234567890123456789012345678901234567890123456789012345678 | head -c 33554432"
			block := encode(b, line, options{})
			r = request(b, "a", "", dir, options{})
			r.Program, r.ProgramSize, r.Exec, r.Record = -1, len(block), true, nil
			if to == "client" {
				r.Log = nil
			} else {
				r.Log.MaxBytes, r.Log.MaxFiles = 8<<20, 2
			}
			if to != "log" {
				r.IO = &containerizer.IO{Stdout: io.Discard}
			}
			b.SetBytes(size)
			for b.Loop() {
				refill(b, r, block)
				p, err := f.Launch(context.Background(), r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := p.Wait(context.Background()); err != nil {
					b.Fatal(err)
				}
				if s := p.Session(); s != nil {
					if err := s.Wait(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkPlain is fork, exec and wait without a monitor, to compare with.
func BenchmarkPlain(b *testing.B) {
	for b.Loop() {
		if out := runAs(b, uint32(unix.Getuid()), "/bin/true"); out != "" {
			b.Fatal(out)
		}
	}
}
