package systemd_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
)

// peer speaks D-Bus as systemd does on its private socket, and remembers what it
// was asked. Answers are set before use.
type peer struct {
	socket string
	// refuse maps a method to the error that it answers with, once.
	refuse map[string]string
	// result is how jobs end; "done" when empty. "never" ends none.
	result string

	mu    sync.Mutex
	conns []net.Conn
	calls []call
	jobs  int
}

type call struct {
	method string
	body   []any
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{socket: filepath.Join(t.TempDir(), "private"), refuse: map[string]string{}}
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, conn)
			p.mu.Unlock()
			wg.Go(func() {
				if err := p.serve(conn); !hungUp(err) {
					t.Errorf("peer: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.disconnect()
		wg.Wait()
	})
	return p
}

// hungUp is whether err is only the end of a connection, by either side.
func hungUp(err error) bool {
	return slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE}, func(e error) bool {
		return errors.Is(err, e)
	})
}

// disconnect is what a restart of systemd looks like.
func (p *peer) disconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// took returns the calls so far of a method, and forgets all.
func (p *peer) took(method string) []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []call
	for _, c := range p.calls {
		if c.method == method {
			found = append(found, c)
		}
	}
	p.calls = nil
	return found
}

func (p *peer) serve(conn net.Conn) error {
	r := bufio.NewReader(conn)
	if err := handshake(conn, r); err != nil {
		return err
	}
	for {
		m, err := dbus.DecodeMessage(r)
		if err != nil {
			return err
		}
		if m.Type == dbus.TypeMethodCall {
			if err := p.answer(conn, m); err != nil {
				return err
			}
		}
	}
}

// handshake is the server's half of SASL EXTERNAL (D-Bus specification,
// "Authentication Protocol").
func handshake(conn net.Conn, r *bufio.Reader) error {
	if _, err := r.ReadByte(); err != nil { // the nul byte that carries credentials
		return err
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		reply := "ERROR\r\n"
		switch word, _, _ := strings.Cut(strings.TrimSpace(line), " "); {
		case line == "AUTH\r\n":
			reply = "REJECTED EXTERNAL\r\n"
		case word == "AUTH":
			reply = "OK 0123456789abcdef0123456789abcdef\r\n"
		case word == "NEGOTIATE_UNIX_FD":
			reply = "AGREE_UNIX_FD\r\n"
		case word == "BEGIN":
			return nil
		}
		if _, err := io.WriteString(conn, reply); err != nil {
			return err
		}
	}
}

func (p *peer) answer(conn net.Conn, m *dbus.Message) error {
	method, _ := m.Headers[dbus.FieldMember].Value().(string)
	p.mu.Lock()
	p.calls = append(p.calls, call{method, m.Body})
	refusal := p.refuse[method]
	delete(p.refuse, method)
	p.mu.Unlock()
	if refusal != "" {
		return send(conn, dbus.TypeError, map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(m.Serial()),
			dbus.FieldErrorName:   dbus.MakeVariant(refusal),
		}, "refused by the test")
	}
	reply := map[dbus.HeaderField]dbus.Variant{dbus.FieldReplySerial: dbus.MakeVariant(m.Serial())}
	if method != "StartTransientUnit" && method != "StopUnit" {
		return send(conn, dbus.TypeMethodReply, reply)
	}
	p.mu.Lock()
	p.jobs++
	job := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", p.jobs))
	result, everybody := p.result, append([]net.Conn(nil), p.conns...)
	id := uint32(p.jobs)
	p.mu.Unlock()
	if err := send(conn, dbus.TypeMethodReply, reply, job); err != nil {
		return err
	}
	if result == "never" {
		return nil
	}
	if result == "" {
		result = "done"
	}
	for _, c := range everybody { // signals go to all direct connections
		err := send(c, dbus.TypeSignal, map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath:      dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")),
			dbus.FieldInterface: dbus.MakeVariant("org.freedesktop.systemd1.Manager"),
			dbus.FieldMember:    dbus.MakeVariant("JobRemoved"),
		}, id, job, m.Body[0], result)
		if err != nil {
			return err
		}
	}
	return nil
}

var sendMu sync.Mutex // several of the peer's goroutines write signals to one connection

func send(conn net.Conn, kind dbus.Type, headers map[dbus.HeaderField]dbus.Variant, body ...any) error {
	m := &dbus.Message{Type: kind, Headers: headers, Body: body}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	sendMu.Lock()
	defer sendMu.Unlock()
	return m.EncodeTo(conn, binary.LittleEndian)
}
