package reference

import (
	"net/netip"
	"strings"
)

// checkDigest accepts sha256 and sha512 in lower-case hexadecimal. It comes
// before any path is made of a digest (CVE-2024-3727).
func checkDigest(s string) error {
	algorithm, hex, ok := strings.Cut(s, ":")
	if !ok {
		return invalid("digest %q has no algorithm (sha256:… is expected)", s)
	}
	want := map[string]int{"sha256": 64, "sha512": 128}[algorithm]
	if want == 0 {
		return invalid("digest algorithm %q is not supported (sha256 and sha512 are)", algorithm)
	}
	if len(hex) != want {
		return invalid("digest has %d digits, %s has %d", len(hex), algorithm, want)
	}
	if strings.Trim(hex, "0123456789abcdef") != "" {
		return invalid("digest %q is not lower-case hexadecimal", hex)
	}
	return nil
}

func checkTag(tag string) error {
	switch {
	case tag == "":
		return invalid("the tag after the colon is missing")
	case len(tag) > maxTag:
		return invalid("tag %q has %d bytes, at most %d are possible", tag, len(tag), maxTag)
	case tag[0] == '.' || tag[0] == '-':
		return invalid("tag %q begins with %q", tag, tag[0])
	}
	for i := range len(tag) {
		if c := tag[i]; !alnum(c) && !upper(c) && c != '_' && c != '.' && c != '-' {
			return invalid("tag %q holds %q (letters, digits, '_', '.' and '-' are possible)", tag, rune(c))
		}
	}
	return nil
}

func checkDomain(domain string) error {
	host, port := domain, ""
	if i := strings.LastIndexByte(domain, ':'); i >= 0 && !strings.HasSuffix(domain, "]") {
		host, port = domain[:i], domain[i+1:]
		if port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "" {
			return invalid("registry %q has no valid port", domain)
		}
	}
	if strings.HasPrefix(host, "[") {
		address, closed := strings.CutSuffix(host[1:], "]")
		a, err := netip.ParseAddr(address)
		if err != nil || !a.Is6() || a.Zone() != "" || !closed {
			return invalid("registry %q is not a valid IPv6 address", domain)
		}
		return nil
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return invalid("registry %q is not a host name", domain)
		}
		for i := range len(label) {
			if c := label[i]; !alnum(c) && !upper(c) && c != '-' {
				return invalid("registry %q holds %q, which a host name cannot", domain, rune(c))
			}
		}
	}
	return nil
}

// checkRepository holds the distribution specification's grammar: elements of
// lower-case letters and digits, separated by '.', '_', '__' or any number of '-'.
func checkRepository(repository string) error {
	for element := range strings.SplitSeq(repository, "/") {
		if element == "" {
			return invalid("the repository name is empty or has an empty element")
		}
		if err := checkElement(element); err != nil {
			return err
		}
	}
	return nil
}

func checkElement(e string) error {
	if !alnum(e[0]) || !alnum(e[len(e)-1]) {
		if upper(e[0]) || upper(e[len(e)-1]) {
			return invalid("repository name %q has upper-case letters; it must be lower case", e)
		}
		return invalid("repository name %q must begin and end with a lower-case letter or digit", e)
	}
	for i := 0; i < len(e); {
		if alnum(e[i]) {
			i++
			continue
		}
		end := i
		for end < len(e) && !alnum(e[end]) {
			end++
		}
		switch sep := e[i:end]; {
		case sep == ".", sep == "_", sep == "__", strings.Trim(sep, "-") == "":
		case strings.ToLower(sep) != sep:
			return invalid("repository name %q has upper-case letters; it must be lower case", e)
		default:
			return invalid("repository name %q holds %q between letters (one '.', one or two '_', or '-' are possible)", e, sep)
		}
		i = end
	}
	return nil
}

func alnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
func upper(c byte) bool { return c >= 'A' && c <= 'Z' }
