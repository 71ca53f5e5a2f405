package registry

import (
	"maps"
	"sync"

	"github.com/berth-dev/berth/containerizer"
)

// Bounds of what is remembered.
const (
	maxAccounts = 64
	maxTokens   = 256
)

// memory is what a client learned about authenticating, for later images from the
// same hosts. It is the process's, and written nowhere.
type memory struct {
	mu    sync.Mutex
	known map[account]*lesson
}

// account is who one is at a host. Nothing that was learned for one is used for
// another.
type account struct {
	origin   string // scheme, host and port
	registry string // whose content is wanted there
	// auth came with the pull; without, the node's credentials are shown.
	auth  containerizer.RegistryAuth
	given bool
}

// lesson is what a host wanted.
type lesson struct {
	challenge challenge
	// regular says that the challenge asks for the scope that we would ask for.
	regular bool
	tokens  map[string]string // scope -> value of the Authorization header
}

// hint is what to begin with: a value, or else a challenge to answer before it is
// made. The zero value is neither.
type hint struct {
	value     string
	challenge *challenge
}

// learn notes an answer to a challenge.
func (m *memory) learn(a account, scope string, c challenge, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.known[a]
	if l == nil {
		if m.known == nil || len(m.known) >= maxAccounts {
			m.known = map[account]*lesson{}
		}
		l = &lesson{}
		m.known[a] = l
	}
	l.challenge, l.regular = c, c.params["scope"] == "" || c.params["scope"] == scope
	if c.scheme != "bearer" {
		return
	}
	if l.tokens == nil || len(l.tokens) >= maxTokens {
		l.tokens = map[string]string{}
	}
	l.tokens[scope] = value
}

// recall says what to begin with for a scope.
func (m *memory) recall(a account, scope string) hint {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.known[a]
	if l == nil {
		return hint{}
	}
	if value := l.tokens[scope]; value != "" {
		return hint{value: value}
	}
	if !l.regular {
		return hint{}
	}
	c := challenge{scheme: l.challenge.scheme, params: maps.Clone(l.challenge.params)}
	delete(c.params, "scope") // that of another repository
	return hint{challenge: &c}
}
