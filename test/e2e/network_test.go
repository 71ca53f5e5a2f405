package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// freePort is a port of the host that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was accepted
	return l.Addr().(*net.TCPAddr).Port
}

// get asks for a page until an answer comes.
func get(t *testing.T, url string) string {
	t.Helper()
	var body string
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, func() string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			return err.Error()
		}
		response, err := client.Do(request)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close() //nolint:errcheck // only read from
		data, err := io.ReadAll(response.Body)
		if err != nil {
			return err.Error()
		}
		body = string(data)
		return ""
	})
	return body
}

const webServer = "mkdir /www && echo hello from $(hostname) > /www/index.html && exec httpd -f -p 80 -h /www"

func TestBridge(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.detached([]string{"--hostname", "web"}, "sh", "-c", webServer)
	address := n.inspect(id, "{{.NetworkSettings.IPAddress}}")
	if !regexp.MustCompile(`^[0-9.]+$`).MatchString(address) {
		t.Fatalf("address %q", address)
	}
	// From the host, from another container, and the container's view of itself.
	if got := get(t, "http://"+address+"/"); got != "hello from web\n" {
		t.Errorf("the host gets %q", got)
	}
	if got := n.sh("wget -q -O - http://" + address + "/"); got != "hello from web" {
		t.Errorf("another container gets %q", got)
	}
	if got := n.must("exec", id, "ip", "-o", "-4", "addr", "show", "eth0"); !strings.Contains(got, address+"/") {
		t.Errorf("eth0 is %q", got)
	}
	if got := n.must("exec", id, "sh", "-c", "ip route | grep -c default"); got != "1" {
		t.Errorf("default routes: %s", got)
	}
}

func TestPublishedPort(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	port := freePort(t)
	id := n.detached([]string{"--hostname", "web", "-p", fmt.Sprintf("%d:80", port)}, "sh", "-c", webServer)
	for _, host := range []string{"127.0.0.1", "localhost", hostAddress(t)} {
		if got := get(t, "http://"+net.JoinHostPort(host, strconv.Itoa(port))+"/"); got != "hello from web\n" {
			t.Errorf("through %s: %q", host, got)
		}
	}
	if got := n.must("port", id); !strings.Contains(got, strconv.Itoa(port)) {
		t.Errorf("port shows %q", got)
	}
	r := n.berth(n.run([]string{"--rm", "-p", fmt.Sprintf("%d:80", port)}, "true")...)
	if r.code != 125 || !strings.Contains(r.stderr, strconv.Itoa(port)) {
		t.Errorf("a second container on the port: %+v", r)
	}
	n.must("rm", "-f", id)
	// The port is free again.
	n.must(n.run([]string{"--rm", "-p", fmt.Sprintf("%d:80", port)}, "true")...)
}

// hostAddress is an address of the host that is not loopback.
func hostAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() && ip.IP.To4() != nil {
			return ip.IP.String()
		}
	}
	t.Log("no address but loopback; using that")
	return "127.0.0.1"
}

func TestPublishAll(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	id := n.detached([]string{"--hostname", "web", "--expose", "80", "-P"}, "sh", "-c", webServer)
	_, port, ok := strings.Cut(strings.Split(n.must("port", id, "80"), "\n")[0], ":")
	if !ok {
		t.Fatalf("port: %q", n.must("port", id))
	}
	if got := get(t, "http://127.0.0.1:"+port+"/"); got != "hello from web\n" {
		t.Errorf("got %q", got)
	}
}

func TestSharedNetwork(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.detached([]string{"--name", "web", "--hostname", "web"}, "sh", "-c", webServer)
	eventually(t, func() string {
		r := n.berth(n.run([]string{"--rm", "--network", "container:web"}, "wget", "-q", "-O", "-", "http://127.0.0.1/")...)
		return unless(r.stdout == "hello from web\n", r.stderr)
	})
}
