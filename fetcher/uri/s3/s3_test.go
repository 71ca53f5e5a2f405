package s3_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri/s3"
	"github.com/berth-dev/berth/fetcher/uri/uritest"
)

const (
	keyID  = "AKIDEXAMPLE"
	secret = "wJalrXUtnFEMI+K7MDENG+bPxRfiCYEXAMPLEKEY" //nolint:gosec // an example
	token  = "session-token"
)

// double is a server that speaks enough of S3: path style, signatures, anonymous
// reading of the bucket "public".
type double struct {
	*httptest.Server
	t      *testing.T
	region string
	mu     sync.Mutex
	files  map[string][]byte
	times  map[string]int
	seen   []*http.Request
}

func newDouble(t *testing.T) *double {
	t.Helper()
	d := &double{t: t, region: "eu-west-1", files: map[string][]byte{}, times: map[string]int{}}
	d.Server = httptest.NewServer(d)
	t.Cleanup(d.Close)
	return d
}

func (d *double) put(_ *testing.T, name string, content []byte) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	path := "/bucket/dir/" + name
	d.files[path] = content
	d.times[path]++
	return "s3:/" + (&url.URL{Path: path}).EscapedPath()
}

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.seen = append(d.seen, r)
	content, ok := d.files[r.URL.Path]
	n := d.times[r.URL.Path]
	d.mu.Unlock()
	if err := d.verify(r); err != nil {
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, "<Error><Code>SignatureDoesNotMatch</Code><Message>%v</Message></Error>", err)
		return
	}
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf("%q", strconv.Itoa(n)))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// verify checks the signature as the documentation says, on the raw request.
func (d *double) verify(r *http.Request) error {
	auth := r.Header.Get("Authorization")
	if auth == "" {
		if strings.HasPrefix(r.URL.Path, "/public/") {
			return nil
		}
		return errors.New("anonymous")
	}
	rest, ok := strings.CutPrefix(auth, "AWS4-HMAC-SHA256 ")
	fields := map[string]string{}
	for f := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[k] = v
	}
	date := r.Header.Get("X-Amz-Date")
	when, err := time.Parse("20060102T150405Z", date)
	if !ok || err != nil || time.Since(when).Abs() > 15*time.Minute {
		return fmt.Errorf("date %q", date)
	}
	scope := strings.Join([]string{date[:8], d.region, "s3", "aws4_request"}, "/")
	if fields["Credential"] != keyID+"/"+scope {
		return fmt.Errorf("credential %q", fields["Credential"])
	}
	names := strings.Split(fields["SignedHeaders"], ";")
	for _, must := range []string{"host", "x-amz-date", "x-amz-content-sha256"} {
		if !slices.Contains(names, must) {
			return fmt.Errorf("%s is not signed", must)
		}
	}
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") && !slices.Contains(names, lower) {
			return fmt.Errorf("%s is not signed", name)
		}
	}
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	canonical := []string{r.Method, raw, ""}
	for _, n := range names {
		v := r.Header.Get(n)
		if n == "host" {
			v = r.Host
		}
		canonical = append(canonical, n+":"+v)
	}
	canonical = append(canonical, "", fields["SignedHeaders"], r.Header.Get("X-Amz-Content-Sha256"))
	sum := sha256.Sum256([]byte(strings.Join(canonical, "\n")))
	key := []byte("AWS4" + secret)
	for _, part := range append(strings.Split(scope, "/"), strings.Join([]string{"AWS4-HMAC-SHA256", date, scope, hex.EncodeToString(sum[:])}, "\n")) {
		h := hmac.New(sha256.New, key)
		_, _ = h.Write([]byte(part))
		key = h.Sum(nil)
	}
	if fields["Signature"] != hex.EncodeToString(key) {
		return errors.New("signature")
	}
	return nil
}

// environment answers from m alone.
func environment(m map[string]string) func(string) string {
	return func(k string) string { return m[k] }
}

func (d *double) env() map[string]string {
	return map[string]string{
		"AWS_ACCESS_KEY_ID": keyID, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token,
		"AWS_REGION": d.region, "AWS_ENDPOINT_URL_S3": d.URL,
	}
}

func TestConformance(t *testing.T) {
	d := newDouble(t)
	uritest.Run(t, uritest.Subject{
		Scheme: s3.New(s3.Options{Getenv: environment(d.env())}), Put: d.put, Missing: "s3://bucket/missing", Resumes: true, Secret: secret,
	})
	if d.seen[0].Header.Get("X-Amz-Security-Token") != token {
		t.Error("the session token is not sent")
	}
}

func TestCredentials(t *testing.T) {
	d := newDouble(t)
	object := d.put(t, "x", []byte("x"))
	d.files["/public/x"] = []byte("public")
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		".aws/credentials": "[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n[team]\naws_access_key_id = " + keyID + "\naws_secret_access_key = " + secret + "\n",
		".aws/config":      "[profile team]\nregion = eu-west-1\nendpoint_url = " + d.URL + "\n",
		"other":            "[default]\naws_access_key_id=" + keyID + "\naws_secret_access_key=" + secret + "\n",
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		uri  string
		env  map[string]string
		want error
	}{
		"environment":       {object, d.env(), nil},
		"profile":           {object, map[string]string{"HOME": home, "AWS_PROFILE": "team"}, nil},
		"another file":      {object, map[string]string{"AWS_SHARED_CREDENTIALS_FILE": filepath.Join(home, "other"), "AWS_DEFAULT_REGION": d.region, "AWS_ENDPOINT_URL": d.URL}, nil},
		"wrong keys":        {object, map[string]string{"HOME": home, "AWS_REGION": d.region, "AWS_ENDPOINT_URL": d.URL}, containerizer.ErrPermission},
		"anonymous":         {"s3://public/x", map[string]string{"AWS_ENDPOINT_URL": d.URL}, nil},
		"anonymous refused": {object, map[string]string{"AWS_ENDPOINT_URL": d.URL}, containerizer.ErrPermission},
		"half":              {object, map[string]string{"AWS_ACCESS_KEY_ID": keyID}, containerizer.ErrInvalid},
		"no such profile":   {object, map[string]string{"AWS_PROFILE": "nobody"}, containerizer.ErrInvalid},
		"bad endpoint":      {object, map[string]string{"AWS_ENDPOINT_URL": "ftp://x"}, containerizer.ErrInvalid},
		"bad region":        {object, map[string]string{"AWS_REGION": "evil.example/", "HOME": ""}, containerizer.ErrInvalid},
		"user in the URI":   {"s3://a:b@bucket/x", d.env(), containerizer.ErrInvalid},
		"query":             {"s3://bucket/x?endpoint=http://evil.example", d.env(), containerizer.ErrInvalid},
		"port":              {"s3://bucket:80/x", d.env(), containerizer.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := s3.New(s3.Options{Getenv: environment(c.env)}).Open(t.Context(), uritest.Request(t, c.uri))
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if err == nil {
				_ = resp.Body.Close()
			} else if strings.Contains(err.Error(), secret) {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

// Nothing signed goes where a server sends us.
func TestRedirectIsNotFollowed(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	t.Cleanup(other.Close)
	from := httptest.NewServer(http.RedirectHandler(other.URL+"/x", http.StatusTemporaryRedirect))
	t.Cleanup(from.Close)
	env := map[string]string{"AWS_ACCESS_KEY_ID": keyID, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL": from.URL}
	if _, err := s3.New(s3.Options{Getenv: environment(env)}).Open(t.Context(), uritest.Request(t, "s3://bucket/x")); !errors.Is(err, containerizer.ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

func TestWrongRegionIsNamed(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Amz-Bucket-Region", "ap-south-1")
		w.WriteHeader(http.StatusMovedPermanently)
	}))
	t.Cleanup(s.Close)
	_, err := s3.New(s3.Options{Getenv: environment(map[string]string{"AWS_ENDPOINT_URL": s.URL})}).Open(t.Context(), uritest.Request(t, "s3://bucket/x"))
	if !errors.Is(err, containerizer.ErrFailedPrecondition) || !strings.Contains(err.Error(), "ap-south-1") {
		t.Errorf("error %v", err)
	}
}
