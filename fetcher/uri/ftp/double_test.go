package ftp_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// double is a server that speaks enough FTP for reading.
type double struct {
	t      *testing.T
	l      net.Listener
	tls    *tls.Config // nil: none
	scheme string

	mu    sync.Mutex
	files map[string][]byte
	times map[string]int
	// cutAt, when set, breaks the next transfer off there, once.
	cutAt int
	// noREST refuses offsets, pasv sends clients elsewhere for their data.
	noREST bool
	pasv   string
	wg     sync.WaitGroup
}

func newDouble(t *testing.T, secure bool) *double {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	d := &double{t: t, l: l, scheme: "ftp", files: map[string][]byte{}, times: map[string]int{}}
	if secure {
		s := httptest.NewUnstartedServer(nil)
		s.StartTLS()
		d.tls = &tls.Config{Certificates: s.TLS.Certificates, MinVersion: tls.VersionTLS12}
		s.Close()
		d.scheme = "ftps"
	}
	d.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.wg.Go(func() { d.session(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		d.wg.Wait()
	})
	return d
}

func (d *double) url(path string) string {
	return d.scheme + "://me:secret@" + d.l.Addr().String() + "/" + path
}

func (d *double) put(_ *testing.T, name string, content []byte) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[name] = content
	d.times[name]++
	return d.url(url.PathEscape(name))
}

func (d *double) secured(c net.Conn) net.Conn {
	if d.tls == nil {
		return c
	}
	return tls.Server(c, d.tls)
}

func (d *double) session(raw net.Conn) {
	c := d.secured(raw)
	defer c.Close() //nolint:errcheck // a test's
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(c, format+"\r\n", args...) }
	say("220 hello")
	var data net.Listener
	defer func() {
		if data != nil {
			_ = data.Close()
		}
	}()
	offset := 0
	for lines := bufio.NewScanner(c); lines.Scan(); {
		verb, arg, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		d.mu.Lock()
		content, there := d.files[arg]
		n, noREST, pasv := d.times[arg], d.noREST, d.pasv
		d.mu.Unlock()
		switch strings.ToUpper(verb) {
		case "USER":
			say("331 password")
		case "PASS":
			if arg != "secret" {
				say("530 no")
				continue
			}
			say("230 in")
		case "FEAT":
			say("211-Features:\r\n SIZE\r\n MDTM\r\n REST STREAM\r\n UTF8\r\n211 End")
		case "TYPE", "OPTS", "PBSZ", "PROT":
			say("200 ok")
		case "SIZE":
			if !there {
				say("550 no file")
				continue
			}
			say("213 %d", len(content))
		case "MDTM":
			say("213 %s", time.Unix(1_000_000_000+int64(n), 0).UTC().Format("20060102150405"))
		case "EPSV":
			if pasv != "" {
				say("500 no")
				continue
			}
			data = d.listen(data)
			say("229 ok (|||%d|)", data.Addr().(*net.TCPAddr).Port)
		case "PASV":
			data = d.listen(data)
			port := data.Addr().(*net.TCPAddr).Port
			say("227 ok (%s,%d,%d)", pasv, port/256, port%256)
		case "REST":
			if noREST {
				say("502 no")
				continue
			}
			offset, _ = strconv.Atoi(arg)
			say("350 go on")
		case "RETR":
			if !there || data == nil {
				say("550 no file")
				continue
			}
			say("150 here")
			if d.send(data, content[min(offset, len(content)):]) {
				say("226 done")
			} else {
				say("426 broken")
			}
			offset = 0
		case "QUIT":
			say("221 bye")
			return
		default:
			say("502 %s is not known", verb)
		}
	}
}

func (d *double) listen(old net.Listener) net.Listener {
	if old != nil {
		_ = old.Close()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		d.t.Error(err)
	}
	return l
}

// send says whether all of it went out.
func (d *double) send(l net.Listener, b []byte) bool {
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	c, err := l.Accept()
	if err != nil {
		return false
	}
	c = d.secured(c)
	defer c.Close() //nolint:errcheck // a test's
	d.mu.Lock()
	at := d.cutAt
	d.cutAt = 0
	d.mu.Unlock()
	if at > 0 {
		_, _ = c.Write(b[:at])
		return false
	}
	_, err = c.Write(b)
	return err == nil
}
