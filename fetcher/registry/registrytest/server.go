package registrytest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Request is one that the server has got.
type Request struct {
	Method, Path, Query, Range, Authorization string
	Header                                    http.Header
}

// document is a manifest with its media type.
type document struct {
	mediaType string
	raw       []byte
}

// Server is a registry.
type Server struct {
	*httptest.Server
	closing chan struct{}

	mu        sync.Mutex
	manifests map[string]document // "repository:tag" and "repository@digest"
	blobs     map[digest.Digest][]byte
	faults    map[Kind]Fault
	requests  []Request
	auth      auth
	referrers bool
}

// New starts a registry without TLS.
func New(tb testing.TB) *Server {
	tb.Helper()
	return start(tb, (*httptest.Server).Start)
}

// NewTLS starts a registry with TLS and a certificate that nobody knows.
func NewTLS(tb testing.TB) *Server {
	tb.Helper()
	return start(tb, (*httptest.Server).StartTLS)
}

func start(tb testing.TB, how func(*httptest.Server)) *Server {
	tb.Helper()
	s := &Server{
		closing: make(chan struct{}), manifests: map[string]document{}, blobs: map[digest.Digest][]byte{}, faults: map[Kind]Fault{},
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ErrorLog = quiet()
	how(s.Server)
	tb.Cleanup(func() {
		close(s.closing)
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// Host is "address:port".
func (s *Server) Host() string {
	_, host, _ := strings.Cut(s.URL, "://")
	return host
}

// CA is the certificate of a server with TLS, in PEM form.
func (s *Server) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// Blob puts a blob there.
func (s *Server) Blob(mediaType string, content []byte) v1.Descriptor {
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d.Digest] = content
	return d
}

// Manifest puts a manifest or index there. tag may be "".
func (s *Server) Manifest(repository, tag, mediaType string, raw []byte) v1.Descriptor {
	d := v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	s.mu.Lock()
	defer s.mu.Unlock()
	doc := document{mediaType, raw}
	s.manifests[repository+"@"+string(d.Digest)] = doc
	if tag != "" {
		s.manifests[repository+":"+tag] = doc
	}
	return d
}

// Referrers makes the server tell what refers to a manifest. Without it does not have
// that part of the protocol.
func (s *Server) Referrers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.referrers = true
}

// Image is what Image put there.
type Image struct {
	Manifest v1.Descriptor
	Raw      []byte
	Config   v1.Descriptor
	Layers   []v1.Descriptor
}

// Image puts an image there, of layers that nobody will unpack.
func (s *Server) Image(tb testing.TB, repository, tag string, layers ...[]byte) Image {
	tb.Helper()
	i := Image{Config: s.Blob(v1.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux"}`))}
	m := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Config: i.Config}
	m.SchemaVersion = 2
	for _, l := range layers {
		i.Layers = append(i.Layers, s.Blob(v1.MediaTypeImageLayer, l))
	}
	m.Layers = i.Layers
	raw, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	i.Raw = raw
	i.Manifest = s.Manifest(repository, tag, v1.MediaTypeImageManifest, raw)
	return i
}

// Random is content that does not compress.
func Random(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails
	return b
}

// Requests are those so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Count is how many requests for a kind there were.
func (s *Server) Count(k Kind) (n int) {
	for _, r := range s.Requests() {
		if kind(r.Path) == k {
			n++
		}
	}
	return n
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, Request{r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("Range"), r.Header.Get("Authorization"), r.Header.Clone()})
	fault := s.faults[kind(r.URL.Path)]
	s.mu.Unlock()
	if fault != nil {
		fault(s, w, r, s.answer)
		return
	}
	s.answer(w, r)
}

// answer is what a registry without faults does.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == tokenPath {
		s.token(w, r)
		return
	}
	if !s.authorized(w, r) {
		return
	}
	repository, reference := split(r.URL.Path)
	if kind(r.URL.Path) == Referring {
		s.refer(w, repository, digest.Digest(reference), r.URL.Query().Get("artifactType"))
		return
	}
	s.mu.Lock()
	doc, isManifest := s.manifests[repository+":"+reference]
	if strings.Contains(reference, ":") {
		doc, isManifest = s.manifests[repository+"@"+reference]
	}
	blob, isBlob := s.blobs[digest.Digest(reference)]
	s.mu.Unlock()
	switch kind(r.URL.Path) {
	case API:
		w.WriteHeader(http.StatusOK)
	case Manifests:
		if !isManifest {
			refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
			return
		}
		w.Header().Set("Content-Type", doc.mediaType)
		w.Header().Set("Docker-Content-Digest", string(digest.FromBytes(doc.raw)))
		_, _ = w.Write(doc.raw) // the client is gone, then
	case Blobs:
		if !isBlob {
			refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown")
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
	default:
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "there is nothing here")
	}
}

// refer tells what refers to a manifest.
func (s *Server) refer(w http.ResponseWriter, repository string, to digest.Digest, artifactType string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.referrers {
		refuse(w, http.StatusNotFound, "UNSUPPORTED", "there is nothing here")
		return
	}
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{}}
	index.SchemaVersion = 2
	for name, doc := range s.manifests {
		var m v1.Manifest
		if !strings.HasPrefix(name, repository+"@") || json.Unmarshal(doc.raw, &m) != nil || m.Subject == nil || m.Subject.Digest != to {
			continue
		}
		if m.ArtifactType == "" {
			m.ArtifactType = m.Config.MediaType
		}
		if artifactType == "" || m.ArtifactType == artifactType {
			index.Manifests = append(index.Manifests, v1.Descriptor{
				MediaType: doc.mediaType, ArtifactType: m.ArtifactType, Digest: digest.FromBytes(doc.raw), Size: int64(len(doc.raw)), Annotations: m.Annotations,
			})
		}
	}
	w.Header().Set("Content-Type", v1.MediaTypeImageIndex)
	w.Header().Set("OCI-Filters-Applied", "artifactType")
	_ = json.NewEncoder(w).Encode(index) // the client is gone, then
}
