package seccomp_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-dev/berth/containerizer/launch/seccomp"
)

func mustFilter(t *testing.T, c *seccomp.Cache, p *specs.LinuxSeccomp) *seccomp.Filter {
	t.Helper()
	f, err := c.Filter(p)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestCacheReturnsWhatCompileMakes(t *testing.T) {
	p := dockerProfile(t)
	want, err := seccomp.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new", "cache")
	for _, c := range []*seccomp.Cache{seccomp.NewCache(dir), seccomp.NewCache(dir), seccomp.NewCache("")} {
		for range 2 {
			if diff := cmp.Diff(want, mustFilter(t, c, p)); diff != "" {
				t.Fatalf("filter (-want +got):\n%s", diff)
			}
		}
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v; want mode 0700", info, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != seccomp.CacheFileName(p) {
		t.Errorf("files %v, %v; want the profile's alone", entries, err)
	}
}

func TestCacheReadsItsFile(t *testing.T) {
	dir := t.TempDir()
	p, other := dockerProfile(t), &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	mustFilter(t, seccomp.NewCache(dir), p)
	path := filepath.Join(dir, seccomp.CacheFileName(p))
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	mustFilter(t, seccomp.NewCache(dir), p)
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was written again: %v", err)
	}
	// A file of another profile under this name is not believed.
	if err := os.Rename(path, filepath.Join(dir, seccomp.CacheFileName(other))); err != nil {
		t.Fatal(err)
	}
	if f := mustFilter(t, seccomp.NewCache(dir), other); len(f.Instructions) > 10 {
		t.Errorf("%d instructions for a profile without rules", len(f.Instructions))
	}
}

// TestCacheRebuildsDamagedFiles damages each byte of a file in turn, and cuts it.
func TestCacheRebuildsDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"bpf"}, Action: specs.ActKill}}}
	want := mustFilter(t, seccomp.NewCache(dir), p)
	path := filepath.Join(dir, seccomp.CacheFileName(p))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, mustFilter(t, seccomp.NewCache(dir), p)); diff != "" {
			t.Fatalf("filter (-want +got):\n%s", diff)
		}
		if again, err := os.ReadFile(path); err != nil || string(again) != string(good) {
			t.Fatalf("the file was not repaired: %v", err)
		}
	}
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 0x40
		check(bad)
	}
	for n := range good {
		check(good[:n])
	}
	check(append(slices.Clip(good), 0))
	check(make([]byte, 1<<20))
}

func TestCacheWithoutUsableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if f := mustFilter(t, seccomp.NewCache(file), dockerProfile(t)); len(f.Instructions) == 0 {
		t.Error("no filter")
	}
}

func TestCacheReportsBadProfile(t *testing.T) {
	dir := t.TempDir()
	if f, err := seccomp.NewCache(dir).Filter(&specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_WISH"}); err == nil {
		t.Errorf("got %v, want an error", f)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("files %v, %v; want none", entries, err)
	}
}

// TestCacheIsBounded puts many profiles in and expects the newest one to survive.
func TestCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	stranger := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(stranger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	leftOver := filepath.Join(dir, "new-123")
	if err := os.WriteFile(leftOver, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	for _, path := range []string{stranger, leftOver} {
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	c := seccomp.NewCache(dir)
	var last *specs.LinuxSeccomp
	for i := range uint(600) {
		last = &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: &i}
		mustFilter(t, c, last)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 300 {
		t.Errorf("%d files, %v; want at most 300", len(entries), err)
	}
	if _, err := os.Stat(filepath.Join(dir, seccomp.CacheFileName(last))); err != nil {
		t.Errorf("the newest file: %v", err)
	}
	if _, err := os.Stat(leftOver); !os.IsNotExist(err) {
		t.Errorf("left-over of a killed writer: %v, want it gone", err)
	}
	if _, err := os.Stat(stranger); err != nil {
		t.Errorf("a file of somebody else: %v, want it kept", err)
	}
}

func TestCacheConcurrently(t *testing.T) {
	dir := t.TempDir()
	profiles := make([]*specs.LinuxSeccomp, 8)
	for i := range profiles {
		profiles[i] = dockerProfile(t, "CAP_"+strconv.Itoa(i))
		profiles[i].Syscalls = profiles[i].Syscalls[:i+1]
	}
	shared := seccomp.NewCache(dir)
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			c := shared
			if n%2 == 0 {
				c = seccomp.NewCache(dir) // as another process
			}
			for _, p := range profiles {
				want, err := seccomp.Compile(p)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := c.Filter(p)
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("filter, %v (-want +got):\n%s", err, diff)
				}
			}
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(profiles) {
		t.Errorf("%d files, %v; want %d and no left-overs", len(entries), err, len(profiles))
	}
}

// TestKeysDiffer changes each field of a profile and expects another file.
func TestKeysDiffer(t *testing.T) {
	one, two := uint(1), uint(2)
	base := func() *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{
			DefaultAction: specs.ActErrno, DefaultErrnoRet: &one, Architectures: []specs.Arch{specs.ArchX86},
			Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog},
			Syscalls: []specs.LinuxSyscall{{
				Names: []string{"read", "write"}, Action: specs.ActErrno, ErrnoRet: &one,
				Args: []specs.LinuxSeccompArg{{Index: 1, Value: 2, ValueTwo: 3, Op: specs.OpEqualTo}},
			}},
		}
	}
	seen := map[string]string{seccomp.CacheFileName(base()): "the original"}
	for name, change := range map[string]func(p *specs.LinuxSeccomp){
		"default action":   func(p *specs.LinuxSeccomp) { p.DefaultAction = specs.ActKill },
		"default errno":    func(p *specs.LinuxSeccomp) { p.DefaultErrnoRet = &two },
		"no default errno": func(p *specs.LinuxSeccomp) { p.DefaultErrnoRet = nil },
		"no architectures": func(p *specs.LinuxSeccomp) { p.Architectures = nil },
		"architecture":     func(p *specs.LinuxSeccomp) { p.Architectures[0] = specs.ArchX32 },
		"nil flags":        func(p *specs.LinuxSeccomp) { p.Flags = nil },
		"empty flags":      func(p *specs.LinuxSeccomp) { p.Flags = []specs.LinuxSeccompFlag{} },
		"joined names":     func(p *specs.LinuxSeccomp) { p.Syscalls[0].Names = []string{"readwrite"} },
		"moved border":     func(p *specs.LinuxSeccomp) { p.Syscalls[0].Names = []string{"rea", "dwrite"} },
		"action":           func(p *specs.LinuxSeccomp) { p.Syscalls[0].Action = specs.ActTrace },
		"errno":            func(p *specs.LinuxSeccomp) { p.Syscalls[0].ErrnoRet = &two },
		"no arguments":     func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args = nil },
		"index":            func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args[0].Index = 2 },
		"value":            func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args[0].Value = 3 },
		"second value":     func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args[0].ValueTwo = 2 },
		"operator":         func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args[0].Op = specs.OpNotEqual },
	} {
		p := base()
		change(p)
		file := seccomp.CacheFileName(p)
		if other, taken := seen[file]; taken {
			t.Errorf("%s has the key of %s", name, other)
		}
		seen[file] = name
	}
}

func FuzzDecodeCacheFile(f *testing.F) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	dir := f.TempDir()
	if _, err := seccomp.NewCache(dir).Filter(p); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, seccomp.CacheFileName(p)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("berth seccomp 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := seccomp.DecodeCacheFile(p, data); err == nil && string(data) != string(good) {
			t.Errorf("accepted %q as %v", data, got)
		}
	})
}
