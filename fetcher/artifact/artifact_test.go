package artifact_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/artifact"
	"github.com/berth-dev/berth/fetcher/cache"
	"github.com/berth-dev/berth/fetcher/uri"
	"github.com/berth-dev/berth/fetcher/uri/file"
	web "github.com/berth-dev/berth/fetcher/uri/http"
)

// extractor understands archives of lines: "d PATH", "f PATH CONTENT", "l PATH TARGET".
type extractor struct {
	mu   sync.Mutex
	seen []containerizer.Extraction
}

func (x *extractor) Extract(_ context.Context, archive, target *os.File, e containerizer.Extraction) (int64, error) {
	x.mu.Lock()
	x.seen = append(x.seen, e)
	x.mu.Unlock()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", archive.Fd()))
	if err != nil {
		return 0, err
	}
	if e.Kind == containerizer.ArchiveFile {
		return 1, os.WriteFile(filepath.Join(target.Name(), e.Name), b, 0o600)
	}
	n := int64(0)
	for line := range strings.Lines(string(b)) {
		f := append(strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3), "", "")
		path := filepath.Join(target.Name(), f[1])
		switch f[0] {
		case "d":
			err = os.MkdirAll(path, 0o755)
		case "f":
			err = os.WriteFile(path, []byte(f[2]), 0o600)
		case "l":
			err = os.Symlink(f[2], path)
		default:
			err = fmt.Errorf("line %q: %w", line, containerizer.ErrDataCorrupt)
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// bench is a fetcher with a server and a directory to fetch into.
type bench struct {
	t         *testing.T
	dir, root string
	extractor extractor
	o         artifact.Options
	url       string

	mu    sync.Mutex
	files map[string]string
	// versioned gives answers an ETag.
	versioned bool
	requests  []string
	hook      func(w http.ResponseWriter, r *http.Request) bool
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: filepath.Join(t.TempDir(), "sandbox"), root: filepath.Join(t.TempDir(), "cache"), files: map[string]string{}, versioned: true}
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(b.serve))
	t.Cleanup(s.Close)
	b.url = s.URL + "/"
	b.o.Downloader = uri.Downloader{Backoff: time.Millisecond}
	return b
}

func (b *bench) serve(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	content, ok := b.files[r.URL.Path[1:]]
	b.requests = append(b.requests, r.Header.Get("If-None-Match")+r.Header.Get("Range"))
	hook := b.hook
	b.mu.Unlock()
	if hook != nil && hook(w, r) {
		return
	}
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if b.versioned {
		w.Header().Set("ETag", fmt.Sprintf("%q", digest.FromString(content).Encoded()))
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader([]byte(content)))
}

func (b *bench) fetch(list ...containerizer.Artifact) ([]containerizer.FetchedArtifact, error) {
	f := artifact.New([]uri.Scheme{file.New(), web.New(web.Options{})}, cache.New(b.root, cache.Options{MaxBytes: 1 << 20}), &b.extractor, b.o)
	return f.Fetch(b.t.Context(), b.dir, list, containerizer.FetchOptions{})
}

func (b *bench) must(list ...containerizer.Artifact) []containerizer.FetchedArtifact {
	b.t.Helper()
	done, err := b.fetch(list...)
	if err != nil {
		b.t.Fatal(err)
	}
	return done
}

// want compares the directory with lines "PATH mode content".
func (b *bench) want(want ...string) {
	b.t.Helper()
	var got []string
	err := filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == b.dir {
			return err
		}
		rel, _ := filepath.Rel(b.dir, path)
		switch d.Type() {
		case fs.ModeDir:
			got = append(got, rel+"/")
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			got = append(got, rel+" -> "+target)
			return err
		default:
			content, err := os.ReadFile(path)
			info, ierr := d.Info()
			if err = errors.Join(err, ierr); err != nil {
				return err
			}
			got = append(got, fmt.Sprintf("%s %03o %s", rel, info.Mode().Perm(), content))
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Error(diff)
	}
}

func TestPlaces(t *testing.T) {
	archive := "d d\nf d/f inside\nl d/l /etc\nf top t\n"
	for name, c := range map[string]struct {
		list []containerizer.Artifact
		want []string
	}{
		"plain":       {[]containerizer.Artifact{{URI: "plain"}}, []string{"plain 644 text"}},
		"executable":  {[]containerizer.Artifact{{URI: "plain", Executable: true}}, []string{"plain 755 text"}},
		"output":      {[]containerizer.Artifact{{URI: "plain", Output: "a/./b/c"}}, []string{"a/", "a/b/", "a/b/c 644 text"}},
		"archive":     {[]containerizer.Artifact{{URI: "x.tar.gz"}}, []string{"d/", "d/f 600 inside", "d/l -> /etc", "top 600 t"}},
		"kept":        {[]containerizer.Artifact{{URI: "x.tar.gz", KeepArchive: true, Output: "k/y.tgz"}}, []string{"d/", "d/f 600 inside", "d/l -> /etc", "top 600 t", "k/", "k/y.tgz 644 " + archive}},
		"no extract":  {[]containerizer.Artifact{{URI: "x.tar.gz", NoExtract: true}}, []string{"x.tar.gz 644 " + archive}},
		"exec no ext": {[]containerizer.Artifact{{URI: "x.tar.gz", Executable: true}}, []string{"x.tar.gz 755 " + archive}},
		"one file":    {[]containerizer.Artifact{{URI: "one.gz", Output: "sub/other.txt.gz"}}, []string{"other.txt 600 compressed"}},
		"by output":   {[]containerizer.Artifact{{URI: "x.tar.gz", Output: "bytes"}}, []string{"bytes 644 " + archive}},
		"order": {
			[]containerizer.Artifact{{URI: "x.tar.gz"}, {URI: "plain", Output: "top"}, {URI: "plain", Output: "d/f"}},
			[]string{"d/", "d/f 644 text", "d/l -> /etc", "top 644 text"},
		},
		"merged": {
			[]containerizer.Artifact{{URI: "x.tar.gz"}, {URI: "more.tar"}},
			[]string{"d/", "d/f 600 again", "d/l/", "d/l/x 600 y", "d/g 600 new", "top 600 t"},
		},
	} {
		for _, cached := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", name, cached), func(t *testing.T) {
				b := newBench(t)
				b.files = map[string]string{
					"plain": "text", "x.tar.gz": archive, "one.gz": "compressed",
					"more.tar": "d d\nf d/f again\nd d/l\nf d/l/x y\nf d/g new\n",
				}
				list := slices.Clone(c.list)
				for i := range list {
					list[i].Cache, list[i].URI = cached, b.url+list[i].URI
				}
				b.must(list...)
				b.want(c.want...)
			})
		}
	}
}

func TestNothingLeavesTheDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(dir, outside string) error
		list    []containerizer.Artifact
		want    error
	}{
		"parent":                      {nil, []containerizer.Artifact{{URI: "plain", Output: "../outside/f"}}, containerizer.ErrInvalid},
		"absolute":                    {nil, []containerizer.Artifact{{URI: "plain", Output: "/tmp/f"}}, containerizer.ErrInvalid},
		"hidden parent":               {nil, []containerizer.Artifact{{URI: "plain", Output: "a/../../f"}}, containerizer.ErrInvalid},
		"directory only":              {nil, []containerizer.Artifact{{URI: "plain", Output: "a/"}}, containerizer.ErrInvalid},
		"dot":                         {nil, []containerizer.Artifact{{URI: "plain", Output: "."}}, containerizer.ErrInvalid},
		"name of the URI":             {nil, []containerizer.Artifact{{URI: "%2e%2e"}}, containerizer.ErrInvalid},
		"link on the way":             {func(dir, out string) error { return os.Symlink(out, dir+"/a") }, []containerizer.Artifact{{URI: "plain", Output: "a/f"}}, containerizer.ErrInvalid},
		"link in its place":           {func(dir, out string) error { return os.Symlink(out+"/f", dir+"/plain") }, []containerizer.Artifact{{URI: "plain"}}, nil},
		"link an archive goes by":     {func(dir, out string) error { return os.Symlink(out, dir+"/d") }, []containerizer.Artifact{{URI: "x.tar"}}, nil},
		"link from another archive":   {nil, []containerizer.Artifact{{URI: "link.tar"}, {URI: "x.tar"}}, nil},
		"output by a link of another": {nil, []containerizer.Artifact{{URI: "link.tar"}, {URI: "plain", Output: "d/f"}}, containerizer.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			outside := filepath.Join(filepath.Dir(b.dir), "outside")
			if err := os.Mkdir(outside, 0o755); err != nil {
				t.Fatal(err)
			}
			b.files = map[string]string{"plain": "text", "..": "up", "x.tar": "d d\nf d/f inside\n", "link.tar": "l d " + outside + "\n"}
			if c.prepare != nil {
				if err := c.prepare(b.dir, outside); err != nil {
					t.Fatal(err)
				}
			}
			for i := range c.list {
				c.list[i].URI = b.url + c.list[i].URI
			}
			if _, err := b.fetch(c.list...); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if left, err := os.ReadDir(outside); len(left) > 0 || err != nil {
				t.Errorf("outside is %v, %v", left, err)
			}
			if left, err := filepath.Glob(b.dir + "/.berth-*"); len(left) > 0 || err != nil {
				t.Errorf("left are %v, %v", left, err)
			}
		})
	}
}

// When one cannot be had, nothing is placed.
func TestAllOrNothing(t *testing.T) {
	good := digest.FromString("text")
	for name, c := range map[string]struct {
		bad  containerizer.Artifact
		want error
	}{
		"missing":              {containerizer.Artifact{URI: "missing"}, containerizer.ErrNotFound},
		"checksum":             {containerizer.Artifact{URI: "other", Checksum: good}, containerizer.ErrDataCorrupt},
		"checksum in the URI":  {containerizer.Artifact{URI: "other#sha256=" + good.Encoded()}, containerizer.ErrDataCorrupt},
		"two checksums":        {containerizer.Artifact{URI: "plain#sha256=" + good.Encoded(), Checksum: digest.FromString("")}, containerizer.ErrInvalid},
		"broken archive":       {containerizer.Artifact{URI: "bad.tar"}, containerizer.ErrDataCorrupt},
		"unknown scheme":       {containerizer.Artifact{URI: "gopher://h/x"}, containerizer.ErrUnsupported},
		"unknown user":         {containerizer.Artifact{URI: "plain", User: "nobody-by-this-name"}, containerizer.ErrInvalid},
		"user without a group": {containerizer.Artifact{URI: "plain", User: "1:"}, containerizer.ErrInvalid},
		"user that is no id":   {containerizer.Artifact{URI: "plain", User: "4294967295"}, containerizer.ErrInvalid},
		"md5":                  {containerizer.Artifact{URI: "plain", Checksum: "md5:d41d8cd98f00b204e9800998ecf8427e"}, containerizer.ErrInvalid},
	} {
		for _, cached := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", name, cached), func(t *testing.T) {
				b := newBench(t)
				b.files = map[string]string{"plain": "text", "other": "else", "bad.tar": "nonsense\n"}
				bad := c.bad
				bad.Cache = cached
				if !strings.Contains(bad.URI, "://") {
					bad.URI = b.url + bad.URI
				}
				if _, err := b.fetch(containerizer.Artifact{URI: b.url + "plain"}, bad); !errors.Is(err, c.want) {
					t.Errorf("error %v, want %v", err, c.want)
				}
				b.want()
			})
		}
	}
	t.Run("a directory is in the way", func(t *testing.T) {
		b := newBench(t)
		b.files["plain"] = "text"
		if err := os.Mkdir(b.dir+"/plain", 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := b.fetch(containerizer.Artifact{URI: b.url + "plain"}); !errors.Is(err, containerizer.ErrAlreadyExists) {
			t.Errorf("error %v", err)
		}
		b.want("plain/")
	})
}

func TestLimits(t *testing.T) {
	b := newBench(t)
	b.o.MaxBytes = 1000
	b.files = map[string]string{"a": strings.Repeat("a", 600), "b": strings.Repeat("b", 300)}
	a := containerizer.Artifact{URI: b.url + "a"}
	b.must(a, containerizer.Artifact{URI: b.url + "b"})
	other := a
	other.Output = "c"
	if _, err := b.fetch(a, other); !errors.Is(err, containerizer.ErrResourceExhausted) {
		t.Errorf("1200 bytes of 1000: %v", err)
	}
	b.hook = func(w http.ResponseWriter, _ *http.Request) bool { // no size is told
		for range 100 {
			_, _ = io.WriteString(w, strings.Repeat("x", 100))
			w.(http.Flusher).Flush()
		}
		return true
	}
	for _, cached := range []bool{false, true} {
		if _, err := b.fetch(containerizer.Artifact{URI: b.url + "a", Cache: cached}); !errors.Is(err, containerizer.ErrResourceExhausted) {
			t.Errorf("10000 bytes of 1000: %v", err)
		}
	}
}

func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	b := newBench(t)
	b.files = map[string]string{"plain": "text", "x.tar": "f y z\n"}
	b.o.LookupUser = func(name string) (containerizer.Owner, error) {
		if name != "task" {
			return containerizer.Owner{}, containerizer.ErrInvalid
		}
		return containerizer.Owner{UID: 77, GID: 78}, nil
	}
	b.must(
		containerizer.Artifact{URI: b.url + "plain", Output: "dir/named", User: "task"},
		containerizer.Artifact{URI: b.url + "plain", Output: "numbers", User: "5:6"},
		containerizer.Artifact{URI: b.url + "plain", Output: "number", User: "5"},
		containerizer.Artifact{URI: b.url + "plain", Output: "ours"},
		containerizer.Artifact{URI: b.url + "x.tar", User: "5:6"})
	for path, want := range map[string][2]uint32{"dir": {77, 78}, "dir/named": {77, 78}, "numbers": {5, 6}, "number": {5, 5}, "ours": {0, 0}} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(b.dir, path), &st); err != nil || st.Uid != want[0] || st.Gid != want[1] {
			t.Errorf("%s is %d:%d's, %v; want %v", path, st.Uid, st.Gid, err, want)
		}
	}
	if got := b.extractor.seen[0].Owner; got != (containerizer.Owner{UID: 5, GID: 6}) {
		t.Errorf("the archive is extracted for %+v", got)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.fetch(containerizer.Artifact{URI: secret, User: "5:6"}); !errors.Is(err, containerizer.ErrPermission) {
		t.Errorf("a file of root for user 5: %v", err)
	}
}

func TestCache(t *testing.T) {
	b := newBench(t)
	b.files["x"] = "first"
	x := containerizer.Artifact{URI: b.url + "x", Cache: true}
	step := func(what string, a containerizer.Artifact, fromCache bool, requests int, content string) {
		t.Helper()
		b.requests = nil
		done := b.must(a)
		if done[0].FromCache != fromCache || len(b.requests) != requests {
			t.Errorf("%s: from the cache %v, %d requests; want %v and %d", what, done[0].FromCache, len(b.requests), fromCache, requests)
		}
		if got, err := os.ReadFile(filepath.Join(b.dir, done[0].Path)); string(got) != content || err != nil {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	step("empty cache", x, false, 1, "first")
	step("unchanged", x, true, 1, "first")
	b.files["x"] = "second"
	step("changed", x, false, 1, "second")
	pinned := x
	pinned.Checksum = digest.FromString("second")
	step("the right checksum asks nobody", pinned, true, 0, "second")
	pinned.Checksum = digest.SHA512.FromString("second")
	step("nor another right one", pinned, true, 0, "second")
	b.files["x"] = "third"
	pinned.Checksum = digest.FromString("third")
	step("another checksum", pinned, false, 1, "third")
	user := x
	user.User = "0:0"
	step("another user", user, false, 1, "third")
	uncached := x
	uncached.Cache = false
	step("no cache", uncached, false, 1, "third")
	b.versioned = false
	b.files["x"] = "fourth"
	step("no versions", x, false, 1, "fourth")
	step("no versions again", x, false, 1, "fourth")
	delete(b.files, "x")
	if _, err := b.fetch(x); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("what is gone: %v", err)
	}
	// What was delivered is nobody else's.
	step2 := filepath.Join(b.dir, "x")
	if err := os.WriteFile(step2, []byte("changed by the task"), 0o600); err != nil {
		t.Fatal(err)
	}
	pinned.Checksum = digest.FromString("fourth")
	step("a copy was changed", pinned, true, 0, "fourth")
}

// What does not fit into the cache is fetched all the same.
func TestCacheTooSmall(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 200_000) // 3.2 MB of 1 MiB
	for name, unknown := range map[string]bool{"size known": false, "size unknown": true} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.files["big"] = content
			cuts := 0
			b.hook = func(w http.ResponseWriter, r *http.Request) bool {
				if !unknown || r.Header.Get("Range") != "" {
					return false
				}
				w.Header().Set("ETag", fmt.Sprintf("%q", digest.FromString(content).Encoded()))
				for i := 0; i < len(content); i += 100_000 {
					if i == 2_000_000 {
						cuts++
						panic(http.ErrAbortHandler)
					}
					_, _ = io.WriteString(w, content[i:i+100_000])
					w.(http.Flusher).Flush()
				}
				return true
			}
			b.must(containerizer.Artifact{URI: b.url + "big", Cache: true})
			b.want("big 644 " + content)
			u, err := cache.New(b.root, cache.Options{}).Usage()
			if err != nil || u.Bytes != 0 || unknown && cuts != 1 {
				t.Errorf("the cache has %+v, %v; %d cuts", u, err, cuts)
			}
		})
	}
}

func TestOneDownloadForAll(t *testing.T) {
	b := newBench(t)
	b.files["x"] = "content"
	const many = 8
	var bodies atomic.Int32
	var wg, begun sync.WaitGroup
	begun.Add(many)
	b.hook = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("If-None-Match") == "" {
			bodies.Add(1)
		}
		begun.Wait() // the others come meanwhile
		return false
	}
	for i := range many {
		wg.Go(func() {
			dir := filepath.Join(t.TempDir())
			f := artifact.New([]uri.Scheme{web.New(web.Options{})}, cache.New(b.root, cache.Options{}), &extractor{}, b.o)
			begun.Done()
			done, err := f.Fetch(t.Context(), dir, []containerizer.Artifact{{URI: b.url + "x", Cache: true, Output: fmt.Sprint(i)}}, containerizer.FetchOptions{})
			if err != nil || done[0].Bytes != 7 {
				t.Errorf("%+v, %v", done, err)
			}
		})
	}
	wg.Wait()
	if n := bodies.Load(); n != 1 {
		t.Errorf("%d downloads, want 1", n)
	}
}

// An unfinished download is gone on with when it was cut off, and not when the
// content was wrong.
func TestCutOff(t *testing.T) {
	b := newBench(t)
	content := strings.Repeat("0123456789", 50_000)
	b.files["x"] = content
	x := containerizer.Artifact{URI: b.url + "x", Cache: true}
	down := true
	b.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if !down {
			return false
		}
		if r.Header.Get("Range") != "" {
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		w.Header().Set("ETag", fmt.Sprintf("%q", digest.FromString(content).Encoded()))
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = io.WriteString(w, content[:300_000])
		panic(http.ErrAbortHandler)
	}
	if _, err := b.fetch(x); !errors.Is(err, containerizer.ErrUnavailable) {
		t.Fatal(err)
	}
	down, b.requests = false, nil
	b.must(x)
	b.want("x 644 " + content)
	if len(b.requests) != 1 || b.requests[0] == "" || b.requests[0] == "bytes=0-" {
		t.Errorf("requests %q, want one for the rest", b.requests)
	}
}

// What a killed process left in the directory goes with the next fetch.
func TestLeftOver(t *testing.T) {
	b := newBench(t)
	b.files["x"] = "text"
	dead, live := filepath.Join(b.dir, ".berth-fetch-dead"), filepath.Join(b.dir, ".berth-fetch-live")
	for _, d := range []string{dead, live} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(live)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a lock
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	b.must(containerizer.Artifact{URI: b.url + "x"})
	b.want(".berth-fetch-live/", "x 644 text")
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	b := newBench(t)
	b.files["big"] = strings.Repeat("x", 4<<20)
	if err := unix.Mount("tmpfs", b.dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("mounting a tmpfs:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(b.dir, unix.MNT_DETACH) })
	if _, err := b.fetch(containerizer.Artifact{URI: b.url + "big"}); !errors.Is(err, containerizer.ErrResourceExhausted) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v", err)
	}
	b.want()
}

func TestNoDirectory(t *testing.T) {
	b := newBench(t)
	b.files["x"] = "text"
	b.dir += "/missing"
	if _, err := b.fetch(containerizer.Artifact{URI: b.url + "x"}); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("error %v", err)
	}
}
