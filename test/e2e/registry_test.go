package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"golang.org/x/sys/unix"

	"github.com/berth-dev/berth/test/fixtures"
)

// startRegistry runs Debian's docker-registry on a port of loopback until the test
// ends, and returns "localhost:PORT".
func startRegistry(t *testing.T, dir string) string {
	t.Helper()
	return serveRegistry(t, dir, "")
}

// serveRegistry is startRegistry with more lines of configuration, "%s" in them
// being the address. Several may have the same dir.
func serveRegistry(t *testing.T, dir, more string) (host string) {
	t.Helper()
	path, err := exec.LookPath("docker-registry")
	need(t, err == nil, "docker-registry is not installed (.ci/packages test installs it)")
	address := "127.0.0.1:" + strconv.Itoa(freePort(t))
	_, port, _ := strings.Cut(address, ":")
	if more == "" {
		more = "http: {addr: %q}\n"
	}
	config := filepath.Join(dir, "registry-"+port+".yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/registry}}\n", dir) +
		fmt.Sprintf(more, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "serve", config)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.Env = []string{} // REGISTRY_… would be its configuration
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Wait() // the test's context has ended it
		if t.Failed() {
			t.Logf("registry: %s", &log)
		}
	})
	eventually(t, func() string {
		dialer := net.Dialer{Timeout: time.Second}
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			return err.Error()
		}
		return unless(conn.Close() == nil, "close")
	})
	return "localhost:" + port
}

// writeAll writes files below dir.
func writeAll(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// selfSigned makes a certificate for localhost and its key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// dying is a mirror that passes on so many bytes of another server and then is
// dead: connections end, and nobody listens any more.
type dying struct {
	address string
	served  atomic.Int64
}

func newDying(t *testing.T, behind string, limit int64) *dying {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed below
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	d := &dying{address: l.Addr().String()}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go d.pass(client, behind, limit, l)
		}
	}()
	return d
}

func (d *dying) pass(client net.Conn, behind string, limit int64, l net.Listener) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", behind) //nolint:noctx // ends with its peers
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() { _, _ = io.Copy(server, client) }() // requests
	b := make([]byte, 16<<10)
	for {
		n, err := server.Read(b)
		if d.served.Add(int64(n)) > limit {
			_ = l.Close()
			return
		}
		if _, werr := client.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

// TestPrivateRegistry has Debian's registry with TLS, a certificate that only the
// configuration knows, and passwords; and a mirror before it that dies in the middle
// of a layer.
func TestPrivateRegistry(t *testing.T) {
	need(t, os.Getuid() == 0, "running containers needs root")
	const user, password = "user", "berth-pass"
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", filepath.Join(dir, "docker"))

	busybox, err := fixtures.BusyboxImage()
	need(t, err == nil, "an image of busybox: %v", err)
	content := make([]byte, 8<<20)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	layer, err := fixtures.Layer(fixtures.File{Path: "big", Mode: 0o644, Data: content})
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(busybox, layer)
	if err != nil {
		t.Fatal(err)
	}
	layout := filepath.Join(dir, "layout")
	if err := fixtures.WriteLayout(layout, "app", image); err != nil {
		t.Fatal(err)
	}

	cert, key := selfSigned(t)
	writeAll(t, dir, map[string]string{
		"server.crt": cert, "server.key": key,
		"htpasswd": user + ":$2y$05$abcdefghijklmnopqrstuu3rXbQImEV21KGaLZhQJS/eo9iYezybS\n", // bcrypt of password
	})
	open := serveRegistry(t, dir, "")
	tool(t, dir, "skopeo", "copy", "--dest-tls-verify=false", "oci:"+layout+":app", "docker://"+open+"/team/app:1")
	private := serveRegistry(t, dir, fmt.Sprintf("http: {addr: %%q, tls: {certificate: %[1]s/server.crt, key: %[1]s/server.key}}\nauth: {htpasswd: {realm: test, path: %[1]s/htpasswd}}\n", dir))
	mirror := newDying(t, open, 3<<20)

	n := bareNode(t, t.TempDir())
	t.Cleanup(n.clear)
	n.image = private + "/team/app:1"
	config := fmt.Sprintf("[cgroup]\nparent = \"/%s\"\n[registries]\ncerts_dirs = [%q]\n", n.parent, filepath.Join(dir, "certs.d"))
	configure := func(more string) {
		t.Helper()
		writeAll(t, n.dir, map[string]string{"config.toml": config + more})
	}
	configure("")
	fails := func(r result, words ...string) {
		t.Helper()
		for _, w := range words {
			if r.code == 0 || !strings.Contains(r.stderr, w) {
				t.Errorf("exit status %d: %s want an error with %q", r.code, r.stderr, w)
			}
		}
		if strings.Contains(r.stderr, password) {
			t.Errorf("the password is shown: %s", r.stderr)
		}
	}

	fails(n.berth("pull", "-q", n.image), "certificate")
	hosts := "certs.d/" + strings.Replace(private, ":", "_", 1) + "_/"
	writeAll(t, dir, map[string]string{hosts + "ca.crt": cert})
	fails(n.berth("pull", "-q", n.image), "401 Unauthorized")
	fails(n.with("wrong-"+password, "login", "-u", user, "--password-stdin", private), "does not accept")
	fails(n.berth("pull", "-q", "--creds", user+":wrong-"+password, n.image), "401 Unauthorized")
	if r := n.with(password+"\n", "login", "-u", user, "--password-stdin", private); r.code != 0 || !strings.Contains(r.stdout, "Login Succeeded") {
		t.Fatalf("login: %+v", r)
	}

	// The mirror has the content, and dies after three megabytes of it.
	writeAll(t, dir, map[string]string{hosts + "hosts.toml": fmt.Sprintf("server = \"https://%s\"\nca = \"ca.crt\"\n[host.\"http://%s\"]\ncapabilities = [\"pull\"]\n", private, mirror.address)})
	n.must("pull", "-q", n.image)
	if mirror.served.Load() < 3<<20 {
		t.Errorf("the mirror served %d bytes only, and did not die", mirror.served.Load())
	}
	if got := n.sh("wc -c </big"); strings.TrimSpace(got) != strconv.Itoa(len(content)) {
		t.Errorf("/big has %s bytes", got)
	}
	// Now that it is dead, everything comes from the server.
	n.must("rmi", n.image)
	n.must("pull", "-q", n.image)

	configure(fmt.Sprintf("block = [%q]\n", private+"/team"))
	fails(n.berth("pull", "-q", n.image), "is blocked", n.configPath())
	n.sh("true") // what is there may be run
	configure("unqualified = \"refuse\"\n")
	fails(n.berth("pull", "-q", "debian"), "names no registry", "docker.io/library/debian:latest")
	configure(fmt.Sprintf("unqualified = [%q]\n", private))
	n.must("pull", "-q", "team/app:1")
	if got := n.must("run", "--rm", "team/app:1", "sh", "-c", "echo found"); got != "found" {
		t.Errorf("got %q", got)
	}

	n.must("logout", private)
	fails(n.berth("pull", "-q", n.image), "401 Unauthorized")
	n.must("pull", "-q", "--creds", user+":"+password, n.image)
	writeAll(t, dir, map[string]string{"other.json": `{"auths": {"` + private + `/team": {"auth": "dXNlcjpiZXJ0aC1wYXNz"}}}`})
	n.must("pull", "-q", "--authfile", filepath.Join(dir, "other.json"), n.image)

	writeAll(t, dir, map[string]string{hosts + "hosts.toml": "skip_verfy = true\n"})
	fails(n.berth("pull", "-q", "--creds", user+":"+password, n.image), "hosts.toml", "skip_verfy", "line 1")
}

// TestTLSVerify moves an image through a registry whose certificate nobody knows, and
// one whose interface is not where it usually is.
func TestTLSVerify(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	dir := t.TempDir()
	cert, key := selfSigned(t)
	writeAll(t, dir, map[string]string{"server.crt": cert, "server.key": key})
	registry := serveRegistry(t, dir, fmt.Sprintf("http: {addr: %%q, tls: {certificate: %[1]s/server.crt, key: %[1]s/server.key}}\n", dir))
	reference := registry + "/team/app:1"
	writeAll(t, n.dir, map[string]string{
		"config.toml": fmt.Sprintf("[cgroup]\nparent = \"/%s\"\n[registries]\ncerts_dirs = [%q]\n", n.parent, filepath.Join(dir, "certs.d")),
	})
	n.restart()
	refused := func(args ...string) {
		t.Helper()
		if r := n.berth(args...); r.code != 125 || !strings.Contains(r.stderr, "certificate") {
			t.Errorf("berth %q: %+v", args, r)
		}
	}
	layout := filepath.Join(dir, "layout")
	if err := fixtures.WriteLayout(layout, "app", busybox(t)); err != nil {
		t.Fatal(err)
	}
	from := "oci:" + layout + ":app"
	refused("copy", "-q", from, reference)
	n.must("copy", "-q", "--tls-verify=false", from, reference)
	refused("pull", "-q", reference)
	refused("pull", "-q", "--tls-verify", reference)
	refused("run", "--rm", reference, "true")
	if got := n.must("run", "--rm", "-q", "--tls-verify=false", reference, "echo", "there"); got != "there" {
		t.Errorf("run: %q", got)
	}
	n.must("rmi", reference)
	n.must("pull", "-q", "--tls-verify=false", reference)
	refused("push", "-q", reference, registry+"/team/other:1")
	n.must("push", "-q", "--tls-verify=false", reference, registry+"/team/other:1")

	login := []string{"login", "-u", "somebody", "-p", "anything", "--authfile", filepath.Join(dir, "auth.json"), registry}
	refused(login...)
	n.must(append([]string{login[0], "--tls-verify=false"}, login[1:]...)...)

	plain := serveRegistry(t, dir, "http: {addr: %q, prefix: /mirrors/}\n")
	writeAll(t, filepath.Join(dir, "certs.d"), map[string]string{
		"prefixed.example/hosts.toml": fmt.Sprintf("server = \"http://%s/mirrors/v2\"\noverride_path = true\n", plain),
	})
	n.must("push", "-q", reference, "prefixed.example/team/app:2")
	n.must("pull", "-q", "prefixed.example/team/app:2")
	if r := n.berth("pull", "-q", "--tls-verify=true", "prefixed.example/team/app:2"); r.code != 125 || !strings.Contains(r.stderr, "certificates are to be verified (--tls-verify)") {
		t.Errorf("plain HTTP: %+v", r)
	}
	n.must("rmi", reference, "prefixed.example/team/app:2")
}
