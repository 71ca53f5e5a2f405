package ftp_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/uri"
	"github.com/berth-dev/berth/fetcher/uri/ftp"
	"github.com/berth-dev/berth/fetcher/uri/uritest"
)

// scheme trusts the double.
func scheme(t *testing.T, d *double) *ftp.Scheme {
	t.Helper()
	if d.tls == nil {
		return ftp.New(ftp.Options{})
	}
	cert, err := x509.ParseCertificate(d.tls.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return ftp.New(ftp.Options{Roots: roots})
}

func TestConformance(t *testing.T) {
	for name, secure := range map[string]bool{"ftp": false, "ftps": true} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t, secure)
			uritest.Run(t, uritest.Subject{
				Scheme: scheme(t, d), Put: d.put, Missing: d.url("missing"), Resumes: true, Secret: "secret",
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	d, secure := newDouble(t, false), newDouble(t, true)
	there := d.put(t, "x", []byte("x"))
	for name, c := range map[string]struct {
		uri  string
		want error
	}{
		"password":    {strings.Replace(there, "secret", "guess", 1), containerizer.ErrPermission},
		"anonymous":   {strings.Replace(there, "me:secret@", "", 1), containerizer.ErrPermission},
		"line break":  {d.url("a%0D%0ADELE%20b"), containerizer.ErrInvalid},
		"link-local":  {"ftp://169.254.169.254/x", containerizer.ErrPermission},
		"nobody":      {"ftp://127.0.0.1:1/x", containerizer.ErrUnavailable},
		"certificate": {secure.put(t, "x", nil), containerizer.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := uri.Parse(c.uri)
			if err == nil {
				_, err = ftp.New(ftp.Options{}).Open(t.Context(), uri.Request{Reference: r})
			}
			if !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// sink is a file.
type sink struct{ f *os.File }

func (s sink) Begin(int64, int64, string) (*os.File, error) { return s.f, nil }
func (sink) Room(int64) error                               { return nil }

// A transfer that breaks off is not taken for the whole, whatever size was told.
func TestBroken(t *testing.T) {
	content := uritest.Content(100_000)
	for name, change := range map[string]func(*double){
		"goes on":        func(*double) {},
		"begins anew":    func(d *double) { d.noREST = true },
		"other data end": func(d *double) { d.pasv = "10,255,255,1" }, // it is not gone to
	} {
		t.Run(name, func(t *testing.T) {
			d := newDouble(t, false)
			d.cutAt = 40_000
			change(d)
			f, err := os.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close() //nolint:errcheck // it is read by its name
			part := uri.NewPart(sink{f}, "")
			down := &uri.Downloader{Backoff: time.Millisecond}
			if _, err := down.Download(t.Context(), ftp.New(ftp.Options{}), uritest.Request(t, d.put(t, "x", content)), part, nil); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	d := newDouble(t, false)
	d.cutAt = 40_000
	resp, err := ftp.New(ftp.Options{}).Open(t.Context(), uritest.Request(t, d.put(t, "x", content)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("a broken transfer looks like the end")
	}
}
