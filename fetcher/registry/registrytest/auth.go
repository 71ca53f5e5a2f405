package registrytest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const tokenPath = "/token"

// auth is what the server wants to see.
type auth struct {
	user, password string
	refresh        string // an identity token
	tokens         bool
	anonymous      bool // tokens are given to everybody
	issued         int
	valid          string // the token that is good now
}

// Password makes the server want a password.
func (s *Server) Password(user, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.auth = auth{user: user, password: password}
}

// Tokens makes the server want tokens, which it gives for a password, or for the
// identity token if that is not "". An empty user is everybody.
func (s *Server) Tokens(user, password, identity string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.auth = auth{user: user, password: password, refresh: identity, tokens: true, anonymous: user == "" && identity == ""}
}

// Expire makes all tokens bad that were given so far.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.auth.valid = ""
}

// Accept makes a token good.
func (s *Server) Accept(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.auth.tokens, s.auth.valid = true, token
}

// authorized answers with a challenge unless the request may pass.
func (s *Server) authorized(w http.ResponseWriter, r *http.Request) bool {
	s.mu.Lock()
	a := s.auth
	s.mu.Unlock()
	switch {
	case a.tokens:
		if a.valid != "" && r.Header.Get("Authorization") == "Bearer "+a.valid {
			return true
		}
		scope := ""
		if repository, _ := split(r.URL.Path); repository != "" {
			scope = fmt.Sprintf(`,scope="repository:%s:pull"`, repository)
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s%s",service="test"%s`, s.URL, tokenPath, scope))
	case a.user != "":
		if user, password, ok := r.BasicAuth(); ok && user == a.user && password == a.password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	default:
		return true
	}
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

// token gives one.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, password, basic := r.BasicAuth()
	switch {
	case r.Method == http.MethodPost && s.auth.refresh != "" && r.FormValue("grant_type") == "refresh_token" && r.FormValue("refresh_token") == s.auth.refresh:
	case r.Method == http.MethodGet && basic && s.auth.user != "" && user == s.auth.user && password == s.auth.password:
	case r.Method == http.MethodGet && !basic && s.auth.anonymous:
	default:
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	s.auth.issued++
	s.auth.valid = fmt.Sprintf("token-%d-%d", s.auth.issued, time.Now().UnixNano())
	_ = json.NewEncoder(w).Encode(map[string]any{"token": s.auth.valid, "expires_in": 300}) // the client is gone, then
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}}) // as above
}

// split takes "/…/v2/REPOSITORY/(manifests|blobs|referrers)/REFERENCE" apart.
func split(path string) (repository, reference string) {
	_, rest, _ := strings.Cut(path, "/v2/")
	for _, middle := range []string{"/manifests/", "/blobs/", "/referrers/"} {
		if before, after, ok := strings.Cut(rest, middle); ok {
			return before, after
		}
	}
	return "", ""
}
