package reference

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
)

// Transport says where an image comes from.
type Transport string

// The transports.
const (
	Docker        Transport = "docker" // a registry
	OCI           Transport = "oci"    // a directory in OCI image layout
	OCIArchive    Transport = "oci-archive"
	DockerArchive Transport = "docker-archive"
)

const (
	defaultDomain = "docker.io"
	officialPath  = "library/"
	defaultTag    = "latest"
	maxName       = 255
	maxTag        = 128
)

// foreign are transports of other tools that berth does not have.
const foreign = " docker-daemon containers-storage dir ostree sif http https tarball atomic "

// Reference is a parsed name of an image.
type Reference struct {
	Transport Transport
	// Domain, Repository, Tag and Digest name an image in a registry. Exactly one of
	// Tag and Digest is set.
	Domain     string
	Repository string
	Tag        string
	// Digest of the manifest or index. For a path it chooses one image of several.
	Digest digest.Digest
	// Path is absolute; Name selects an image in it, "" the only one.
	Path string
	Name string
}

// IsPath says whether the reference names a file or directory of this machine.
func (r Reference) IsPath() bool { return r.Transport != Docker }

// String returns the canonical form.
func (r Reference) String() string {
	if r.IsPath() {
		s := string(r.Transport) + ":" + r.Path
		switch {
		case r.Digest != "":
			s += ":@" + string(r.Digest)
		case r.Name != "":
			s += ":" + r.Name
		}
		return s
	}
	if r.Digest != "" {
		return r.Domain + "/" + r.Repository + "@" + string(r.Digest)
	}
	return r.Domain + "/" + r.Repository + ":" + r.Tag
}

// Parse reads a reference. Relative paths are made absolute by the working
// directory. The error wraps ErrInvalid, or ErrUnsupported for a transport of
// other tools, and says what is wrong in one sentence.
func Parse(s string) (Reference, error) {
	r, err := parse(s)
	if err != nil {
		return Reference{}, fmt.Errorf("image reference %q: %w", s, err)
	}
	return r, nil
}

// Unqualified says whether s is the name of an image in a registry, and names no
// registry. rest is the name without its transport.
func Unqualified(s string) (rest string, ok bool) {
	r, err := Parse(s)
	if err != nil || r.IsPath() {
		return "", false
	}
	rest = strings.TrimPrefix(s, "docker://")
	name, _, _ := strings.Cut(rest, "@")
	return rest, !qualified(name)
}

func parse(s string) (Reference, error) {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return Reference{}, invalid("it holds white space or a control character")
		}
	}
	if rest, ok := strings.CutPrefix(s, "docker://"); ok {
		return parseDocker(rest)
	}
	if scheme, rest, ok := strings.Cut(s, ":"); ok {
		switch t := Transport(scheme); {
		case t == OCI, t == OCIArchive, t == DockerArchive:
			return parsePath(t, rest)
		case strings.HasPrefix(rest, "//"):
			return Reference{}, fmt.Errorf("there is no transport %q (docker://, oci:, oci-archive: and docker-archive: are possible): %w", scheme, containerizer.ErrUnsupported)
		case strings.Contains(foreign, " "+scheme+" ") && strings.ContainsAny(rest, "/:"):
			return Reference{}, fmt.Errorf("transport %q is not supported (docker://, oci:, oci-archive: and docker-archive: are): %w", scheme, containerizer.ErrUnsupported)
		}
	}
	return parseDocker(s)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, containerizer.ErrInvalid)...)
}

// parsePath reads PATH[:NAME] or PATH[:@DIGEST]. As with skopeo a path cannot
// hold a colon.
func parsePath(t Transport, s string) (Reference, error) {
	path, name, named := strings.Cut(s, ":")
	switch {
	case path == "":
		return Reference{}, invalid("the path after %q is missing", string(t)+":")
	case named && name == "":
		return Reference{}, invalid("the name after the last colon is missing")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Reference{}, fmt.Errorf("make the path absolute: %w", err)
	}
	r := Reference{Transport: t, Path: abs, Name: name}
	if d, ok := strings.CutPrefix(name, "@"); ok {
		r.Name, r.Digest = "", digest.Digest(d)
		return r, checkDigest(d)
	}
	return r, nil
}

func parseDocker(s string) (Reference, error) {
	if s == "" {
		return Reference{}, invalid("it is empty")
	}
	r := Reference{Transport: Docker}
	rest, dgst, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		if err := checkDigest(dgst); err != nil {
			return Reference{}, err
		}
		r.Digest = digest.Digest(dgst)
	}
	name := rest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "/") {
		name, r.Tag = rest[:i], rest[i+1:]
		if err := checkTag(r.Tag); err != nil {
			return Reference{}, err
		}
	}
	r.Domain, r.Repository = splitDomain(name)
	if err := checkDomain(r.Domain); err != nil {
		return Reference{}, err
	}
	if err := checkRepository(r.Repository); err != nil {
		return Reference{}, err
	}
	if len(r.Domain)+1+len(r.Repository) > maxName {
		return Reference{}, invalid("the name has more than %d bytes", maxName)
	}
	switch {
	case hasDigest:
		r.Tag = "" // as Docker: what the digest names is fetched, the tag says nothing about it
	case r.Tag == "":
		r.Tag = defaultTag
	}
	return r, nil
}

// splitDomain finds the registry as Docker does: the first element is one if it
// has a dot, a colon or an upper-case letter, or is "localhost".
func splitDomain(name string) (domain, repository string) {
	domain, repository = defaultDomain, name
	if qualified(name) {
		domain, repository, _ = strings.Cut(name, "/")
	}
	if domain == "index.docker.io" || domain == "registry-1.docker.io" {
		domain = defaultDomain
	}
	if domain == defaultDomain && !strings.Contains(repository, "/") {
		repository = officialPath + repository
	}
	return domain, repository
}

// qualified says whether a name begins with a registry.
func qualified(name string) bool {
	first, _, ok := strings.Cut(name, "/")
	return ok && (strings.ContainsAny(first, ".:[") || first == "localhost" || strings.ToLower(first) != first)
}
