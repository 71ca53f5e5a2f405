package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/policy"
	"github.com/berth-dev/berth/fetcher/reference"
)

func TestUnqualified(t *testing.T) {
	const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	list := policy.Policy{Unqualified: []string{"quay.io", "docker.io", "localhost:5000"}, From: "the file"}
	refuse := policy.Policy{RefuseUnqualified: true, From: "the file"}
	for _, c := range []struct {
		policy policy.Policy
		in     string
		want   []string
	}{
		{policy.Policy{}, "debian", []string{"docker.io/library/debian:latest"}},
		{list, "debian", []string{"quay.io/debian:latest", "docker.io/library/debian:latest", "localhost:5000/debian:latest"}},
		{list, "docker://a/b:1", []string{"quay.io/a/b:1", "docker.io/a/b:1", "localhost:5000/a/b:1"}},
		{list, "a" + digest, []string{"quay.io/a" + digest, "docker.io/library/a" + digest, "localhost:5000/a" + digest}},
		{list, "docker.io/library/debian:12", []string{"docker.io/library/debian:12"}},
		{list, "docker.io/debian", []string{"docker.io/library/debian:latest"}},
		{list, "localhost/a", []string{"localhost/a:latest"}},
		{list, "oci:/d:x", []string{"oci:/d:x"}},
		{refuse, "debian", nil},
		{refuse, "org/app:1", nil},
		{refuse, "docker://debian", nil},
		{refuse, "docker.io/library/debian", []string{"docker.io/library/debian:latest"}},
		{refuse, "oci:/d:x", []string{"oci:/d:x"}},
	} {
		got, _, err := c.policy.Search(c.in)
		if !slices.Equal(got, c.want) || c.want != nil && err != nil {
			t.Errorf("%q: %q, %v; want %q", c.in, got, err, c.want)
		}
		if c.want == nil && (!errors.Is(err, containerizer.ErrPermission) || !strings.Contains(err.Error(), "the file") || !strings.Contains(err.Error(), "docker.io/")) {
			t.Errorf("%q: %v, want an error that says where and what to write", c.in, err)
		}
	}
}

func TestAllowAndBlock(t *testing.T) {
	for _, c := range []struct {
		allow, block []string
		refused      string // none of these
		passed       string
	}{
		{nil, []string{"127.0.0.1:1"}, "127.0.0.1:1/a", "127.0.0.2:1/a 127.0.0.1:2/a"},
		{nil, []string{"127.0.0.1:1/bad"}, "127.0.0.1:1/bad 127.0.0.1:1/bad/x:1", "127.0.0.1:1/badly 127.0.0.1:1/a/bad"},
		{nil, []string{"*.example.invalid"}, "a.example.invalid/x A.B.EXAMPLE.invalid/x", "127.0.0.1:1/x"},
		{[]string{"127.0.0.1:1/good", "127.0.0.2:1"}, nil, "127.0.0.1:1/a docker.io/library/a", "127.0.0.1:1/good/a 127.0.0.2:1/x"},
		{[]string{"127.0.0.1:1"}, []string{"127.0.0.1:1/bad"}, "127.0.0.1:1/bad 127.0.0.3:1/a", "127.0.0.1:1/good"},
	} {
		p := policy.Policy{Allow: c.allow, Block: c.block, From: "the file"}
		for name := range strings.FieldsSeq(c.refused) {
			if err := p.Check(parse(t, name)); !errors.Is(err, containerizer.ErrPermission) || !strings.Contains(err.Error(), "in the file") {
				t.Errorf("allow %q block %q: %s: %v", c.allow, c.block, name, err)
			}
		}
		for name := range strings.FieldsSeq(c.passed) {
			if err := p.Check(parse(t, name)); err != nil {
				t.Errorf("allow %q block %q: %s: %v", c.allow, c.block, name, err)
			}
		}
	}
	for pattern, ok := range map[string]bool{
		"quay.io": true, "quay.io/team": true, "quay.io/team/app": true, "localhost:5000": true, "*.example.com": true, "*.example.com/x": true,
		"docker.io/library": true, "": false, "team": false, "team/app": false, "quay.io/": false, "quay.io/A": false, "quay.io/a:1": false,
		"https://quay.io": false, "*": false, "quay.*": false, "quay.io/*": false,
	} {
		if err := policy.CheckPattern(pattern); (err == nil) != ok {
			t.Errorf("CheckPattern(%q): %v", pattern, err)
		}
	}
	if policy.CheckRegistry("quay.io") != nil || policy.CheckRegistry("quay.io/a") == nil || policy.CheckRegistry("x") == nil {
		t.Error("CheckRegistry")
	}
}

func parse(t *testing.T, s string) reference.Reference {
	t.Helper()
	r, err := reference.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
