package seccomp_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer/launch/seccomp"
)

func BenchmarkCompile(b *testing.B) {
	p := dockerProfile(b)
	b.ReportAllocs()
	for b.Loop() {
		f, err := seccomp.Compile(p)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(f.Instructions)), "instructions")
	}
}

// BenchmarkCachedLaunch is what a one-shot command pays for a known profile: the
// key and a file.
func BenchmarkCachedLaunch(b *testing.B) {
	p, dir := dockerProfile(b), b.TempDir()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := seccomp.NewCache(dir).Filter(p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCachedDaemon is what a long-lived engine pays: the key.
func BenchmarkCachedDaemon(b *testing.B) {
	p, c := dockerProfile(b), seccomp.NewCache("")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Filter(p); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoad times seccomp(2) for the default profile, each time in a thread
// that has no filter yet.
func BenchmarkLoad(b *testing.B) {
	f, err := seccomp.Compile(dockerProfile(b))
	if err != nil {
		b.Fatal(err)
	}
	benchmarkLoad(b, f.Bytes(), f.Flags)
}

// BenchmarkLoadForeign does the same with a program in the file that
// BERTH_BENCH_BPF names, such as libseccomp's export of the same profile.
func BenchmarkLoadForeign(b *testing.B) {
	path := os.Getenv("BERTH_BENCH_BPF")
	if path == "" {
		b.Skip("BERTH_BENCH_BPF names no program to compare with")
	}
	program, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	benchmarkLoad(b, program, seccomp.FlagSpecAllow)
}

func benchmarkLoad(b *testing.B, program []byte, flags uint) {
	b.Helper()
	times := make([]time.Duration, 0, b.N)
	done := make(chan error)
	for range b.N {
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with its filter
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				done <- err
				return
			}
			start := time.Now()
			err := load(program, flags)
			times = append(times, time.Since(start))
			done <- err
		}()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "median-ns")
	b.ReportMetric(float64(len(program)/8), "instructions")
}

// BenchmarkGetppid times an allowed call in a process with the filter: the price
// that the workload pays.
func BenchmarkGetppid(b *testing.B) {
	f, err := seccomp.Compile(dockerProfile(b))
	if err != nil {
		b.Fatal(err)
	}
	text, err := json.Marshal(script{Program: f.Bytes(), Flags: f.Flags})
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), scriptEnv+"="+string(text), "BERTH_TEST_SECCOMP_LOOPS="+strconv.Itoa(b.N))
	out, err := cmd.Output()
	if err != nil {
		b.Fatal(err)
	}
	ns, err := strconv.ParseFloat(string(out), 64)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(ns/float64(b.N), "ns/call")
}
