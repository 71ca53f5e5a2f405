package specflag

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// keyValues adds "KEY=VALUE" entries to m; one without '=' has an empty value.
func keyValues(m map[string]string, flag string, entries []string) (map[string]string, error) {
	for _, e := range entries {
		key, value, _ := strings.Cut(e, "=")
		if key == "" {
			return nil, invalidf("%s %q has no name before '='", flag, e)
		}
		if m == nil {
			m = map[string]string{}
		}
		m[key] = value
	}
	return m, nil
}

// checkAssignment refuses an entry without '='.
func checkAssignment(flag, entry string) error {
	if !strings.Contains(entry, "=") {
		return invalidf("%s %q is not NAME=VALUE", flag, entry)
	}
	return nil
}

// Environment expands the entries of -e and the contents of --env-file: a name
// without '=' takes its value from lookup, and is left out when it has none.
func Environment(entries []string, lookup func(string) (string, bool)) ([]string, error) {
	var env []string
	for _, e := range entries {
		key, _, assigned := strings.Cut(e, "=")
		switch {
		case key == "":
			return nil, invalidf("environment variable %q has no name", e)
		case strings.ContainsRune(e, 0):
			return nil, invalidf("environment variable %q holds a NUL byte", key)
		case assigned:
			env = append(env, e)
		default:
			if value, ok := lookup(key); ok {
				env = append(env, key+"="+value)
			}
		}
	}
	return env, nil
}

// readLines reads a file of entries.
func readLines(host Host, flag, path string) ([]string, error) {
	data, err := host.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	lines, err := parseLines(data)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", flag, path, err)
	}
	return lines, nil
}

// parseLines splits a file of "KEY=VALUE" or "KEY" lines the way Docker does:
// lines that are empty or begin with '#' are skipped, white space before a name is
// dropped, names hold none, values are taken as they stand.
func parseLines(data []byte) ([]string, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var out []string
	for n := 1; len(data) > 0; n++ {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		data = rest
		text := strings.TrimSuffix(string(line), "\r")
		text = strings.TrimLeftFunc(text, unicode.IsSpace)
		if text == "" || text[0] == '#' {
			continue
		}
		if !utf8.ValidString(text) {
			return nil, invalidf("line %d is not UTF-8", n)
		}
		key, _, assigned := strings.Cut(text, "=")
		if !assigned {
			key = strings.TrimRightFunc(key, unicode.IsSpace)
			text = key
		}
		switch {
		case key == "":
			return nil, invalidf("line %d has no name before '='", n)
		case strings.ContainsFunc(key, unicode.IsSpace):
			return nil, invalidf("line %d: the name %q holds white space", n, key)
		case strings.ContainsRune(text, 0):
			return nil, invalidf("line %d holds a NUL byte", n)
		}
		out = append(out, text)
	}
	return out, nil
}

// Labels parses "KEY=VALUE" labels.
func Labels(entries []string) (map[string]string, error) { return keyValues(nil, "--label", entries) }
