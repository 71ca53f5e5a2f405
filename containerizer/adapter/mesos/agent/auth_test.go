package agent_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"testing"

	"github.com/berth-dev/berth/containerizer/adapter/mesos/agent"
)

func token(key, header, claims string) string {
	e := base64.RawURLEncoding
	signed := e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	return signed + "." + e.EncodeToString(mac.Sum(nil))
}

func basic(name, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+secret))
}

func TestAuthentication(t *testing.T) {
	t.Parallel()
	a, err := agent.NewAuthenticator([]byte(`{"credentials":[{"principal":"ops","secret":"s3cret"}]}`), []byte("key\n"))
	if err != nil {
		t.Fatal(err)
	}
	const jwt = `{"alg":"HS256","typ":"JWT"}`
	for name, c := range map[string]struct {
		authorization string
		want          int
	}{
		"nothing":               {"", 401},
		"basic":                 {basic("ops", "s3cret"), 200},
		"wrong secret":          {basic("ops", "s3cre"), 401},
		"empty secret":          {basic("ops", ""), 401},
		"nobody":                {basic("nobody", ""), 401},
		"token":                 {"Bearer " + token("key", jwt, `{"cid":"p","fid":"f","eid":"e"}`), 200},
		"wrong key":             {"Bearer " + token("other", jwt, `{"cid":"p"}`), 401},
		"no algorithm":          {"Bearer " + token("key", `{"alg":"none","typ":"JWT"}`, `{"cid":"p"}`), 401},
		"unsigned":              {"Bearer " + token("key", jwt, `{"cid":"p"}`)[:60], 401},
		"expired":               {"Bearer " + token("key", jwt, `{"cid":"p","exp":1}`), 401},
		"not yet":               {"Bearer " + token("key", jwt, `{"cid":"p","nbf":1e18}`), 401},
		"of nobody":             {"Bearer " + token("key", jwt, `{}`), 401},
		"impossible id":         {"Bearer " + token("key", jwt, `{"cid":"/"}`), 401},
		"no token":              {"Bearer ", 401},
		"something else":        {"Digest x", 401},
		"token of an empty key": {"Bearer " + token("", jwt, `{"cid":"p"}`), 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, agent.Options{Authenticator: a})
			r := f.do(t, headers("Authorization", c.authorization), health)
			if r.StatusCode != c.want {
				t.Errorf("%d %s, want %d", r.StatusCode, text(t, r), c.want)
			}
			if got := r.Header.Values("WWW-Authenticate"); r.StatusCode == http.StatusUnauthorized && len(got) != 2 {
				t.Errorf("challenges %q, want two", got)
			}
		})
	}
	for _, file := range []string{"", "[]", `{"credentials":[{"principal":"x"}]}`} {
		if _, err := agent.NewAuthenticator([]byte(file), nil); err == nil {
			t.Errorf("%q is taken", file)
		}
	}
}

func TestAuthorization(t *testing.T) {
	t.Parallel()
	a, err := agent.NewAuthenticator([]byte(`{"credentials":[{"principal":"ops","secret":"s"},{"principal":"dev","secret":"s"}]}`), []byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	acls, err := agent.NewACLs([]byte(`{"permissive":false,
		"launch_standalone_containers":[{"principals":{"values":["ops"]},"users":{"type":"ANY"}}],
		"launch_nested_containers_as_user":[{"principals":{"values":["dev"]},"users":{"values":["nobody"]}},{"principals":{"type":"ANY"},"users":{"type":"NONE"}}],
		"launch_nested_containers_under_parent_with_user":[{"principals":{"type":"ANY"},"users":{"type":"ANY"}}],
		"wait_nested_containers":[{"principals":{"type":"NONE"},"users":{"type":"ANY"}}],
		"view_standalone_containers":[{"principals":{"values":["ops"]},"users":{"type":"ANY"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	const nested = `{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":{"value":"c","parent":{"value":"p"}},"command":{"value":"true","user":"nobody"}}}`
	const nestedRoot = `{"type":"LAUNCH_NESTED_CONTAINER","launch_nested_container":{"container_id":{"value":"c","parent":{"value":"p"}},"command":{"value":"true","user":"root"}}}`
	const wait = `{"type":"WAIT_NESTED_CONTAINER","wait_nested_container":{"container_id":{"value":"c","parent":{"value":"p"}}}}`
	const list = `{"type":"GET_CONTAINERS","get_containers":{"show_standalone":true}}`
	const launch = `{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"new"},"command":{"value":"true"}}}`
	dev, ops := basic("dev", "s"), basic("ops", "s")
	mine := "Bearer " + token("key", `{"alg":"HS256","typ":"JWT"}`, `{"cid":"p"}`)
	others := "Bearer " + token("key", `{"alg":"HS256","typ":"JWT"}`, `{"cid":"q"}`)
	for name, c := range map[string]struct {
		who, call string
		want      int
		body      string
	}{
		"standalone":             {ops, launch, 200, ""},
		"standalone, not ops":    {dev, launch, 403, ""},
		"nested as nobody":       {dev, nested, 200, ""},
		"nested as root":         {dev, nestedRoot, 403, ""},
		"nested by ops":          {ops, nested, 403, ""},
		"waiting is for none":    {ops, wait, 403, ""},
		"no rule":                {ops, `{"type":"PRUNE_IMAGES"}`, 403, ""},
		"flags":                  {ops, `{"type":"GET_FLAGS"}`, 403, ""},
		"files":                  {ops, `{"type":"LIST_FILES","list_files":{"path":"/"}}`, 403, ""},
		"list is filtered":       {dev, list, 200, `{"type":"GET_CONTAINERS","get_containers":{}}`},
		"an executor's own":      {mine, nestedRoot, 200, ""},
		"another's":              {others, nested, 403, ""},
		"an executor alone":      {mine, launch, 403, ""},
		"an executor's own root": {mine, `{"type":"KILL_CONTAINER","kill_container":{"container_id":{"value":"p"}}}`, 403, ""},
		"an executor and flags":  {mine, `{"type":"GET_FLAGS"}`, 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, agent.Options{Authenticator: a, ACLs: acls})
			f.parent("p")
			r := f.do(t, headers("Authorization", c.who), c.call)
			body := text(t, r)
			if r.StatusCode != c.want || body != c.body {
				t.Errorf("%d %s, want %d %s", r.StatusCode, body, c.want, c.body)
			}
			if want := 1; c.want == http.StatusForbidden && len(f.engine.containers) != want {
				t.Error("something was launched")
			}
		})
	}
	for _, file := range []string{"", `{"launch_everything":[]}`, `{"permissive":1}`, `{"prune_images":[{"principals":{"type":"SOMEONE"},"x":{"type":"ANY"}}]}`, `{"prune_images":[{"principals":{"type":"ANY"}}]}`, `{"prune_images":[{"x":{"type":"ANY"},"y":{"type":"ANY"}}]}`} {
		if _, err := agent.NewACLs([]byte(file)); err == nil {
			t.Errorf("%q is taken", file)
		}
	}
}
