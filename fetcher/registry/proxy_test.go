package registry_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/berth-dev/berth/fetcher/registry"
	"github.com/berth-dev/berth/fetcher/registry/registrytest"
)

// proxyChild is the environment variable that makes TestProxy the child, which
// reads the proxies of its environment: net/http does so once in a process.
const proxyChild = "BERTH_TEST_PROXY_CHILD"

// TestProxy pulls through a proxy that the environment names.
func TestProxy(t *testing.T) {
	if os.Getenv(proxyChild) != "" {
		c := client(registry.Options{Insecure: []string{"registry.test"}, Retries: 1})
		_, raw, err := connect(t, c, parse(t, "registry.test/org/app:1")).Resolve(t.Context())
		fmt.Printf("%s\n%v\n", raw, err)
		return
	}
	s := registrytest.New(t)
	image := s.Image(t, "org/app", "1")
	behind, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(behind)
	var mu sync.Mutex
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Method+" "+r.Host)
		mu.Unlock()
		if r.Method == http.MethodConnect { // TLS; the registry has none
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	for _, c := range []struct {
		noProxy string
		proxied bool
	}{{"", true}, {"other.test", true}, {"registry.test", false}, {".test", false}} {
		mu.Lock()
		asked = nil
		mu.Unlock()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxy$") //nolint:gosec // this program
		cmd.Env = append(os.Environ(), proxyChild+"=1", "HTTP_PROXY="+proxy.URL, "HTTPS_PROXY="+proxy.URL, "NO_PROXY="+c.noProxy)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		mu.Lock()
		got := strings.Join(asked, ", ")
		mu.Unlock()
		if strings.Contains(got, "GET registry.test") != c.proxied || bytes.Contains(out, image.Raw) != c.proxied {
			t.Errorf("NO_PROXY=%s: the proxy was asked for %q\n%s", c.noProxy, got, out)
		}
	}
}
