package http_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
	web "github.com/berth-dev/berth/fetcher/uri/http"
	"github.com/berth-dev/berth/fetcher/uri/uritest"
)

// origin is a server whose files can be replaced.
type origin struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	times map[string]int
	tags  bool // ETags, else dates
}

func newOrigin(t *testing.T, tags bool) *origin {
	t.Helper()
	o := &origin{files: map[string][]byte{}, times: map[string]int{}, tags: tags}
	o.Server = httptest.NewServer(o)
	t.Cleanup(o.Close)
	return o
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	content, ok := o.files[r.URL.Path]
	n := o.times[r.URL.Path]
	o.mu.Unlock()
	if !ok {
		http.Error(w, "nothing here by "+r.URL.Path, http.StatusNotFound)
		return
	}
	when := time.Time{}
	if o.tags {
		w.Header().Set("ETag", fmt.Sprintf("%q", strconv.Itoa(n)))
	} else {
		when = time.Unix(1_000_000_000+int64(n)*100, 0)
	}
	http.ServeContent(w, r, "", when, bytes.NewReader(content))
}

func (o *origin) put(_ *testing.T, name string, content []byte) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files["/"+name] = content
	o.times["/"+name]++
	return "http://user:secret@" + strings.TrimPrefix(o.URL, "http://") + "/" + url.PathEscape(name) + "?token=secret"
}

func TestConformance(t *testing.T) {
	for name, tags := range map[string]bool{"tags": true, "dates": false} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, tags)
			uritest.Run(t, uritest.Subject{
				Scheme: web.New(web.Options{}), Put: o.put, Missing: o.URL + "/missing?token=secret", Resumes: true, Secret: "secret",
			})
		})
	}
}

func open(t *testing.T, s string, change func(*uri.Request)) (*uri.Response, error) {
	t.Helper()
	r := uritest.Request(t, s)
	if change != nil {
		change(&r)
	}
	resp, err := web.New(web.Options{}).Open(t.Context(), r)
	if err == nil && resp.Body != nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

func serve(t *testing.T, f http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s
}

func TestStatus(t *testing.T) {
	for status, want := range map[int]error{
		400: containerizer.ErrUnavailable, 401: containerizer.ErrPermission, 403: containerizer.ErrPermission,
		404: containerizer.ErrNotFound, 410: containerizer.ErrNotFound, 429: containerizer.ErrUnavailable,
		500: containerizer.ErrUnavailable, 503: containerizer.ErrUnavailable, 206: containerizer.ErrUnavailable,
		304: containerizer.ErrUnavailable, 204: containerizer.ErrUnavailable,
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(status)
			})
			_, err := open(t, s.URL+"/x", nil)
			if !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
			temporary, ok := errors.AsType[*uri.Temporary](err)
			if again := status == 429 || status >= 500; ok != again || ok && temporary.After != 7*time.Second {
				t.Errorf("temporary %v (%+v), want %v", ok, temporary, again)
			}
		})
	}
}

func TestRanges(t *testing.T) {
	const tag = `"v1"`
	at := func(r *uri.Request) { r.Offset, r.Version = 500, "etag "+tag }
	for name, c := range map[string]struct {
		header, body string
		status       int
		want         error
		offset       int64
	}{
		"as asked":           {"bytes 500-999/1000", "x", 206, nil, 500},
		"unknown total":      {"bytes 500-999/*", "x", 206, nil, 500},
		"ignored":            {"", "x", 200, nil, 0},
		"elsewhere":          {"bytes 400-999/1000", "x", 206, containerizer.ErrUnavailable, 0},
		"none":               {"", "x", 206, containerizer.ErrUnavailable, 0},
		"backwards":          {"bytes 500-400/1000", "x", 206, containerizer.ErrUnavailable, 0},
		"beyond the total":   {"bytes 500-999/600", "x", 206, containerizer.ErrUnavailable, 0},
		"overflowing":        {"bytes 500-99999999999999999999/1", "x", 206, containerizer.ErrUnavailable, 0},
		"nonsense":           {"lines 1-2", "x", 206, containerizer.ErrUnavailable, 0},
		"not modified at it": {"", "", 304, containerizer.ErrUnavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "bytes=500-" || r.Header.Get("If-Range") != tag {
					t.Errorf("range %q if %q", r.Header.Get("Range"), r.Header.Get("If-Range"))
				}
				if c.header != "" {
					w.Header().Set("Content-Range", c.header)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			resp, err := open(t, s.URL+"/x", at)
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if err == nil && resp.Offset != c.offset {
				t.Errorf("offset %d, want %d", resp.Offset, c.offset)
			}
		})
	}
}

func TestWeakTagIsNoVersion(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `W/"v"`) })
	if resp, err := open(t, s.URL+"/x", nil); err != nil || resp.Version != "" {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestRedirects(t *testing.T) {
	var seen []http.Header
	target := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header)
		_, _ = io.WriteString(w, "here")
	})
	hops := 0
	from := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, target.URL+"/t", http.StatusFound)
		case "/loop":
			hops++
			http.Redirect(w, r, "/loop", http.StatusFound)
		default:
			http.Redirect(w, r, r.URL.Query().Get("to"), http.StatusFound)
		}
	})
	host := strings.TrimPrefix(from.URL, "http://")

	resp, err := open(t, "http://user:secret@"+host+"/away?signature=secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); string(b) != "here" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	for _, name := range []string{"Authorization", "Referer", "Cookie"} {
		if v := seen[0].Get(name); v != "" {
			t.Errorf("another host gets %s: %q", name, v)
		}
	}
	if _, err := open(t, from.URL+"/loop", nil); !errors.Is(err, containerizer.ErrUnavailable) || hops > 11 {
		t.Errorf("a loop: %v after %d hops", err, hops)
	}
	for _, to := range []string{"http://169.254.169.254/latest", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/", "http://[fd00:ec2::254]/", "file:///etc/passwd", "ftp://127.0.0.1/x"} {
		if _, err := open(t, from.URL+"/x?to="+url.QueryEscape(to), nil); !errors.Is(err, containerizer.ErrPermission) {
			t.Errorf("a redirect to %s: %v", to, err)
		}
	}
	for _, direct := range []string{"http://169.254.169.254/latest", "http://[fe80::1]/x"} {
		if _, err := open(t, direct, nil); !errors.Is(err, containerizer.ErrPermission) {
			t.Errorf("%s: %v", direct, err)
		}
	}
}

// A server elsewhere must not lead us to services of this node.
func TestRedirectToThisNode(t *testing.T) {
	node := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a service of this node was reached") })
	t.Setenv("NO_PROXY", "*")
	for _, to := range []string{node.URL + "/x", strings.Replace(node.URL, "127.0.0.1", "localhost", 1) + "/x"} {
		c := web.NewClient(web.Options{Transport: redirecting{"elsewhere.example", to, t}})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://elsewhere.example/x", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if !errors.Is(err, containerizer.ErrPermission) {
			t.Errorf("a redirect to %s: %v", to, err)
		}
		if err == nil {
			_ = resp.Body.Close()
		}
	}
}

// redirecting answers for one host with a redirect.
type redirecting struct {
	host, to string
	t        *testing.T
}

func (r redirecting) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host != r.host {
		return nil, errors.New("it was followed")
	}
	rec := httptest.NewRecorder()
	http.Redirect(rec, req, r.to, http.StatusFound)
	return rec.Result(), nil
}

func TestRedirectToPlainHTTP(t *testing.T) {
	c := web.NewClient(web.Options{Transport: redirecting{"elsewhere.example", "http://other.example/x", t}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://elsewhere.example/x", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if !errors.Is(err, containerizer.ErrPermission) {
		t.Errorf("from https to http: %v", err)
	}
	if err == nil {
		_ = resp.Body.Close()
	}
}

func TestCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	_, err := open(t, s.URL+"/x", nil)
	if _, again := errors.AsType[*uri.Temporary](err); !errors.Is(err, containerizer.ErrUnavailable) || again {
		t.Errorf("error %v, temporary %v", err, again)
	}
}

func TestMain(m *testing.M) {
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"} {
		_ = os.Unsetenv(name)
	}
	os.Exit(m.Run())
}
