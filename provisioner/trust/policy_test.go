package trust_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/provisioner/trust"
)

const key = `"keyData":"QUJD"`

func TestParse(t *testing.T) {
	signed := func(more string) string { return `{"default":[{"type":"sigstoreSigned",` + more + `}]}` }
	identity := func(s string) string { return signed(key + `,"signedIdentity":` + s) }
	scoped := func(transport, scope string) string {
		return `{"default":[{"type":"reject"}],"transports":{"` + transport + `":{"` + scope + `":[{"type":"reject"}]}}}`
	}
	for _, c := range []struct{ name, policy, want string }{
		{"accept", `{"default":[{"type":"insecureAcceptAnything"}]}`, ""},
		{"scopes", scoped("docker", "registry.example:5000/ns/app:1"), ""},
		{"wildcard", scoped("docker", "*.example.com"), ""},
		{"default of a transport", scoped("oci-archive", ""), ""},
		{"path", scoped("oci", "/srv/images:tag"), ""},
		{"a transport of other tools", scoped("containers-storage", "[overlay@/a]b"), ""},
		{"keyPath", signed(`"keyPath":"/a"`), ""},
		{"keyPaths", signed(`"keyPaths":["/a","/b"]`), ""},
		{"keyDatas", signed(`"keyDatas":["QUJD"]`), ""},
		{"matchExact", identity(`{"type":"matchExact"}`), ""},
		{"exactReference", identity(`{"type":"exactReference","dockerReference":"busybox:1"}`), ""},
		{"exactRepository", identity(`{"type":"exactRepository","dockerRepository":"r.example/a"}`), ""},
		{"remapIdentity", identity(`{"type":"remapIdentity","prefix":"m.example:5000/x","signedPrefix":"v.example"}`), ""},
		{"GPG", `{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/a"}]}`, ""},

		{"nothing", ``, "not JSON"},
		{"not JSON", `{"default":`, "not JSON"},
		{"two documents", `{"default":[{"type":"reject"}]}{}`, "not JSON"},
		{"comment", `{"default":[{"type":"reject"}] /* x */}`, "not JSON"},
		{"array", `[]`, "not an object"},
		{"no default", `{"transports":{}}`, "default: the key is missing"},
		{"no requirement", `{"default":[]}`, "default: it is empty"},
		{"null", `{"default":null}`, "default: it is not an array"},
		{"unknown key", `{"default":[{"type":"reject"}],"defaults":[]}`, "defaults: there is no such key"},
		{"another case", `{"Default":[{"type":"reject"}]}`, "Default: there is no such key"},
		{"twice", `{"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]}`, "default: the key is there twice"},
		{"twice, escaped", `{"default":[{"type":"reject","\u0074ype":"insecureAcceptAnything"}]}`, "default[0].type: the key is there twice"},
		{"unknown type", `{"default":[{"type":"accept"}]}`, `default[0].type: there is no requirement "accept"`},
		{"no type", `{"default":[{}]}`, "default[0].type: the key is missing"},
		{"key of another type", `{"default":[{"type":"reject","keyPath":"/a"}]}`, "default[0].keyPath: there is no such key"},
		{"in a scope", `{"default":[{"type":"reject"}],"transports":{"docker":{"a.example/b":[{"type":"x"}]}}}`, `transports.docker["a.example/b"][0].type: there is no requirement "x"`},
		{"in another tool's transport", `{"default":[{"type":"reject"}],"transports":{"dir":{"/a":[{"type":"x"}]}}}`, `there is no requirement "x"`},
		{"odd wildcard", scoped("docker", "example*.com"), "a wildcard is possible"},
		{"with scheme", scoped("docker", "docker://a.example"), "it is not HOST"},
		{"relative path", scoped("oci", "srv"), "not an absolute path"},
		{"unclean path", scoped("oci-archive", "/srv//x"), "not an absolute path"},
		{"root", scoped("oci", "/"), `the scope is ""`},
		{"scope of docker-archive", scoped("docker-archive", "/a"), `has the scope "" only`},
		{"log", signed(key + `,"rekorPublicKeyPath":"/a"`), ""},
		{"logs", signed(key + `,"rekorPublicKeyDatas":["QUJD","QUJD"]`), ""},
		{"fulcio", signed(`"fulcio":{"caPath":"/a","oidcIssuer":"https://i","subjectEmail":"e"},"rekorPublicKeyPaths":["/a"]`), ""},
		{"pki", signed(`"pki":{"caRootsPath":"/a","caIntermediatesData":"QUJD","subjectEmail":"e","subjectHostname":"h"}`), ""},
		{"fulcio without log", signed(`"fulcio":{"caPath":"/a","oidcIssuer":"https://i","subjectEmail":"e"}`), "default[0].fulcio: one of [rekorPublicKeyPath"},
		{"fulcio and key", signed(key + `,"fulcio":{}`), "default[0].fulcio: it is there beside keyData"},
		{"fulcio without authority", signed(`"fulcio":{"oidcIssuer":"https://i","subjectEmail":"e"},"rekorPublicKeyPath":"/a"`), "default[0].fulcio: one of [caPath caData] is missing"},
		{"fulcio without issuer", signed(`"fulcio":{"caPath":"/a","subjectEmail":"e"},"rekorPublicKeyPath":"/a"`), "default[0].fulcio.oidcIssuer: the key is missing"},
		{"fulcio without signer", signed(`"fulcio":{"caPath":"/a","oidcIssuer":"https://i"},"rekorPublicKeyPath":"/a"`), "default[0].fulcio.subjectEmail: the key is missing"},
		{"fulcio with an empty signer", signed(`"fulcio":{"caPath":"/a","oidcIssuer":"https://i","subjectEmail":""},"rekorPublicKeyPath":"/a"`), "default[0].fulcio.subjectEmail: it is empty"},
		{"fulcio with more", signed(`"fulcio":{"caPath":"/a","oidcIssuer":"https://i","subjectEmail":"e","subjectURI":"u"},"rekorPublicKeyPath":"/a"`), "default[0].fulcio.subjectURI: there is no such key"},
		{"fulcio with two authorities", signed(`"fulcio":{"caPath":"/a","caData":"QUJD","oidcIssuer":"https://i","subjectEmail":"e"},"rekorPublicKeyPath":"/a"`), "default[0].fulcio.caData: it is there beside caPath"},
		{"fulcio is a string", signed(`"fulcio":"x","rekorPublicKeyPath":"/a"`), "default[0].fulcio: it is not an object"},
		{"two logs", signed(key + `,"rekorPublicKeyPath":"/a","rekorPublicKeyData":"QUJD"`), "default[0].rekorPublicKeyData: it is there beside rekorPublicKeyPath"},
		{"no logs", signed(key + `,"rekorPublicKeyPaths":[]`), "default[0].rekorPublicKeyPaths: it is empty"},
		{"pki and log", signed(`"pki":{"caRootsPath":"/a","subjectEmail":"e"},"rekorPublicKeyPath":"/a"`), "default[0].rekorPublicKeyPath: it is not possible beside pki"},
		{"pki for nobody", signed(`"pki":{"caRootsPath":"/a"}`), "default[0].pki: one of [subjectEmail subjectHostname] is missing"},
		{"pki without roots", signed(`"pki":{"subjectEmail":"e"}`), "default[0].pki: one of [caRootsPath caRootsData] is missing"},
		{"pki with two intermediates", signed(`"pki":{"caRootsPath":"/a","caIntermediatesPath":"/a","caIntermediatesData":"QUJD","subjectEmail":"e"}`), "it is there beside caIntermediatesPath"},
		{"no key", signed(`"signedIdentity":{"type":"matchExact"}`), "one of [keyPath"},
		{"two keys", signed(key + `,"keyPath":"/a"`), "one of them is possible"},
		{"relative key", signed(`"keyPath":"a"`), `default[0].keyPath: "a" is not an absolute path`},
		{"empty key", signed(`"keyPath":""`), "default[0].keyPath: it is empty"},
		{"no keys", signed(`"keyPaths":[]`), "default[0].keyPaths: it is empty"},
		{"number for a key", signed(`"keyData":1`), "default[0].keyData: it is not a string"},
		{"no base64", signed(`"keyData":"-"`), "default[0].keyData: it is not base64"},
		{"unknown identity", identity(`{"type":"any"}`), `default[0].signedIdentity.type: there is no identity "any"`},
		{"identity with more", identity(`{"type":"matchExact","prefix":"a"}`), "default[0].signedIdentity.prefix: there is no such key"},
		{"reference without tag", identity(`{"type":"exactReference","dockerReference":"busybox"}`), "neither tag nor digest"},
		{"repository with tag", identity(`{"type":"exactRepository","dockerRepository":"busybox:1"}`), "is not a repository"},
		{"repository with capitals", identity(`{"type":"exactRepository","dockerRepository":"a.example/B"}`), "is not the name of an image"},
		{"prefix with tag", identity(`{"type":"remapIdentity","prefix":"a.example/b:1","signedPrefix":"v.example"}`), "default[0].signedIdentity.prefix"},
		{"no signedPrefix", identity(`{"type":"remapIdentity","prefix":"a.example"}`), "default[0].signedIdentity.signedPrefix: the key is missing"},
		{"GPG with another type of key", `{"default":[{"type":"signedBy","keyType":"X509","keyPath":"/a"}]}`, `default[0].keyType: there is no "X509"`},
		{"GPG with unknown key", `{"default":[{"type":"signedBy","keyType":"GPGKeys","keyFile":"/a"}]}`, "default[0].keyFile: there is no such key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := trust.Parse([]byte(c.policy))
			switch {
			case c.want == "" && err != nil:
				t.Errorf("got %v", err)
			case c.want != "" && (!errors.Is(err, containerizer.ErrInvalid) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestScopes asks which scope counts, by rejecting in it alone.
func TestScopes(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	hex := strings.Repeat("a", 64)
	for _, c := range []struct {
		transport, name string
		scopes          []string // most specific first
	}{
		{"docker", "docker.io/library/busybox:latest", []string{"docker.io/library/busybox:latest", "docker.io/library/busybox", "docker.io/library", "docker.io", "*.io", ""}},
		{"docker", "a.b.example:5000/n/x@sha256:" + hex, []string{"a.b.example:5000/n/x@sha256:" + hex, "a.b.example:5000/n/x", "a.b.example:5000/n", "a.b.example:5000", "*.b.example", "*.example", ""}},
		{"docker", "localhost/x:1", []string{"localhost/x:1", "localhost/x", "localhost", ""}},
		{"oci", "oci:" + dir + "/a/b:v1", []string{dir + "/a/b:v1", dir + "/a/b", dir + "/a", dir, ""}},
		{"oci", "oci:" + dir + "/link", []string{dir, ""}},
		{"oci-archive", "oci-archive:" + dir + "/a.tar:@sha256:" + hex, []string{dir + "/a.tar", dir, ""}},
		{"oci-archive", "oci-archive::@sha256:" + hex, []string{""}},
		{"docker-archive", "docker-archive:/a/b.tar:x", []string{""}},
	} {
		for n, scope := range c.scopes {
			rules := []string{`"` + scope + `":[{"type":"reject"}]`}
			for _, less := range c.scopes[n+1:] {
				rules = append(rules, `"`+less+`":[{"type":"insecureAcceptAnything"}]`)
			}
			unrelated := map[string]string{"docker": "registry.invalid", "oci": "/nonexistent", "oci-archive": "/nonexistent"}[c.transport]
			check := func(rules []string, reject bool) {
				t.Helper()
				if unrelated != "" {
					verdict := map[bool]string{true: "insecureAcceptAnything", false: "reject"}[reject]
					rules = append(rules, `"`+unrelated+`":[{"type":"`+verdict+`"}]`)
				}
				policy := file(t, "policy.json", []byte(`{"default":[{"type":"insecureAcceptAnything"}],"transports":{"`+c.transport+`":{`+strings.Join(rules, ",")+`}}}`))
				err := newRegistry().verify(t, policy, c.name)
				if reject != errors.Is(err, containerizer.ErrUntrusted) || !reject && err != nil {
					t.Errorf("%s, scope %q, rules %q: %v", c.name, scope, rules, err)
				}
			}
			check(rules, true)
			if n > 0 { // a more specific scope counts instead
				check(append([]string{`"` + c.scopes[n-1] + `":[{"type":"insecureAcceptAnything"}]`}, rules...), false)
			}
		}
	}
}

// TestNotThese has scopes that look like others.
func TestNotThese(t *testing.T) {
	for _, c := range []struct{ name, scope string }{
		{"docker.io/library/busybox:latest", "docker.io/library/busy"},
		{"docker.io/library/busybox:latest", "library/busybox"},
		{"docker.io/library/busybox:latest", "busybox"},
		{"docker.io/library/busybox:latest", "docker.io/library/busybox:late"},
		{"example.com/x:1", "*.example.com"},
		{"badexample.com/x:1", "*.example.com"},
		{"example.com:5000/x:1", "example.com"},
		{"example.com/x:1", "example.com:443"},
	} {
		policy := file(t, "policy.json", []byte(`{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"`+c.scope+`":[{"type":"reject"}]}}}`))
		if err := newRegistry().verify(t, policy, c.name); err != nil {
			t.Errorf("%s in scope %q: %v", c.name, c.scope, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	const policy = `{"default":[{"type":"reject"}],"transports":{"docker":{"":[{"type":"insecureAcceptAnything"}]}}}`
	path := file(t, "policy.json", []byte(policy))
	for name, want := range map[string]bool{image: true, "oci:/srv/x": false, "": false} {
		if err := newRegistry().verify(t, path, name); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestAllMustHold combines requirements.
func TestAllMustHold(t *testing.T) {
	r, k := newRegistry(), newKey(t)
	r.sign(t, k, imaged, repo)
	path := file(t, "k.pub", pemOf(t, k.Public()))
	wrong := file(t, "wrong.pub", pemOf(t, newKey(t).Public()))
	signed := func(path string) string {
		return `{"type":"sigstoreSigned","keyPath":"` + path + `"` + anyTag + `}`
	}
	const accept, reject = `{"type":"insecureAcceptAnything"}`, `{"type":"reject"}`
	for _, c := range []struct {
		all  []string
		want error
	}{
		{[]string{accept}, nil},
		{[]string{reject}, containerizer.ErrUntrusted},
		{[]string{accept, reject}, containerizer.ErrUntrusted},
		{[]string{signed(path)}, nil},
		{[]string{accept, signed(path)}, nil},
		{[]string{signed(path), reject}, containerizer.ErrUntrusted},
		{[]string{signed(path), signed(wrong)}, containerizer.ErrUntrusted},
		{[]string{signed(path), signed(path)}, nil},
		{[]string{accept, signed(wrong)}, containerizer.ErrUntrusted},
		{[]string{accept, `{"type":"signedBy","keyType":"GPGKeys","keyPath":"/a"}`}, containerizer.ErrUnsupported},
	} {
		policy := file(t, "policy.json", []byte(`{"default":[`+strings.Join(c.all, ",")+`]}`))
		if err := r.verify(t, policy, image, imaged); !errors.Is(err, c.want) {
			t.Errorf("%q: got %v, want %v", c.all, err, c.want)
		}
	}
}

// TestEvidence is what a judgement rests on.
func TestEvidence(t *testing.T) {
	r, k := newRegistry(), newKey(t)
	r.sign(t, k, imaged, repo)
	content := pemOf(t, k.Public())
	path := file(t, "k.pub", content)
	raw := []byte(`{"default":[{"type":"sigstoreSigned","keyPaths":["` + path + `"]` + anyTag + `}]}`)
	policy := file(t, "policy.json", raw)
	got, err := trust.Verifier{}.Verify(t.Context(), policy, image, []digest.Digest{imaged}, r.connect)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]digest.Digest{policy: digest.FromBytes(raw), path: digest.FromBytes(content)}, got); diff != "" {
		t.Error(diff)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := r.verify(t, policy, image, imaged); !errors.Is(err, containerizer.ErrFailedPrecondition) || !strings.Contains(err.Error(), "default[0].keyPaths") {
		t.Errorf("without the key: %v", err)
	}
	if err := r.verify(t, filepath.Join(t.TempDir(), "none"), image, imaged); !errors.Is(err, containerizer.ErrFailedPrecondition) {
		t.Errorf("without the policy: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"default":[{"type":"reject"}]}`,
		`{"default":[{"type":"sigstoreSigned",` + key + `,"signedIdentity":{"type":"remapIdentity","prefix":"a.example","signedPrefix":"b"}}],"transports":{"docker":{"a.example/b":[{"type":"insecureAcceptAnything"}]},"oci":{"/a":[{"type":"signedBy","keyType":"GPGKeys","keyData":"QQ=="}]}}}`,
		`{"default":[{"type":"reject","type":"x"}]}`, `[`, `{"a":{"b":[1,null,"\ud800"]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := trust.Parse(raw)
		if (p == nil) != (err != nil) || err != nil && !errors.Is(err, containerizer.ErrInvalid) {
			t.Errorf("%v, %v", p, err)
		}
	})
}
