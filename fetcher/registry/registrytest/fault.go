package registrytest

import (
	"io"
	"log"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Kind is what a request is for.
type Kind int

// Kinds.
const (
	Other     Kind = iota
	API            // /v2/
	Manifests      // by tag or digest
	Blobs
	Tokens
	Referring // what refers to a manifest
)

func kind(path string) Kind {
	switch {
	case path == tokenPath:
		return Tokens
	case strings.Contains(path, "/manifests/"):
		return Manifests
	case strings.Contains(path, "/blobs/"):
		return Blobs
	case strings.Contains(path, "/referrers/"):
		return Referring
	case strings.HasSuffix(path, "/v2/"):
		return API
	}
	return Other
}

// Fault answers a request otherwise than serve would.
type Fault func(s *Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc)

// On makes a fault happen to all requests of a kind; nil heals it.
func (s *Server) On(k Kind, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[k] = f
}

// All makes a fault happen to manifests and blobs.
func (s *Server) All(f Fault) {
	s.On(Manifests, f)
	s.On(Blobs, f)
}

// First makes a fault happen n times.
func First(n int, f Fault) Fault {
	var seen atomic.Int64
	return func(s *Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if seen.Add(1) > int64(n) {
			serve(w, r)
			return
		}
		f(s, w, r, serve)
	}
}

// Cut breaks the connection after n bytes of each body.
func Cut(n int) Fault {
	return func(_ *Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		serve(&limited{ResponseWriter: w, left: n, then: func() { panic(http.ErrAbortHandler) }}, r)
	}
}

// Stall sends n bytes of each body and then nothing.
func Stall(n int) Fault {
	return func(s *Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		serve(&limited{ResponseWriter: w, left: n, then: func() { s.hang(r); panic(http.ErrAbortHandler) }}, r)
	}
}

// Trickle sends a byte at a time, with a pause before each.
func Trickle(pause time.Duration) Fault {
	return func(s *Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		serve(&trickling{w, s, r, pause}, r)
	}
}

// Silence accepts the request and never answers.
func Silence() Fault {
	return func(s *Server, _ http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		s.hang(r)
		panic(http.ErrAbortHandler)
	}
}

// Late answers after a pause.
func Late(pause time.Duration) Fault {
	return func(s *Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		select {
		case <-time.After(pause):
			serve(w, r)
		case <-r.Context().Done():
		case <-s.closing:
		}
	}
}

// hang waits until the client gives up.
func (s *Server) hang(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-s.closing:
	}
}

// Status answers with an error, and with headers in pairs of name and value.
func Status(code int, header ...string) Fault {
	return func(_ *Server, w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		refuse(w, code, "SOME_CODE", "some words")
	}
}

// WrongBytes sends as many bytes as there should be, and others.
func WrongBytes() Fault {
	return func(_ *Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		serve(&wrong{w}, r)
	}
}

// WrongRange sends another part than is asked for, and says what contentRange says.
func WrongRange(contentRange string) Fault {
	return func(_ *Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.Header.Get("Range") == "" {
			serve(w, r)
			return
		}
		w.Header().Set("Content-Range", contentRange)
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(make([]byte, 10)) // the client is gone, then
	}
}

// Redirect sends the client to url; "" is to where it is already.
func Redirect(url string) Fault {
	return func(s *Server, w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		to := url
		if to == "" {
			to = s.URL + r.URL.Path
		}
		http.Redirect(w, r, to, http.StatusTemporaryRedirect)
	}
}

// Headers adds headers, in pairs of name and value, to what is served.
func Headers(header ...string) Fault {
	return func(_ *Server, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		serve(w, r)
	}
}

// Raw answers with bytes that need not be HTTP.
func Raw(answer string) Fault {
	return func(_ *Server, w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(c, answer)
		_ = c.Close()
	}
}

// Padding is a header line of n bytes.
func Padding(n int) string { return strings.Repeat("x", n) }

// limited passes on so many bytes.
type limited struct {
	http.ResponseWriter
	left int
	then func()
}

func (l *limited) Write(p []byte) (int, error) {
	n, err := l.ResponseWriter.Write(p[:min(l.left, len(p))])
	if l.left -= n; err != nil || l.left > 0 || n == len(p) {
		return n, err
	}
	if f, ok := l.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
	l.then()
	return n, io.ErrClosedPipe
}

type trickling struct {
	http.ResponseWriter
	s     *Server
	r     *http.Request
	pause time.Duration
}

func (t *trickling) Write(p []byte) (int, error) {
	for i := range p {
		select {
		case <-time.After(t.pause):
		case <-t.r.Context().Done():
			return i, t.r.Context().Err()
		case <-t.s.closing:
			return i, io.ErrClosedPipe
		}
		if _, err := t.ResponseWriter.Write(p[i : i+1]); err != nil {
			return i, err
		}
		if f, ok := t.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
	}
	return len(p), nil
}

type wrong struct{ http.ResponseWriter }

func (b *wrong) Write(p []byte) (int, error) {
	q := make([]byte, len(p))
	for i := range p {
		q[i] = ^p[i]
	}
	return b.ResponseWriter.Write(q)
}

// quiet is for faults, which are meant.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
