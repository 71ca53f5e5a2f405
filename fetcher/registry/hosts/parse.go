package hosts

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/berth-dev/berth/containerizer"
)

// maxHosts bounds how many places are tried for one thing.
const maxHosts = 64

// hostTable is what can be said of one host.
type hostTable struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`     // path, or list of paths
	Client       any            `toml:"client"` // path, list of paths, or list of pairs
	Header       map[string]any `toml:"header"` // string, or list of strings
	SkipVerify   bool           `toml:"skip_verify"`
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
}

// file is a hosts.toml. The keys outside of tables are the server's.
type file struct {
	hostTable

	Server string               `toml:"server"`
	Hosts  map[string]hostTable `toml:"host"`
}

// Parse reads a hosts.toml; relative paths in it begin at its directory.
func Parse(name string, data []byte) ([]Host, error) {
	hosts, err := parse(filepath.Dir(name), data)
	if err != nil {
		return nil, fmt.Errorf("%q: %w: %w", name, err, containerizer.ErrInvalid)
	}
	for i := range hosts {
		hosts[i].From = name
	}
	return hosts, nil
}

func parse(dir string, data []byte) ([]Host, error) {
	var f file
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&f); err != nil {
		return nil, explain(err)
	}
	if len(f.Hosts) > maxHosts {
		return nil, fmt.Errorf("it names %d hosts, at most %d are possible", len(f.Hosts), maxHosts)
	}
	names, err := order(data)
	if err != nil {
		return nil, err
	}
	if len(names) != len(f.Hosts) {
		return nil, errors.New(`the order of the hosts is not clear; write each as a table, [host."https://…"]`)
	}
	var hosts []Host
	for _, name := range names {
		t := f.Hosts[name]
		h, err := t.host(dir)
		if err != nil {
			return nil, fmt.Errorf("host.%q.%w", name, err)
		}
		if h.URL, err = root(name, t.OverridePath); err != nil {
			return nil, fmt.Errorf("host.%q: %w", name, err)
		}
		hosts = append(hosts, h)
	}
	h, err := f.host(dir)
	if err != nil {
		return nil, err
	}
	switch {
	case f.Server != "":
		if h.URL, err = root(f.Server, f.OverridePath); err != nil {
			return nil, fmt.Errorf("server: %w", err)
		}
	case f.OverridePath:
		return nil, errors.New("override_path: there is no server that it could be about")
	}
	return append(hosts, h), nil
}

// explain puts line and key into the message.
func explain(err error) error {
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
		e := strict.Errors[0]
		line, _ := e.Position()
		return fmt.Errorf("line %d: there is no key %q", line, strings.Join(e.Key(), "."))
	}
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := decode.Position()
		if key := strings.Join(decode.Key(), "."); key != "" {
			return fmt.Errorf("line %d, column %d: %s: %w", line, column, key, err)
		}
		return fmt.Errorf("line %d, column %d: %w", line, column, err)
	}
	return err
}

// order returns the hosts as they come in the file, which the decoder's map does
// not tell.
func order(data []byte) ([]string, error) {
	var p unstable.Parser
	p.Reset(data)
	var names, table []string
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = key(e)
			names = note(names, table)
		case unstable.KeyValue:
			names = note(names, append(slices.Clip(table), key(e)...))
		default: // comments
		}
	}
	return names, p.Error()
}

func key(e *unstable.Node) (parts []string) {
	for it := e.Key(); it.Next(); {
		parts = append(parts, string(it.Node().Data))
	}
	return parts
}

func note(names, key []string) []string {
	if len(key) < 2 || key[0] != "host" || slices.Contains(names, key[1]) {
		return names
	}
	return append(names, key[1])
}

// root reads the URL of an API, which ends in /v2 unless it is overridden.
func root(s string, override bool) (*url.URL, error) { //nolint:revive // a setting of the file, with its meaning
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("%q is not a URL: %w", s, errors.Unwrap(err))
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%q: https and http are possible", s)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q names no host", s)
	case u.User != nil:
		return nil, errors.New("a URL with a password in it is refused; use berth login")
	case u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return nil, fmt.Errorf("%q has more than host and path", s)
	}
	u.Path = strings.TrimSuffix(path.Clean("/"+u.Path), "/")
	u.RawPath = ""
	if !override && !strings.HasSuffix(u.Path, "/v2") {
		u.Path += "/v2"
	}
	return u, nil
}

// host reads a table. Its errors begin with the key.
func (t *hostTable) host(dir string) (Host, error) {
	h := Host{SkipVerify: t.SkipVerify}
	var err error
	if h.Can, err = capabilities(t.Capabilities); err != nil {
		return h, fmt.Errorf("capabilities: %w", err)
	}
	if h.CA, err = stringOrList(t.CA); err != nil {
		return h, fmt.Errorf("ca: %w", err)
	}
	for i := range h.CA {
		if h.CA[i], err = absolute(dir, h.CA[i]); err != nil {
			return h, fmt.Errorf("ca: %w", err)
		}
	}
	if h.Client, err = pairs(t.Client, dir); err != nil {
		return h, fmt.Errorf("client: %w", err)
	}
	if h.Header, err = header(t.Header); err != nil {
		return h, fmt.Errorf("header.%w", err)
	}
	if t.DialTimeout != "" {
		if h.DialTimeout, err = time.ParseDuration(t.DialTimeout); err != nil || h.DialTimeout <= 0 {
			return h, fmt.Errorf("dial_timeout: %q is not a duration such as \"3s\"", t.DialTimeout)
		}
	}
	return h, nil
}

func capabilities(names []string) (Capability, error) {
	if len(names) == 0 {
		return all, nil
	}
	var c Capability
	for _, name := range names {
		switch strings.ToLower(name) {
		case "pull":
			c |= Pull
		case "resolve":
			c |= Resolve
		case "push":
			c |= Push
		case "referrers":
			c |= Referrers
		default:
			return 0, fmt.Errorf("%q is none of pull, resolve, push and referrers", name)
		}
	}
	return c, nil
}

func stringOrList(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		out := make([]string, len(v))
		for i, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("%v is not a string", e)
			}
			out[i] = s
		}
		return out, nil
	}
	return nil, fmt.Errorf("%v is neither a string nor a list of strings", v)
}

func absolute(dir, p string) (string, error) {
	if p == "" || strings.ContainsRune(p, 0) {
		return "", fmt.Errorf("%q is not a path", p)
	}
	if filepath.IsAbs(p) {
		return p, nil
	}
	return filepath.Join(dir, p), nil
}

// pairs reads client certificates in their three forms.
func pairs(v any, dir string) (out [][2]string, err error) {
	list, ok := v.([]any)
	if !ok {
		if v == nil {
			return nil, nil
		}
		list = []any{v}
	}
	for _, e := range list {
		parts, err := stringOrList(e)
		if err != nil {
			return nil, err
		}
		_, isList := e.([]any)
		if isList && len(parts) != 2 {
			return nil, fmt.Errorf("%v is not a pair of certificate and key", e)
		}
		var pair [2]string
		if pair[0], err = absolute(dir, parts[0]); err != nil {
			return nil, err
		}
		if isList && parts[1] != "" {
			if pair[1], err = absolute(dir, parts[1]); err != nil {
				return nil, err
			}
		}
		out = append(out, pair)
	}
	return out, nil
}

// reserved are headers that belong to the connection.
var reserved = []string{"Host", "Connection", "Content-Length", "Transfer-Encoding", "Range"} //nolint:gochecknoglobals // a constant

func header(table map[string]any) (http.Header, error) {
	if len(table) == 0 {
		return nil, nil
	}
	out := http.Header{}
	for name, v := range table {
		values, err := stringOrList(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if name == "" || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") != "" {
			return nil, fmt.Errorf("%q: it is not the name of a header", name)
		}
		canonical := http.CanonicalHeaderKey(name)
		if slices.Contains(reserved, canonical) {
			return nil, fmt.Errorf("%s: this header cannot be set", name)
		}
		for _, value := range values {
			if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return nil, fmt.Errorf("%s: its value has a control character", name)
			}
			out.Add(canonical, value)
		}
	}
	return out, nil
}
