package uri

import (
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
)

// Reference is a parsed URI.
type Reference struct {
	// URL has no fragment. A path of the node has the scheme "file".
	URL *url.URL
	// Name is the last element of the path: what the file is called.
	Name string
	// Checksum is what the fragment says; "" is nothing.
	Checksum digest.Digest
}

// Parse parses a URI, or an absolute path of the node. Errors: ErrInvalid.
func Parse(s string) (*Reference, error) {
	text, checksum, err := cutChecksum(s)
	if err != nil {
		return nil, err
	}
	var u *url.URL
	if strings.HasPrefix(text, "/") {
		u = &url.URL{Scheme: "file", Path: text}
	} else if u, err = parseURL(text); err != nil {
		return nil, err
	}
	r := &Reference{URL: u, Name: path.Base(u.Path), Checksum: checksum}
	if strings.HasSuffix(u.Path, "/") || u.Path == "" || r.Name == "." || r.Name == ".." {
		return nil, fmt.Errorf("URI %q names no file: its path ends in a directory: %w", r, containerizer.ErrInvalid)
	}
	if len(r.Name) > 255 || strings.ContainsFunc(u.Path, control) {
		return nil, fmt.Errorf("URI %q names a file whose name is too long or holds control characters: %w", r, containerizer.ErrInvalid)
	}
	return r, nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

func parseURL(text string) (*url.URL, error) {
	scheme, _, ok := strings.Cut(text, "://")
	if !ok || scheme == "" {
		return nil, fmt.Errorf("%.200q is neither a URI (SCHEME://…) nor an absolute path: %w", text, containerizer.ErrInvalid)
	}
	u, err := url.Parse(text)
	if err != nil { // the text of the error repeats the URI, with its secrets
		return nil, fmt.Errorf("URI of scheme %.20q cannot be parsed: %w", scheme, containerizer.ErrInvalid)
	}
	u.Scheme = strings.ToLower(u.Scheme)
	return u, nil
}

// cutChecksum takes off a fragment, which must be a checksum. A "#" in a path of
// the node is part of the path unless a checksum follows it.
func cutChecksum(s string) (string, digest.Digest, error) {
	text, fragment, ok := cutLast(s, "#")
	if !ok {
		return s, "", nil
	}
	algorithm, hex, ok := strings.Cut(fragment, "=")
	if ok {
		d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), strings.ToLower(hex))
		for _, known := range containerizer.ArtifactChecksums() {
			if string(known) == algorithm && d.Validate() == nil {
				return text, d, nil
			}
		}
	}
	if strings.HasPrefix(s, "/") && !ok {
		return s, "", nil
	}
	return "", "", fmt.Errorf("the fragment %.200q of a URI is not a checksum, sha256=HEX or sha512=HEX: %w", "#"+fragment, containerizer.ErrInvalid)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// String is the URI without what may be secret: user information and query.
func (r *Reference) String() string {
	u := *r.URL
	if u.Scheme == "file" && u.Host == "" {
		return u.Path
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if u.RawQuery != "" {
		u.RawQuery = ""
		return u.String() + "?…"
	}
	return u.String()
}

// Key is the whole URI in a canonical form, without the checksum.
func (r *Reference) Key() string { return r.URL.String() }
