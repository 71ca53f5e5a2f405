package manifest

import (
	"encoding/json"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Change applies an instruction of Dockerfiles, such as "ENV A=b", to a
// configuration.
func Change(c *v1.ImageConfig, instruction string) error {
	word, rest, _ := strings.Cut(strings.TrimSpace(instruction), " ")
	rest = strings.TrimSpace(rest)
	if strings.IndexByte(instruction, 0) >= 0 {
		return invalid("change %q: it holds a NUL byte", instruction)
	}
	if rest == "" {
		return invalid("change %q: nothing follows the instruction", instruction)
	}
	switch strings.ToUpper(word) {
	case "CMD":
		c.Cmd = command(rest)
	case "ENTRYPOINT":
		c.Entrypoint = command(rest)
	case "USER":
		c.User = rest
	case "WORKDIR":
		if rest[0] != '/' {
			return invalid("change %q: the directory is not absolute", instruction)
		}
		c.WorkingDir = rest
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "ENV":
		return pairs(instruction, rest, func(key, value string) {
			c.Env = slices.DeleteFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, key+"=") })
			c.Env = append(c.Env, key+"="+value)
		})
	case "LABEL":
		return pairs(instruction, rest, func(key, value string) {
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			c.Labels[key] = value
		})
	case "EXPOSE":
		for port := range strings.FieldsSeq(rest) {
			if !strings.Contains(port, "/") {
				port += "/tcp"
			}
			c.ExposedPorts = with(c.ExposedPorts, port)
		}
	case "VOLUME":
		for _, path := range list(rest) {
			c.Volumes = with(c.Volumes, path)
		}
	case "ONBUILD":
		return unsupported("change %q: OCI images have no ONBUILD", instruction)
	default:
		return invalid("change %q: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR are possible", instruction)
	}
	return nil
}

func with(set map[string]struct{}, key string) map[string]struct{} {
	if set == nil {
		set = map[string]struct{}{}
	}
	set[key] = struct{}{}
	return set
}

// command is a list in JSON, or a line for the shell.
func command(s string) []string {
	var out []string
	if strings.HasPrefix(s, "[") && json.Unmarshal([]byte(s), &out) == nil {
		return out
	}
	return []string{"/bin/sh", "-c", s}
}

// list is a list in JSON, or words.
func list(s string) []string {
	var out []string
	if strings.HasPrefix(s, "[") && json.Unmarshal([]byte(s), &out) == nil {
		return out
	}
	return strings.Fields(s)
}

// pairs reads "KEY=VALUE KEY2="a b"", or the old form "KEY VALUE".
func pairs(instruction, s string, set func(key, value string)) error {
	all, ok := words(s)
	if !ok {
		return invalid("change %q: a quotation mark is missing", instruction)
	}
	if !strings.Contains(all[0], "=") {
		key, value, found := strings.Cut(s, " ")
		if !found {
			return invalid("change %q: %q has no value", instruction, s)
		}
		set(key, strings.TrimSpace(value))
		return nil
	}
	for _, w := range all {
		key, value, found := strings.Cut(w, "=")
		if !found || key == "" {
			return invalid("change %q: %q is not KEY=VALUE", instruction, w)
		}
		set(key, value)
	}
	return nil
}

// words splits at spaces outside quotation marks, and takes those and backslashes
// away. s is not empty.
func words(s string) (out []string, ok bool) {
	var b strings.Builder
	quote, inWord := byte(0), false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
			inWord = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, inWord = c, true
		case quote == 0 && (c == ' ' || c == '\t' || c == '\n'):
			if inWord {
				out = append(out, b.String())
				b.Reset()
				inWord = false
			}
		default:
			b.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		out = append(out, b.String())
	}
	return out, quote == 0 && len(out) > 0
}
