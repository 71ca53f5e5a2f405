package uri_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
)

func TestParse(t *testing.T) {
	sum := strings.Repeat("0a", 32)
	for _, c := range []struct{ in, scheme, name, path, shown, checksum string }{
		{"https://h/a/b.tgz", "https", "b.tgz", "/a/b.tgz", "https://h/a/b.tgz", ""},
		{"HTTPS://h/a", "https", "a", "/a", "https://h/a", ""},
		{"https://u:p@h/a?x=y#sha256=" + strings.ToUpper(sum), "https", "a", "/a", "https://h/a?…", "sha256:" + sum},
		{"https://h/a%20b%2Fc", "https", "c", "/a b/c", "https://h/a%20b%2Fc", ""},
		{"/a/b#c", "file", "b#c", "/a/b#c", "/a/b#c", ""},
		{"/a/b c?d", "file", "b c?d", "/a/b c?d", "/a/b c?d", ""},
		{"/a/b#sha512=" + sum + sum, "file", "b", "/a/b", "/a/b", "sha512:" + sum + sum},
		{"file:///a/b", "file", "b", "/a/b", "/a/b", ""},
		{"s3://bucket/k/e/y", "s3", "y", "/k/e/y", "s3://bucket/k/e/y", ""},
	} {
		r, err := uri.Parse(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if r.URL.Scheme != c.scheme || r.Name != c.name || r.URL.Path != c.path || r.String() != c.shown || string(r.Checksum) != c.checksum {
			t.Errorf("%q: scheme %q, name %q, path %q, shown %q, checksum %q", c.in, r.URL.Scheme, r.Name, r.URL.Path, r, r.Checksum)
		}
	}
	for _, bad := range []string{
		"", "a", "a/b", "://h/x", "https://h", "https://h/", "https://h/a/", "https://h/a/..", "https://h/.", "https://h/%2e%2e",
		"https://h/a#x", "https://h/a#md5=" + sum, "https://h/a#sha256=xyz", "https://h/a#sha256=" + sum + "0", "/a#sha256=12",
		"https://h/a%00b", "https://h/a%0Ab", "https://h/%zz", "https://h:port/a", "/", "https://h/" + strings.Repeat("n", 256),
	} {
		if r, err := uri.Parse(bad); !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("%q: %+v, %v", bad, r, err)
		}
	}
	if _, err := uri.Parse("https://user:hunter2@h:x/a?token=hunter2"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error tells a secret: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"https://u:p@h:1/a%20b?c=d#sha256=" + strings.Repeat("0", 64), "/a/b#c", "file:///x", "s3://b/k", "hdfs:///x", "://", "%", "http://[::1]/x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := uri.Parse(s)
		if err != nil {
			if !errors.Is(err, containerizer.ErrInvalid) {
				t.Errorf("%q: %v has no class", s, err)
			}
			return
		}
		if r.Name == "" || r.Name == "." || r.Name == ".." || strings.ContainsAny(r.Name, "/\x00") || len(r.Name) > 255 {
			t.Errorf("%q names a file %q", s, r.Name)
		}
		if r.Checksum != "" && r.Checksum.Validate() != nil {
			t.Errorf("%q has the checksum %q", s, r.Checksum)
		}
		if shown, err := url.Parse(r.String()); r.URL.Scheme != "file" && (err != nil || shown.User != nil || shown.RawQuery != "" && shown.RawQuery != "…") {
			t.Errorf("%q is shown as %q", s, r)
		}
	})
}
