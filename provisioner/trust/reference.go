package trust

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// reference is a name in a registry, expanded. It has no default tag.
type reference struct {
	name   string // HOST/REPOSITORY
	tag    string
	digest string
}

// nameOnly says whether it has neither tag nor digest.
func (r reference) nameOnly() bool { return r.tag == "" && r.digest == "" }

func (r reference) String() string {
	s := r.name
	if r.tag != "" {
		s += ":" + r.tag
	}
	if r.digest != "" {
		s += "@" + r.digest
	}
	return s
}

const (
	lower       = "abcdefghijklmnopqrstuvwxyz0123456789"
	letters     = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	maxRefBytes = 1024
)

// parseReference reads a name as Docker writes it: "busybox" is
// "docker.io/library/busybox".
func parseReference(s string) (reference, error) {
	if len(s) > maxRefBytes {
		return reference{}, invalid("", "the name has more than %d bytes", maxRefBytes)
	}
	var r reference
	rest, d, ok := strings.Cut(s, "@")
	if ok {
		if err := digest.Digest(d).Validate(); err != nil {
			return r, invalid("", "%.200q has no valid digest: %v", s, err)
		}
		r.digest = d
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "/") {
		rest, r.tag = rest[:i], rest[i+1:]
		if r.tag == "" || len(r.tag) > 128 || strings.Trim(r.tag, letters+"_.-") != "" || strings.ContainsRune(".-", rune(r.tag[0])) {
			return r, invalid("", "%.200q has no valid tag", s)
		}
	}
	host, repository, ok := strings.Cut(rest, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" && strings.ToLower(host) == host {
		host, repository = "docker.io", rest
	}
	if host == "index.docker.io" {
		host = "docker.io"
	}
	if host == "docker.io" && !strings.Contains(repository, "/") {
		repository = "library/" + repository
	}
	if strings.Trim(host, letters+".:-[]") != "" || !validRepository(repository) {
		return r, invalid("", "%.200q is not the name of an image", s)
	}
	r.name = host + "/" + repository
	return r, nil
}

func validRepository(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || strings.Trim(part, lower+"._-") != "" || strings.Trim(part, "._-") != part {
			return false
		}
	}
	return true
}
