package trust

import (
	"path"
	"path/filepath"
	"strings"
)

// Transports that a policy's scopes are checked for.
const (
	docker        = "docker"
	ociDir        = "oci"
	ociArchive    = "oci-archive"
	dockerArchive = "docker-archive"
)

// origin is where an image comes from, of its canonical name.
type origin struct {
	transport string // "" is an unknown one, which the default applies to
	scopes    []string
	ref       reference // of docker
}

// originOf takes a canonical name apart: "docker.io/library/x:tag",
// "registry/x@sha256:…", "oci:/path:tag", "oci-archive:/path", "".
func originOf(name string) origin {
	if name == "" {
		return origin{}
	}
	if t, rest, ok := strings.Cut(name, ":"); ok {
		switch t {
		case ociDir, ociArchive:
			return origin{transport: t, scopes: pathScopes(rest)}
		case dockerArchive: // has no scopes (containers-policy.json(5))
			return origin{transport: t}
		}
	}
	o := origin{transport: docker}
	r, err := parseReference(name)
	if err != nil {
		return origin{} // it was not canonical
	}
	o.ref, o.scopes = r, dockerScopes(r)
	return o
}

// dockerScopes are those that may hold r, the most specific first: itself, its
// repository, namespaces, host, and wildcards for the host's domains.
func dockerScopes(r reference) []string {
	out := []string{r.String()}
	name := r.name
	for {
		out = append(out, name)
		cut := strings.LastIndexByte(name, '/')
		if cut < 0 {
			break
		}
		name = name[:cut]
	}
	host, _, _ := strings.Cut(name, ":")
	for {
		_, parent, ok := strings.Cut(host, ".")
		if !ok {
			return out
		}
		host = parent
		out = append(out, "*."+host)
	}
}

// pathScopes are those of "PATH[:TAG]": itself, the path, and the directories
// above it. "/" is none, it is the same as the transport's default.
func pathScopes(s string) []string {
	p, tag, tagged := strings.Cut(s, ":")
	if p == "" {
		return nil
	}
	if resolved, err := filepath.EvalSymlinks(p); err == nil { // one that is gone is called as it was
		p = resolved
	}
	var out []string
	if tagged {
		out = append(out, p+":"+tag)
	}
	for ; p != "/" && p != "."; p = path.Dir(p) {
		out = append(out, p)
	}
	return out
}

// checkScope refuses a scope that no image can ever match. Those of other tools'
// transports are theirs.
func checkScope(transport, scope string) error {
	if scope == "" {
		return nil
	}
	switch transport {
	case docker:
		if strings.Contains(strings.TrimPrefix(scope, "*."), "*") {
			return invalid("", "a wildcard is possible as \"*.DOMAIN\" only")
		}
		if strings.Contains(scope, "://") || strings.Trim(scope, " \t/") != scope {
			return invalid("", "it is not HOST[:PORT][/NAMESPACE][/NAME][:TAG or @DIGEST]")
		}
	case ociDir, ociArchive:
		p, _, _ := strings.Cut(scope, ":")
		if !path.IsAbs(p) || path.Clean(p) != p {
			return invalid("", "it is not an absolute path without \".\", \"..\" and double slashes")
		}
		if scope == "/" {
			return invalid("", "for all paths the scope is \"\"")
		}
	case dockerArchive:
		return invalid("", "this transport has the scope \"\" only")
	}
	return nil
}

// requirements returns those of the most specific scope, and how to name it.
func (p *Policy) requirements(o origin) (all []requirement, scope string) {
	t, ok := p.transports[o.transport]
	if !ok {
		return p.fallback, "default"
	}
	for _, s := range o.scopes {
		if r, ok := t[s]; ok {
			return r, "scope " + o.transport + " " + quote(s)
		}
	}
	if r, ok := t[""]; ok {
		return r, "default of transport " + o.transport
	}
	return p.fallback, "default"
}

func quote(s string) string { return "\"" + s + "\"" }
