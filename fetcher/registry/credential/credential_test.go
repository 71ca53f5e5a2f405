package credential_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/berth-dev/berth/containerizer"
	"github.com/berth-dev/berth/fetcher/registry/credential"
)

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// helper puts a credential helper into PATH.
func helper(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+script), 0o700); err != nil { //nolint:gosec // to be executed
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestFind(t *testing.T) {
	helper(t, "here", `read server; case "$1 $server" in
"get helped.example") echo '{"Username":"h","Secret":"hp"}';;
"get token.example") echo '{"Username":"<token>","Secret":"it"}';;
"get https://index.docker.io/v1/") echo '{"Username":"hub","Secret":"hp"}';;
"get broken.example") echo "boom"; exit 1;;
*) echo "credentials not found in native keychain"; exit 1;;
esac`)
	docker := file(t, "config.json", fmt.Sprintf(`{
"auths": {
 "plain.example": {"auth": %q},
 "port.example:5000": {"auth": %q},
 "https://old.example/v1/": {"auth": %q},
 "space.example": {"auth": %q}, "space.example/team": {"auth": %q}, "space.example/team/app": {"auth": %q},
 "identity.example": {"identitytoken": "it"},
 "empty.example": {}
},
"credHelpers": {"helped.example": "here", "token.example": "here", "broken.example": "here", "missing.example": "not-there", "evil.example": "../x"},
"somethingOfALaterDocker": true}`, b64("p:1"), b64("p:2"), b64("p:3"), b64("s:1"), b64("s:2"), b64("s:3")))
	podman := file(t, "auth.json", fmt.Sprintf(`{"auths": {"plain.example": {"auth": %q}, "podman.example": {"auth": %q}, "docker.io": {"auth": %q}}}`, b64("x:x"), b64("q:1"), b64("d:1")))
	f := credential.Files{Paths: []string{"/nonexistent/config.json", docker, podman}}
	for in, want := range map[string]authn.AuthConfig{
		"plain.example/a":                {Username: "p", Password: "1"},
		"PLAIN.example/a":                {Username: "p", Password: "1"},
		"port.example:5000/a":            {Username: "p", Password: "2"},
		"port.example/a":                 {},
		"old.example/a":                  {Username: "p", Password: "3"},
		"space.example/other":            {Username: "s", Password: "1"},
		"space.example/team/x":           {Username: "s", Password: "2"},
		"space.example/team/app":         {Username: "s", Password: "3"},
		"space.example/team/app/x":       {Username: "s", Password: "3"},
		"space.example/teamwork":         {Username: "s", Password: "1"},
		"identity.example/a":             {IdentityToken: "it"},
		"helped.example/a":               {Username: "h", Password: "hp"},
		"token.example/a":                {IdentityToken: "it"},
		"podman.example/a":               {Username: "q", Password: "1"},
		"docker.io/library/a":            {Username: "d", Password: "1"},
		"registry-1.docker.io/library/a": {Username: "d", Password: "1"},
		"empty.example/a":                {},
		"unknown.example/a":              {},
	} {
		registry, repository, _ := strings.Cut(in, "/")
		got, trouble, err := f.Find(t.Context(), registry, repository)
		if err != nil || trouble != nil || got != want {
			t.Errorf("%s: %+v, %v, %v; want %+v", in, got, trouble, err, want)
		}
	}
	for registry, want := range map[string]string{"broken.example": "boom", "missing.example": "not-there", "evil.example": "../x"} {
		got, trouble, err := f.Find(t.Context(), registry, "a")
		if err != nil || got != (authn.AuthConfig{}) || trouble == nil || !strings.Contains(trouble.Error(), want) || !strings.Contains(trouble.Error(), docker) {
			t.Errorf("%s: %+v, trouble %v, %v", registry, got, trouble, err)
		}
	}

	store := credential.Files{Paths: []string{file(t, "config.json", fmt.Sprintf(`{"credsStore": "here", "auths": {"plain.example": {"auth": %q}, "helped.example": {}}}`, b64("p:1")))}}
	for registry, want := range map[string]string{"helped.example": "h", "docker.io": "hub", "plain.example": "p", "unknown.example": ""} {
		if got, trouble, err := store.Find(t.Context(), registry, "a"); err != nil || trouble != nil || got.Username != want {
			t.Errorf("store, %s: user %q, %v, %v", registry, got.Username, trouble, err)
		}
	}
}

func TestFindBrokenFiles(t *testing.T) {
	const secret = "s3cr3t"
	for content, class := range map[string]error{
		"{": containerizer.ErrInvalid,
		`{"auths": {"a": {"auth": "!` + secret + `"}}}`:     containerizer.ErrInvalid,
		`{"auths": ["` + secret + `"]}`:                     containerizer.ErrInvalid,
		`{"auths": {"a": {"auth": "` + b64(secret) + `"}}}`: containerizer.ErrInvalid,
	} {
		path := file(t, "config.json", content)
		_, _, err := credential.Files{Paths: []string{path}}.Find(t.Context(), "a", "b")
		if !errors.Is(err, class) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", content, err)
		}
	}
	if _, _, err := (credential.Files{Paths: []string{"/nonexistent"}, Required: true}).Find(t.Context(), "a", "b"); !errors.Is(err, containerizer.ErrNotFound) {
		t.Errorf("a missing file that was asked for: %v", err)
	}
	if _, _, err := (credential.Files{Paths: []string{t.TempDir()}}).Find(t.Context(), "a", "b"); !errors.Is(err, containerizer.ErrInvalid) {
		t.Errorf("a directory: %v", err)
	}
}

func TestHelperPrintsTooMuch(t *testing.T) {
	helper(t, "endless", "head -c 3000000 /dev/zero")
	f := credential.Files{Paths: []string{file(t, "config.json", `{"credsStore": "endless"}`)}}
	if _, trouble, err := f.Find(t.Context(), "a.example", "b"); err != nil || trouble == nil {
		t.Errorf("%v, %v", trouble, err)
	}
}

func TestDefaultPaths(t *testing.T) {
	for _, name := range []string{"REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", "/h")
	own := fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid())
	check := func(want ...string) {
		t.Helper()
		if got := credential.DefaultPaths(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	check("/h/.docker/config.json", own, "/h/.config/containers/auth.json")
	t.Setenv("DOCKER_CONFIG", "/d")
	t.Setenv("XDG_RUNTIME_DIR", "/r")
	t.Setenv("XDG_CONFIG_HOME", "/c")
	check("/d/config.json", "/r/containers/auth.json", "/c/containers/auth.json")
	t.Setenv("REGISTRY_AUTH_FILE", "/a.json")
	check("/a.json")
}

func TestStoreAndErase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "config.json")
	for _, registry := range []string{"docker.io", "reg.example:5000"} {
		where, err := credential.Store(path, registry, "user", "pass:word")
		if err != nil || where != path {
			t.Fatalf("%q, %v", where, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	raw, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(raw), "https://index.docker.io/v1/") || strings.Contains(string(raw), "pass:word") {
		t.Errorf("%s, %v", raw, err)
	}
	f := credential.Files{Paths: []string{path}}
	for _, registry := range []string{"docker.io", "reg.example:5000"} {
		if got, _, err := f.Find(t.Context(), registry, "a/b"); err != nil || got.Username != "user" || got.Password != "pass:word" {
			t.Errorf("%s: %+v, %v", registry, got, err)
		}
		for _, want := range []bool{true, false} {
			if found, err := credential.Erase(t.Context(), path, registry); err != nil || found != want {
				t.Errorf("%s: found %v, %v; want %v", registry, found, err, want)
			}
		}
		if got, _, err := f.Find(t.Context(), registry, "a/b"); err != nil || got != (authn.AuthConfig{}) {
			t.Errorf("%s after logout: %+v, %v", registry, got, err)
		}
	}
}

func TestStoreWithHelper(t *testing.T) {
	kept := filepath.Join(t.TempDir(), "kept")
	helper(t, "keeper", fmt.Sprintf(`case "$1" in store) cat >%[1]q;; get) cat %[1]q;; erase) rm %[1]q;; esac`, kept))
	path := file(t, "config.json", `{"credsStore": "keeper", "detachKeys": "ctrl-e"}`)
	where, err := credential.Store(path, "reg.example", "user", "s3cr3t")
	if err != nil || where != "docker-credential-keeper" {
		t.Fatalf("%q, %v", where, err)
	}
	raw, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(raw), "s3cr3t") || strings.Contains(string(raw), b64("user:s3cr3t")) || !strings.Contains(string(raw), "ctrl-e") {
		t.Errorf("%s, %v", raw, err)
	}
	if got, _, err := (credential.Files{Paths: []string{path}}).Find(t.Context(), "reg.example", "a"); err != nil || got.Password != "s3cr3t" {
		t.Errorf("%+v, %v", got, err)
	}
	if found, err := credential.Erase(t.Context(), path, "reg.example"); err != nil || !found {
		t.Errorf("found %v, %v", found, err)
	}
	if _, err := os.Stat(kept); err == nil {
		t.Error("the helper was not asked to forget")
	}
}

func TestForPull(t *testing.T) {
	a := func(server string) *containerizer.RegistryAuth {
		return &containerizer.RegistryAuth{Username: "u", Password: "p", ServerAddress: server}
	}
	for _, c := range []struct {
		auth           *containerizer.RegistryAuth
		registry, host string
		want           bool
	}{
		{nil, "r", "r", false},
		{a(""), "r", "r", true},
		{a(""), "docker.io", "registry-1.docker.io", true},
		{a("https://index.docker.io/v1/"), "docker.io", "registry-1.docker.io", true},
		{a(""), "r", "mirror", false},
		{a("mirror"), "r", "mirror", true},
		{a("mirror"), "r", "r", false},
		{a("https://r:5000/v2/"), "r:5000", "r:5000", true},
		{a("r"), "r:5000", "r:5000", false},
	} {
		if _, ok, err := credential.ForPull(c.auth, c.registry, c.host); ok != c.want || err != nil {
			t.Errorf("%v for %q at %q: %v, %v", c.auth != nil, c.registry, c.host, ok, err)
		}
	}
}

// TestHidden prints and encodes credentials in all ways that come to mind.
func TestHidden(t *testing.T) {
	a := containerizer.RegistryAuth{Username: "u", Password: "s3cr3t", Auth: "s3cr3t", IdentityToken: "s3cr3t", RegistryToken: "s3cr3t"}
	source := containerizer.ImageSource{Reference: "x", Auth: &a}
	for _, v := range []any{a, &a, source, &source, []containerizer.RegistryAuth{a}} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if s := fmt.Sprintf(format, v); strings.Contains(s, "s3cr3t") || strings.Contains(s, fmt.Sprintf("%x", "s3cr3t")) {
				t.Errorf("%s of %T tells it: %s", format, v, s)
			}
		}
	}
}
