package hosts_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/registry/hosts"
)

const everything = hosts.Pull | hosts.Resolve | hosts.Push | hosts.Referrers

// seen is a Host in a form that is easy to compare.
type seen struct {
	URL     string
	Can     hosts.Capability
	Header  http.Header
	CA      []string
	Client  [][2]string
	Skip    bool
	Timeout time.Duration
}

func see(all []hosts.Host) (out []seen) {
	for _, h := range all {
		s := seen{Can: h.Can, Header: h.Header, CA: h.CA, Client: h.Client, Skip: h.SkipVerify, Timeout: h.DialTimeout}
		if h.URL != nil {
			s.URL = h.URL.String()
		}
		out = append(out, s)
	}
	return out
}

// TestParse has every example of containerd's docs/hosts.md.
func TestParse(t *testing.T) {
	const text = `
server = "https://test-default.registry"
ca = "/etc/path/default"
[header]
  x-custom-1 = "custom header"
[host."https://mirror.registry"]
  capabilities = ["pull"]
  ca = "certs/mirror.pem"
  skip_verify = false
  [host."https://mirror.registry".header]
    x-custom-2 = ["value1", "value2"]
[host."https://mirror-bak.registry/us"]
  capabilities = ["pull"]
  skip_verify = true
[host."http://mirror.registry"]
  capabilities = ["pull"]
[host."https://test-1.registry"]
  capabilities = ["pull", "resolve", "push"]
  ca = ["/etc/certs/test-1-ca.pem", "/etc/certs/special.pem"]
  client = [["/etc/certs/client.cert", "/etc/certs/client.key"],["/etc/certs/client.pem", ""]]
[host."https://test-2.registry"]
  client = "client.pem"
[host."https://test-3.registry:5000"]
  client = ["/etc/certs/client-1.pem", "/etc/certs/client-2.pem"]
[host."https://non-compliant-mirror.registry/v2/upstream"]
  capabilities = ["pull"]
  override_path = true
[host."https://bare.registry"]
  override_path = true
[host."https://only-header.registry".header]
  x-custom-1 = "just a header"
[host."https://dial-timeout.registry/"]
  dial_timeout = "3s"
`
	got, err := hosts.Parse("/d/hosts.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []seen{
		{URL: "https://mirror.registry/v2", Can: hosts.Pull, CA: []string{"/d/certs/mirror.pem"}, Header: http.Header{"X-Custom-2": {"value1", "value2"}}},
		{URL: "https://mirror-bak.registry/us/v2", Can: hosts.Pull, Skip: true},
		{URL: "http://mirror.registry/v2", Can: hosts.Pull},
		{
			URL: "https://test-1.registry/v2", Can: hosts.Pull | hosts.Resolve | hosts.Push,
			CA:     []string{"/etc/certs/test-1-ca.pem", "/etc/certs/special.pem"},
			Client: [][2]string{{"/etc/certs/client.cert", "/etc/certs/client.key"}, {"/etc/certs/client.pem", ""}},
		},
		{URL: "https://test-2.registry/v2", Can: everything, Client: [][2]string{{"/d/client.pem", ""}}},
		{URL: "https://test-3.registry:5000/v2", Can: everything, Client: [][2]string{{"/etc/certs/client-1.pem", ""}, {"/etc/certs/client-2.pem", ""}}},
		{URL: "https://non-compliant-mirror.registry/v2/upstream", Can: hosts.Pull},
		{URL: "https://bare.registry", Can: everything},
		{URL: "https://only-header.registry/v2", Can: everything, Header: http.Header{"X-Custom-1": {"just a header"}}},
		{URL: "https://dial-timeout.registry/v2", Can: everything, Timeout: 3 * time.Second},
		{URL: "https://test-default.registry/v2", Can: everything, CA: []string{"/etc/path/default"}, Header: http.Header{"X-Custom-1": {"custom header"}}},
	}
	if diff := cmp.Diff(want, see(got)); diff != "" {
		t.Errorf("got (+), want (-):\n%s", diff)
	}
}

func TestOrder(t *testing.T) {
	for name, text := range map[string]string{
		"tables":        "[host.\"https://c\"]\n[host.\"https://a\"]\n[host.\"https://b\"]\n",
		"inline":        "[host]\n\"https://c\" = {}\n\"https://a\" = {skip_verify = true}\n\"https://b\" = {}\n",
		"dotted":        "host.\"https://c\".skip_verify = true\nhost.'https://a'.skip_verify = true\nhost.\"https://b\".skip_verify = true\n",
		"header tables": "[host.\"https://c\".header]\nx = \"1\"\n[host.\"https://a\"]\n[host.\"https://b\".header]\n",
		"no scheme":     "[host.c]\n[host.a]\n[host.\"b\"]\n",
	} {
		got, err := hosts.Parse("hosts.toml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var order []string
		for _, h := range got[:len(got)-1] {
			order = append(order, h.URL.Host)
		}
		if strings.Join(order, "") != "cab" {
			t.Errorf("%s: hosts in the order %q, want c, a, b", name, order)
		}
		if got[len(got)-1].URL != nil {
			t.Errorf("%s: the server has the URL %s", name, got[len(got)-1].URL)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		`servr = "x"`:                                           `line 1: there is no key "servr"`,
		"\n[host.\"https://a\"]\n skip = true":                  `line 3: there is no key "host.https://a.skip"`,
		"[host.\"https://a\"]\n[host.\"https://a\".host.\"b\"]": `there is no key "host.https://a.host`,
		`skip_verify = "yes"`:                                   `skip_verify`,
		`server = 3`:                                            `server`,
		`ca = 3`:                                                `ca: 3 is neither`,
		`ca = [3]`:                                              `ca: 3 is not a string`,
		`ca = ""`:                                               `ca: "" is not a path`,
		`client = [["a"]]`:                                      `client: [a] is not a pair`,
		`client = [["a", "b", "c"]]`:                            `client: [a b c] is not a pair`,
		`client = true`:                                         `client: true is neither`,
		`capabilities = ["pul"]`:                                `capabilities: "pul" is none of`,
		`dial_timeout = "5"`:                                    `dial_timeout: "5" is not a duration`,
		`dial_timeout = "-1s"`:                                  `dial_timeout: "-1s" is not a duration`,
		"[header]\nx = 1":                                       `header.x: 1 is neither`,
		"[header]\n\"a b\" = \"1\"":                             `header."a b": it is not the name of a header`,
		"[header]\nx = \"a\\nb\"":                               `header.x: its value has a control character`,
		"[header]\nhost = \"x\"":                                `header.host: this header cannot be set`,
		"[host.\"https://a\"]\ncapabilities = [\"x\"]":          `host."https://a".capabilities: "x" is none of`,
		`server = "ftp://a"`:                                    `server: "ftp://a": https and http are possible`,
		`server = "https://"`:                                   `server: "https://" names no host`,
		`server = "https://u:secret@a"`:                         `server: a URL with a password in it is refused`,
		`server = "https://a/?q"`:                               `server: "https://a/?q" has more than host and path`,
		"server = \"https://a\\u007f\"":                         `is not a URL`,
		`override_path = true`:                                  `override_path: there is no server`,
		`host = {"https://a" = {}}`:                             `the order of the hosts is not clear`,
		`[host`:                                                 `line 1`,
		strings.Repeat("[host.\"https://%d\"]\n", 1) + "":       "is not a URL",
	} {
		_, err := hosts.Parse("/d/hosts.toml", []byte(text))
		if !errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "/d/hosts.toml") {
			t.Errorf("%s\n  error %v, want %q and the file", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error tells the password", text)
		}
	}
	var many strings.Builder
	for i := range 65 {
		_, _ = fmt.Fprintf(&many, "[host.\"https://h%d\"]\n", i)
	}
	if _, err := hosts.Parse("x", []byte(many.String())); err == nil || !strings.Contains(err.Error(), "65 hosts") {
		t.Errorf("65 hosts: %v", err)
	}
}

// FuzzParse checks what the client relies on in whatever is accepted.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "server = \"https://a\"\n[host.\"https://b/x\"]\ncapabilities = [\"pull\"]\n[host.\"https://b/x\".header]\na = [\"b\"]",
		"client = [[\"a\",\"b\"]]\nca = [\"c\"]\ndial_timeout = \"1s\"", "[host]\n\"http://c\" = {skip_verify=true}", "host.a.override_path = true",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := hosts.Parse("/d/hosts.toml", data)
		if err != nil {
			if !errors.Is(err, containerizer.ErrInvalid) {
				t.Fatalf("an error without class: %v", err)
			}
			return
		}
		for i, h := range all {
			switch {
			case h.Can == 0:
				t.Fatalf("host %d can do nothing", i)
			case h.URL == nil && i != len(all)-1:
				t.Fatalf("host %d has no URL", i)
			case h.URL == nil:
				continue
			case h.URL.Hostname() == "", h.URL.Scheme != "http" && h.URL.Scheme != "https", strings.HasSuffix(h.URL.Path, "/"), h.URL.User != nil:
				t.Fatalf("host %d has the URL %s", i, h.URL)
			}
			req := http.Request{Method: http.MethodGet, URL: h.URL, Header: h.Header}
			if err := req.Write(discard{}); err != nil {
				t.Fatalf("host %d cannot be asked: %v", i, err)
			}
		}
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
