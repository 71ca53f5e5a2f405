package registry

import "strings"

const (
	// maxChallenge bounds a WWW-Authenticate header.
	maxChallenge = 16 << 10
	// maxChallenges is how many ways to authenticate are looked at.
	maxChallenges = 16
)

// challenge is one way to authenticate that a server offers (RFC 9110, 11.3).
type challenge struct {
	scheme string // in lower case
	params map[string]string
}

// challenges reads WWW-Authenticate headers. Several challenges may be in one
// header, separated by commas as their parameters are. What is malformed ends the
// header; what came before it counts.
func challenges(headers []string) (out []challenge) {
	for _, h := range headers {
		if len(h) > maxChallenge {
			continue
		}
		p := parser{s: h}
		for len(out) < maxChallenges {
			c, ok := p.challenge()
			if !ok {
				break
			}
			out = append(out, c)
		}
	}
	return out
}

// parser consumes a header.
type parser struct {
	s      string
	broken bool // nothing more can be made of it
}

// challenge reads "scheme [token68 | name=value, name="value" …]".
func (p *parser) challenge() (challenge, bool) {
	p.separators()
	scheme := p.token()
	if scheme == "" {
		return challenge{}, false
	}
	c := challenge{scheme: strings.ToLower(scheme), params: map[string]string{}}
	p.space()
	for {
		rest := p.s // to go back to, if the next word is a scheme
		name, value, ok := p.param()
		if p.broken {
			p.s = ""
			return c, true
		}
		if !ok {
			p.s = rest
			p.token68()
			return c, true
		}
		if _, twice := c.params[name]; !twice {
			c.params[name] = value
		}
		p.space()
		if !strings.HasPrefix(p.s, ",") {
			return c, true
		}
		p.separators()
	}
}

func (p *parser) param() (name, value string, ok bool) {
	name = strings.ToLower(p.token())
	p.space()
	if name == "" || !strings.HasPrefix(p.s, "=") {
		return "", "", false
	}
	p.s = p.s[1:]
	p.space()
	if strings.HasPrefix(p.s, `"`) {
		value, ok = p.quoted()
		return name, value, ok
	}
	value = p.token()
	return name, value, value != ""
}

// quoted reads a quoted string.
func (p *parser) quoted() (string, bool) {
	var b strings.Builder
	for i := 1; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '"':
			p.s = p.s[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(p.s):
			i++
			b.WriteByte(p.s[i])
		default:
			b.WriteByte(c)
		}
	}
	p.broken = true
	return "", false
}

// token68 passes over credentials in the form of Negotiate and the like.
func (p *parser) token68() {
	end := 0
	for end < len(p.s) && (tokenByte(p.s[end]) || p.s[end] == '/' || p.s[end] == '=') {
		end++
	}
	if rest := strings.TrimLeft(p.s[end:], " \t"); rest == "" || rest[0] == ',' {
		p.s = rest
	}
}

func (p *parser) token() string {
	end := 0
	for end < len(p.s) && tokenByte(p.s[end]) {
		end++
	}
	t := p.s[:end]
	p.s = p.s[end:]
	return t
}

func (p *parser) space()      { p.s = strings.TrimLeft(p.s, " \t") }
func (p *parser) separators() { p.s = strings.TrimLeft(p.s, " \t,") }

func tokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
