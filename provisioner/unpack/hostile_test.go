package unpack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/unpack"
	"github.com/berth-dev/berth/provisioner/unpack/apply"
)

// inProcess unpacks without the child's confinement: what the code alone holds
// must not be left to it.
func inProcess(t *testing.T, data []byte) (layer string, err error) {
	t.Helper()
	layer = filepath.Join(t.TempDir(), "layer")
	if err := os.Mkdir(layer, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := unix.Open(layer, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(root) }()
	_, err = apply.Layer(root, bytes.NewReader(data), unpack.Limits{Depth: 64})
	return layer, err
}

// TestEscapes has archives that try to reach the host, by the ways of published
// vulnerabilities. Whatever becomes of them, the host stays as it was.
func TestEscapes(t *testing.T) {
	base := "/proc/self/cwd/../../../../../../.." // resolves to the host's root from anywhere
	for name, entries := range map[string]func(host string) []entry{
		"CVE-2025-47290, directory replaced by a link": func(host string) []entry {
			return []entry{dir("d", 0o755), file("d/a", "1"), symlink("d", host), file("d/canary", "dead"), file("d/new", "x")}
		},
		"CVE-2025-47290, deeper": func(host string) []entry {
			return []entry{dir("d/e/f", 0o755), file("d/e/f/a", "1"), symlink("d/e", host), file("d/e/canary", "dead"), dir("d/e/new", 0o755)}
		},
		"CVE-2025-47290, back and forth": func(host string) []entry {
			return []entry{dir("d", 0o755), symlink("d", host), dir("d", 0o755), symlink("d", host), file("d/canary", "dead")}
		},
		"CVE-2026-17106, absolute link": func(host string) []entry {
			return []entry{symlink("l", host), file("l/canary", "dead"), hardlink("stolen", "l/canary")}
		},
		"CVE-2026-17106, relative link": func(host string) []entry {
			return []entry{symlink("l", strings.Repeat("../", 20)+host[1:]), file("l/canary", "dead"), hardlink("stolen", "/l/canary")}
		},
		"CVE-2026-17106, link over links": func(host string) []entry {
			return []entry{symlink("a", "b"), symlink("b", "c/../c"), symlink("c", host), file("a/canary", "dead")}
		},
		"link of proc": func(string) []entry { return []entry{symlink("l", base+"/tmp"), file("l/x", "dead")} },
		"hard link to a link, then written": func(host string) []entry {
			return []entry{symlink("l", host+"/canary"), hardlink("h", "l"), file("h", "dead"), file("l", "dead")}
		},
		"CVE-2021-32760, chmod through a link": func(host string) []entry {
			return []entry{symlink("l", host+"/canary"), hardlink("l2", "l"), dir("l", 0o777), char("n", 1, 3), symlink("n", host+"/canary"), char("n", 1, 3)}
		},
		"CVE-2021-29136, root as a link": func(host string) []entry { return []entry{symlink("./", host), file("canary", "dead")} },
		"whiteout through a link": func(host string) []entry {
			return []entry{symlink("l", host), file("l/.wh.canary", ""), file("l/.wh..wh..opq", "")}
		},
		"whiteout names with dots": func(string) []entry { return []entry{dir("d", 0o755), file("d/.wh...", "")} },
		"removal through a link": func(host string) []entry {
			return []entry{symlink("l", host), file("l", "x"), symlink("m", host), dir("m", 0o755), file("m", "x")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			needRoot(t)
			baseDir := t.TempDir()
			host := filepath.Join(baseDir, "host")
			if err := errors.Join(os.Mkdir(host, 0o755), os.WriteFile(filepath.Join(host, "canary"), []byte("alive"), 0o600)); err != nil {
				t.Fatal(err)
			}
			before := tree(t, host)
			data := archive(t, entries(host)...)
			layerDir, err := inProcess(t, data)
			if diff := cmp.Diff(before, tree(t, host)); diff != "" {
				t.Errorf("the host changed (-before +after; error %v):\n%s", err, diff)
			}
			for _, line := range tree(t, layerDir) {
				if strings.Contains(line, "alive") {
					t.Errorf("the layer got the host's file: %s", line)
				}
			}
			if _, _, err := layer(t, unpack.Limits{Depth: 64}, data); err != nil && !errors.Is(err, containerizer.ErrInvalid) {
				t.Errorf("in the child: %v", err)
			}
			if diff := cmp.Diff(before, tree(t, host)); diff != "" {
				t.Errorf("the host changed by the child (-before +after):\n%s", diff)
			}
		})
	}
}

// TestLongPaths has paths that no single system call takes.
func TestLongPaths(t *testing.T) {
	name := strings.Repeat(strings.Repeat("n", 200)+"/", 50)
	dirPath, res, err := layer(t, unpack.Limits{Processors: 1}, archive(t, file(name+"f", "x"), file(name+".wh.gone", ""), file(name+"o/.wh..wh..opq", "")))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Opaque) != 1 || len(res.Whiteouts) != 1 {
		t.Errorf("opaque %d, whiteouts %d", len(res.Opaque), len(res.Whiteouts))
	}
	if err := os.RemoveAll(dirPath); err != nil {
		t.Error(err)
	}
}

// TestWorkIsLinear has archives that made others walk trees again and again
// (GHSA-rp3h-jf77-q9p4): twice the entries may not take much more than twice the
// time.
func TestWorkIsLinear(t *testing.T) {
	for name, make := range map[string]func(n int) []byte{
		"opaque markers": func(n int) []byte {
			return bulk(n, func(i int) (string, byte) { return fmt.Sprintf("d/%d/.wh..wh..opq", i%1000), tar.TypeReg })
		},
		"whiteouts": func(n int) []byte {
			return bulk(n, func(i int) (string, byte) { return fmt.Sprintf("d/.wh.%d", i), tar.TypeReg })
		},
		"duplicates": func(n int) []byte { return bulk(n, func(int) (string, byte) { return "d/f", tar.TypeReg }) },
		"file and directory in turn": func(n int) []byte {
			return bulk(n, func(i int) (string, byte) { return "d/f", []byte{tar.TypeReg, tar.TypeDir}[i%2] })
		},
		"one directory again": func(n int) []byte { return bulk(n, func(int) (string, byte) { return "a/b/c/d/e/f/g", tar.TypeDir }) },
	} {
		t.Run(name, func(t *testing.T) {
			took := func(n int) time.Duration {
				data := make(n)
				start := processorTime(t)
				if _, _, err := layer(t, unpack.Limits{Ratio: 1 << 20, Processors: 2}, data); err != nil {
					t.Fatal(err)
				}
				return processorTime(t) - start
			}
			took(100) // warm
			small, large := took(1_500), took(12_000)
			if large > 25*small+time.Second {
				t.Errorf("8 times the entries took %v instead of %v", large, small)
			}
		})
	}
}

// processorTime is what this process and its children have used: unlike the time
// of day it does not depend on what else the machine and its disk do.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var total time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return total
}

func bulk(n int, entry func(i int) (string, byte)) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range n {
		name, kind := entry(i)
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Mode: 0o755}); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func TestSparse(t *testing.T) {
	// A file of old GNU form: 1 MiB, of which the archive has the last 512 bytes.
	const size = 1 << 20
	data := append(oldSparse(size, size-512, 512), bytes.Repeat([]byte("x"), 512)...)
	data = append(data, make([]byte, 1024)...)
	dirPath, res, err := layer(t, unpack.Limits{}, data)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dirPath, "sparse"))
	if err != nil || len(b) != size || !bytes.Equal(b[:size-512], make([]byte, size-512)) || b[size-1] != 'x' {
		t.Errorf("content of %d bytes, %v", len(b), err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dirPath, "sparse"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > size/2 || res.DiskBytes > size/2+4096 {
		t.Errorf("it takes %d bytes on disk (counted %d)", st.Blocks*512, res.DiskBytes)
	}
	const huge = 1 << 50
	_, _, err = layer(t, unpack.Limits{}, append(oldSparse(huge, 0, 0), make([]byte, 1024)...))
	wantError(t, err, containerizer.ErrResourceExhausted, "bytes")
}

// oldSparse is a header of the type 'S' with one data fragment.
func oldSparse(size, offset, length int64) []byte {
	h := make([]byte, 512)
	number := func(at int, v int64) {
		if v < 1<<33 {
			copy(h[at:], fmt.Sprintf("%011o\x00", v))
			return
		}
		h[at] = 0x80 // base-256
		for i := range 8 {
			h[at+11-i] = byte(v >> (8 * i))
		}
	}
	copy(h, "sparse")
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	number(124, length)
	number(136, 1)
	h[156] = 'S'
	copy(h[257:], "ustar  \x00")
	number(386, offset)
	number(398, length)
	number(483, size)
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

// stalled never gives a byte.
type stalled struct{ done <-chan struct{} }

func (s stalled) Read([]byte) (int, error) {
	<-s.done
	return 0, context.DeadlineExceeded
}

func TestCancel(t *testing.T) {
	needRoot(t)
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := unpack.Run(ctx, command(), f, stalled{ctx.Done()}, unpack.Limits{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestSourceFails(t *testing.T) {
	needRoot(t)
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	broken := errors.New("the network is gone")
	r := io.MultiReader(bytes.NewReader(archive(t, file("f", "x"))[:700]), failing{broken})
	if _, err := unpack.Run(t.Context(), command(), f, r, unpack.Limits{}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestNoCommand(t *testing.T) {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := unpack.Run(t.Context(), nil, f, strings.NewReader(""), unpack.Limits{}); !errors.Is(err, containerizer.ErrUnsupported) {
		t.Errorf("no command: %v", err)
	}
	if _, err := unpack.Run(t.Context(), []string{"/nonexistent"}, f, strings.NewReader(""), unpack.Limits{}); err == nil {
		t.Error("a missing command was run")
	}
	oom := []string{"/bin/sh", "-c", "echo 'fatal error: runtime: out of memory' >&2; exit 2"}
	if _, err := unpack.Run(t.Context(), oom, f, strings.NewReader(""), unpack.Limits{}); !errors.Is(err, containerizer.ErrResourceExhausted) {
		t.Errorf("a child without memory: %v", err)
	}
	if _, err := unpack.Run(t.Context(), []string{"/bin/true"}, f, strings.NewReader(""), unpack.Limits{}); err == nil || !strings.Contains(err.Error(), "without a result") {
		t.Errorf("a command that does nothing: %v", err)
	}
}

// FuzzLayer unpacks anything beside a canary.
func FuzzLayer(f *testing.F) {
	f.Add([]byte("garbage"))
	f.Add(archive(f, dir("d", 0o755), file("d/.wh.x", ""), symlink("l", "/"), file("l/a", "x"), hardlink("h", "l/a"), file("d/.wh..wh..opq", ""), char("c", 0, 0)))
	f.Add(archive(f, symlink("d", ".."), file("d/canary", "dead"), dir("d", 0o700), hardlink("e", "../canary")))
	f.Add(oldSparse(1<<20, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		base := t.TempDir()
		root := filepath.Join(base, "layer")
		canary := filepath.Join(base, "canary")
		if err := errors.Join(os.Mkdir(root, 0o755), os.WriteFile(canary, []byte("alive"), 0o600)); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		_, _ = apply.Layer(fd, bytes.NewReader(data), unpack.Limits{Bytes: 1 << 20, Entries: 1000, Depth: 50, RatioAfter: 1 << 20})
		names, err := os.ReadDir(base)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(canary); string(b) != "alive" || len(names) != 2 {
			t.Fatalf("outside the layer: %q, %v, %v", b, err, names)
		}
	})
}
