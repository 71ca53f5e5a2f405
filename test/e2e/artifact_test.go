package e2e_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// artifactServer serves files, and counts whole bodies.
func artifactServer(t *testing.T) (url string, bodies *atomic.Int32) {
	t.Helper()
	var tgz bytes.Buffer
	z := gzip.NewWriter(&tgz)
	w := tar.NewWriter(z)
	for _, h := range []tar.Header{
		{Name: "app/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "app/run", Typeflag: tar.TypeReg, Mode: 0o4755, Size: 29},
		{Name: "app/out", Typeflag: tar.TypeSymlink, Linkname: "/etc", Mode: 0o777},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("#!/bin/sh\necho from the tar\n\n")); err != nil {
				t.Fatal(err)
			}
		}
	}
	var zipped bytes.Buffer
	a := zip.NewWriter(&zipped)
	f, err := a.Create("data/text")
	if err == nil {
		_, err = f.Write([]byte("from the zip\n"))
	}
	if err = firstError(err, a.Close(), w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"/app.tar.gz": tgz.Bytes(), "/data.zip": zipped.Bytes(), "/tool": []byte("#!/bin/sh\necho tool in $BERTH_SANDBOX\n"),
		"/big": bytes.Repeat([]byte("0123456789abcdef"), 1<<18),
	}
	bodies = &atomic.Int32{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if r.Header.Get("If-None-Match") == "" {
			bodies.Add(1)
		}
		w.Header().Set("ETag", fmt.Sprintf("\"%x\"", sha256.Sum256(content)))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	t.Cleanup(s.Close)
	return s.URL, bodies
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// artifactNode is a node whose cache exists already, and is emptied when the test ends.
func artifactNode(t *testing.T, url string) *node {
	t.Helper()
	n := newNode(t)
	n.must("fetch", "-q", "--cache", "-o", t.TempDir(), url+"/tool")
	n.must(n.run([]string{"--rm", "--artifact", url + "/tool"}, "true")...)
	n.must("system", "prune", "-f", "--artifacts")
	n.before = listFiles(t, n.dir)
	return n
}

func TestFetch(t *testing.T) {
	t.Parallel()
	url, bodies := artifactServer(t)
	n := artifactNode(t, url)
	dir := filepath.Join(t.TempDir(), "new", "place")
	got := n.must("fetch", "-o", dir, "--cache", "--format", "{{.Path}} {{.Entries}} {{.Cached}}", url+"/app.tar.gz", url+"/data.zip")
	if got != " 3 false\n 1 false" {
		t.Errorf("fetch prints %q", got)
	}
	for path, want := range map[string]string{"app/run": "#!/bin/sh\necho from the tar\n\n", "data/text": "from the zip\n"} {
		if b, err := os.ReadFile(filepath.Join(dir, path)); string(b) != want || err != nil {
			t.Errorf("%s has %q, %v", path, b, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "app/run")); err != nil || info.Mode() != 0o755 {
		t.Errorf("run is %v, %v", info, err)
	}
	before := bodies.Load()
	if got := n.must("fetch", "-o", dir, "--cache", "--no-extract", "--format", "{{.Path}} {{.Cached}}", url+"/app.tar.gz"); got != "app.tar.gz true" {
		t.Errorf("the second fetch prints %q", got)
	}
	if bodies.Load() != before {
		t.Error("it was downloaded again")
	}
	if got := n.must("system", "df", "--format", "{{.Type}} {{.TotalCount}}"); !strings.Contains(got, "Artifacts 2") {
		t.Errorf("df shows %q", got)
	}
	other := t.TempDir()
	r := n.berth("fetch", "-o", other, "--sha256", strings.Repeat("0", 64), url+"/tool")
	if left, err := os.ReadDir(other); r.code != 125 || !strings.Contains(r.stderr, "checksum") || len(left) > 0 || err != nil {
		t.Errorf("a wrong checksum: %+v, and %v is left, %v", r, left, err)
	}
	n.must("fetch", "-q", "-o", other, "--executable", "--name", "bin/t", "--sha256", fmt.Sprintf("%x", sha256.Sum256([]byte("#!/bin/sh\necho tool in $BERTH_SANDBOX\n"))), url+"/tool")
	if info, err := os.Stat(filepath.Join(other, "bin/t")); err != nil || info.Mode() != 0o755 {
		t.Errorf("the tool is %v, %v", info, err)
	}
	for _, bad := range [][]string{
		{"fetch"},
		{"fetch", "--sha256", strings.Repeat("0", 64), url + "/a", url + "/b"},
		{"fetch", "-o", other, "--name", "../x", url + "/tool"},
		{"fetch", "-o", other, url + "/missing"},
		{"fetch", "-o", other, "gopher://h/x"},
		{"fetch", "-o", other, "http://169.254.169.254/latest"},
	} {
		if r := n.berth(bad...); r.code != 125 || !strings.HasPrefix(r.stderr, "berth: ") && !strings.Contains(r.stderr, "\nberth: ") {
			t.Errorf("berth %q: %+v", bad, r)
		}
	}
	n.must("system", "prune", "-f", "--artifacts")
}

func TestRunWithArtifacts(t *testing.T) {
	t.Parallel()
	url, _ := artifactServer(t)
	n := artifactNode(t, url)
	flags := []string{
		"--artifact", url + "/app.tar.gz,cache", "--artifact", url + "/tool,executable,output=bin/tool", "--artifact", url + "/data.zip,extract=false",
	}
	got := n.sh(`cd $BERTH_SANDBOX; app/run; bin/tool; ls -n data.zip | awk '{print $3,$4}'; readlink app/out; ls -nd . | awk '{print $1,$3,$4}'; touch mine && ls`,
		append([]string{"-u", "1234:1235"}, flags...)...)
	want := "from the tar\n\ntool in /sandbox\n1234 1235\n/etc\ndrwxr-xr-x 1234 1235\napp\nbin\ndata.zip\nmine"
	if strings.ReplaceAll(got, "\n\n", "\n") != strings.ReplaceAll(want, "\n\n", "\n") {
		t.Errorf("the container says %q, want %q", got, want)
	}
	if got := n.sh(`echo $BERTH_SANDBOX; ls /work`, append([]string{"--sandbox", "/work", "--userns", "private"}, flags...)...); got != "/work\napp\nbin\ndata.zip" {
		t.Errorf("at another place it has %q", got)
	}

	id := n.must(n.run(append([]string{"-d"}, flags...), "sh", "-c", "echo x >> /sandbox/mine; cat /sandbox/mine")...)
	n.must("wait", id)
	n.must("start", id)
	n.must("wait", id)
	if got := n.must("logs", id); got != "x\nx\nx" {
		t.Errorf("after a restart the sandbox has %q", got)
	}
	n.must("rm", id)

	for name, c := range map[string]struct{ artifact, says string }{
		"missing":         {url + "/missing", "404"},
		"checksum":        {url + "/tool,sha256=" + strings.Repeat("0", 64), "checksum"},
		"output":          {url + "/tool,output=../../x", "output"},
		"option":          {url + "/tool,nosuch", "nosuch"},
		"file of root":    {"file:///etc/shadow,user=1234:1234", "permission denied"},
		"no such file":    {"/no/such/file", "/no/such/file"},
		"unknown scheme":  {"gopher://h/x", "gopher"},
		"broken archive":  {url + "/tool,output=x.tar", "tar"},
		"name of nothing": {"https://host/", "names no file"},
	} {
		r := n.berth(n.run([]string{"--rm", "--artifact", c.artifact}, "true")...)
		if r.code != 125 || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%s: %+v, want %q", name, r, c.says)
		}
	}
	n.must("system", "prune", "-f", "--artifacts")
}

// A missing artifact is asked for once, by a launch that shows how the others get on.
func TestArtifactsOfLaunch(t *testing.T) {
	t.Parallel()
	var missing atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			missing.Add(1)
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, "content") // the client is gone, then
	}))
	t.Cleanup(s.Close)
	n := newNode(t)
	n.must(n.run([]string{"--rm", "--artifact", s.URL + "/file"}, "true")...)
	n.before = listFiles(t, n.dir)
	if r := n.berth(n.run([]string{"--rm", "--artifact", s.URL + "/missing"}, "true")...); r.code != 125 || missing.Load() != 1 {
		t.Errorf("it was asked for %d times: %+v", missing.Load(), r)
	}
	r := n.berth(n.run([]string{"--rm", "--artifact", s.URL + "/file"}, "cat", "/sandbox/file")...)
	told := strings.Contains(r.stderr, "downloading") && strings.Contains(r.stderr, "complete")
	if r.stdout != "content" || !told && n.daemon == nil { // a daemon's launches do not tell their progress
		t.Errorf("run says %+v", r)
	}
	if r := n.berth(n.run([]string{"--rm", "-q", "--artifact", s.URL + "/file"}, "true")...); r.stderr != "" {
		t.Errorf("quiet run says %+v", r)
	}
}

// A fetch that is killed at any point is finished by the next one, and leaves nothing
// that counts.
func TestKilledFetch(t *testing.T) {
	t.Parallel()
	url, _ := artifactServer(t)
	n := artifactNode(t, url)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	dir := t.TempDir()
	for range 20 {
		cmd := n.command(t.Context(), "fetch", "-q", "--cache", "-o", dir, url+"/big", url+"/app.tar.gz")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(random.IntN(80_000)) * time.Microsecond) // the moment is the point
		_ = cmd.Process.Kill()                                            // it may have ended
		_ = cmd.Wait()                                                    // it was killed
	}
	n.must("fetch", "-q", "--cache", "-o", dir, url+"/big", url+"/app.tar.gz")
	var names []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if got := strings.Join(names, " "); got != ". app app/out app/run big" || err != nil {
		t.Errorf("in the directory is %q, %v", got, err)
	}
	if got := n.must("system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"); !strings.Contains(got, "Artifacts 2 0") {
		t.Errorf("df shows %q", got)
	}
	n.must("system", "prune", "-f", "--artifacts")
	if got := n.must("system", "df", "--format", "{{.Type}} {{.Size}}"); !strings.Contains(got, "Artifacts 0B") {
		t.Errorf("after prune df shows %q", got)
	}
}
