package reference_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/reference"
)

const hex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParse(t *testing.T) {
	cwd, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"debian":                     "docker.io/library/debian:latest",
		"debian:12":                  "docker.io/library/debian:12",
		"docker://debian:12":         "docker.io/library/debian:12",
		"index.docker.io/debian":     "docker.io/library/debian:latest",
		"org/app":                    "docker.io/org/app:latest",
		"localhost/app":              "localhost/app:latest",
		"localhost:5000/app:1":       "localhost:5000/app:1",
		"[::1]:5000/app":             "[::1]:5000/app:latest",
		"[::1]/app":                  "[::1]/app:latest",
		"quay.io/a/b/c__d.e---f":     "quay.io/a/b/c__d.e---f:latest",
		"Registry/app":               "Registry/app:latest",
		"x@sha256:" + hex:            "docker.io/library/x@sha256:" + hex,
		"x:1@sha256:" + hex:          "docker.io/library/x@sha256:" + hex,
		"x@sha512:" + hex + hex:      "docker.io/library/x@sha512:" + hex + hex,
		"oci:/tmp/dir":               "oci:/tmp/dir",
		"oci:dir:tag":                "oci:" + cwd + "/dir:tag",
		"oci:/d/../x:@sha256:" + hex: "oci:/x:@sha256:" + hex,
		"oci-archive:/a.tar:1":       "oci-archive:/a.tar:1",
		"docker-archive:/a.tar:quay.io/org/app:1": "docker-archive:/a.tar:quay.io/org/app:1",
		"docker:dind": "docker.io/library/docker:dind",
		"dir:latest":  "docker.io/library/dir:latest",
	} {
		r, err := reference.Parse(in)
		if err != nil {
			t.Errorf("Parse(%q): %v", in, err)
			continue
		}
		if got := r.String(); got != want {
			t.Errorf("Parse(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                                      "it is empty",
		"docker://":                             "it is empty",
		"a b":                                   "white space",
		"Debian":                                "must be lower case",
		"debIan":                                "must be lower case",
		"a/B/c":                                 "must be lower case",
		"debian:":                               "tag after the colon is missing",
		"debian:-x":                             "begins with '-'",
		"debian:a/b":                            "no valid port",
		"debian:" + hex + hex + "1":             "at most 128",
		"debian:ü":                              "holds",
		"debian@":                               "no algorithm",
		"debian@md5:abc":                        "algorithm \"md5\" is not supported",
		"debian@sha256:abc":                     "has 3 digits",
		"debian@sha256:../../" + hex:            "digits",
		"debian@sha256:" + strings.ToUpper(hex): "lower-case hexadecimal",
		"a//b":                                  "empty element",
		"-a/b":                                  "must begin and end",
		"a..b":                                  "between letters",
		"a.b:99999999/x":                        "no valid port",
		"a_b.c/x":                               "a host name cannot",
		"[::zz]/x":                              "IPv6",
		"../etc/passwd":                         "not a host name",
		"oci:":                                  "path after \"oci:\" is missing",
		"oci:/d:":                               "name after the last colon is missing",
		"oci:/d:@sha256:1":                      "digits",
		"https://quay.io/a":                     "no transport \"https\"",
		"docker-daemon:a:b":                     "transport \"docker-daemon\" is not supported",
		"quay.io/" + strings.Repeat("a", 255):   "more than 255 bytes",
	} {
		_, err := reference.Parse(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q) = %v, want an error with %q", in, err, want)
			continue
		}
		if !errors.Is(err, containerizer.ErrInvalid) && !errors.Is(err, containerizer.ErrUnsupported) {
			t.Errorf("Parse(%q) = %v: no class", in, err)
		}
	}
}

// FuzzParse checks the main invariant, and that the registry client understands
// every name we accept as we do.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"debian", "docker://a.b/c:d", "oci:/d:t", "x@sha256:" + hex, "[::1]:5/x", "a:5/b:c", "A/b", "docker-archive:/x:@sha256:" + hex} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := reference.Parse(s)
		if err != nil {
			return
		}
		again, err := reference.Parse(r.String())
		if err != nil {
			t.Fatalf("Parse(%q) gives %q, which does not parse: %v", s, r, err)
		}
		if again != r {
			t.Fatalf("Parse(%q) = %+v, parsed again %+v", s, r, again)
		}
		if r.IsPath() {
			return
		}
		if _, err := name.NewRegistry(r.Domain); err != nil {
			t.Fatalf("the registry client refuses what Parse(%q) accepts: %v", s, err)
		}
	})
}
